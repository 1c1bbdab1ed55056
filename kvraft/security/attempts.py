"""How often somebody may give a wrong password: a bound for each user and for each address, off unless it is set.

It bounds what is compared; what is being compared counts, too, so that many guesses at once are no way around it. Who
was found right before goes on, since nothing is compared for him: a stranger who names a user can hold up that user's
next first login, and no more.
"""

from typing import Final, final

SPAN_MS: Final = 60_000
_USER_BYTES: Final = 256
"""What of a name is kept: a stranger's may be a MiB long."""
KEPT_MAX: Final = 10_000
"""Users and addresses that are counted at once; the oldest is forgotten for a new one."""


@final
class Attempts:
    """Counts wrong passwords in spans of a minute."""

    def __init__(self, failures_max: int) -> None:
        self._failures_max = failures_max
        """Of a user, or an address, in a span; 0: any number."""
        self._counts: dict[tuple[str, bytes], tuple[int, int]] = {}
        """When the span of each ends, and how many failures it has had; in the order in which they began."""
        self._under_way: dict[tuple[str, bytes], int] = {}
        """Passwords of each that are being compared; as few as those altogether."""

    def is_over(self, user: bytes, address: str, now_ms: int) -> bool:
        """Whether one of the two has been wrong too often to be listened to now."""
        if not self._failures_max:
            return False
        return any(self._count(who, now_ms) >= self._failures_max for who in _both(user, address))

    def begin(self, user: bytes, address: str, now_ms: int) -> bool:
        """A password is to be compared; False if those being compared could use up what one of the two has left.

        Each True is followed by an `end`.
        """
        if not self._failures_max:
            return True
        both, under_way = _both(user, address), self._under_way
        if any(self._count(who, now_ms) + under_way.get(who, 0) >= self._failures_max for who in both):
            return False
        for who in both:
            under_way[who] = under_way.get(who, 0) + 1
        return True

    def end(self, user: bytes, address: str, now_ms: int, *, was_wrong: bool) -> None:
        """It was compared, or dropped."""
        if not self._failures_max:
            return
        for who in _both(user, address):
            left = self._under_way.pop(who) - 1
            if left:
                self._under_way[who] = left
        if was_wrong:
            self._failed(user, address, now_ms)

    def _failed(self, user: bytes, address: str, now_ms: int) -> None:
        for who in _both(user, address):
            count = self._count(who, now_ms)
            if count:
                self._counts[who] = self._counts[who][0], count + 1
                continue
            self._counts.pop(who, None)
            if len(self._counts) >= KEPT_MAX:
                del self._counts[next(iter(self._counts))]
            self._counts[who] = now_ms + SPAN_MS, 1

    def _count(self, who: tuple[str, bytes], now_ms: int) -> int:
        end_ms, count = self._counts.get(who, (0, 0))
        return count if now_ms < end_ms else 0


def _both(user: bytes, address: str) -> tuple[tuple[str, bytes], tuple[str, bytes]]:
    return ("user", user[:_USER_BYTES]), ("address", address.encode())
