"""Keeps a fact that is found again and again (a refused peer redials all day) from filling the log."""

from collections.abc import Callable
from typing import Final, final

_KEYS_MAX: Final = 256
"""Keys may come from strangers. Beyond this all are forgotten, and the worst that follows is a line too many."""
_AGAIN_AFTER_MS: Final = 60_000
"""A fact that still holds is worth a line a minute."""


@final
class Repeats:
    """What was last said about whom."""

    def __init__(self, monotonic_ms: Callable[[], int]) -> None:
        self._monotonic_ms = monotonic_ms
        self._said: dict[str, tuple[str, int]] = {}

    def is_news(self, key: str, fact: str) -> bool:
        """Whether `fact` differs from the last one about `key`, or that was a minute ago."""
        now = self._monotonic_ms()
        last = self._said.get(key)
        if last is not None and last[0] == fact and now - last[1] < _AGAIN_AFTER_MS:
            return False
        if len(self._said) >= _KEYS_MAX:
            self._said.clear()
        self._said[key] = (fact, now)
        return True

    def settle(self, key: str) -> None:
        """What was said about `key` no longer holds."""
        self._said.pop(key, None)
