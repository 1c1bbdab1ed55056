"""A token at a discovery service: registering with it, and waiting until all others have.

etcd's steps, and its words in the log: v3.4.23 etcdserver/api/v2discovery/discovery.go. Other than there, the members
are read anew after each change, so a registration that is deleted or written twice is none; and a watch whose place in
the history is gone goes on.
"""

from typing import Final, final

from kvraft import ids, logs
from kvraft.discovery import registry
from kvraft.discovery.interfaces import (
    DiscoveryError,
    FullClusterError,
    Pause,
    RegisteredBeforeError,
    Service,
    UnreachableError,
)
from kvraft.discovery.registry import Seats
from kvraft.settings import urls
from kvraft.settings.discovery_flags import Discovery

log = logs.get(__name__)

_DOUBLINGS_MAX: Final = 8
"""The pause before the n-th new attempt is 2 to the n seconds, and no more than 256."""
_SELF: Final = "found self from discovery server"
_PEER: Final = "found peer from discovery server"


@final
class Token:
    """One member's way to the others."""

    def __init__(self, wanted: Discovery, member_id: int, service: Service, pause: Pause) -> None:
        self._wanted: Final = wanted
        self._member: Final = ids.text(member_id)
        self._service: Final = service
        self._pause: Final = pause
        self._attempts = 0
        self._shown: Seats | None = None

    def join(self, value: str) -> tuple[str, ...]:
        """Take a place with this value, and wait for the others; what each has said.

        Raises:
            FullClusterError: there is no place any more.
            RegisteredBeforeError: it has one already.
            DiscoveryError: the token is none, or cannot be used.
        """
        self._refuse_full(self._read())  # Who has no place leaves nothing behind.
        self._register(value)
        return self.look()

    def look(self) -> tuple[str, ...]:
        """Wait until all places are taken, without taking one; what each has said.

        Raises:
            FullClusterError: the last one was taken by another.
            DiscoveryError: the token is none, or cannot be used.
        """
        while True:
            seats = self._read()
            self._refuse_full(seats)
            self._show(seats)
            if seats.is_complete:
                return tuple(seat.value for seat in seats.taken)
            self._await_change(seats.index + 1)

    def _refuse_full(self, seats: Seats) -> None:
        if seats.is_complete and not seats.has(self._member):
            values = ",".join(seat.value for seat in seats.taken)
            found = (part.partition("=")[2].strip() for part in values.split(","))
            raise FullClusterError(tuple(url for url in found if _is_url(url)))

    def _read(self) -> Seats:
        """However long the service is away."""
        while True:
            try:
                size = registry.read_size(self._service.get(self._wanted.token_path("_config", "size")))
                seats = registry.read_seats(self._service.get(self._wanted.token_path()), size)
            except UnreachableError as error:
                log.warning("failed to get from discovery server", url=self._wanted.url, error=error)
                self._back_off("cluster status check")
            else:
                self._attempts = 0
                return seats

    def _register(self, value: str) -> None:
        """Once: after an answer that was lost nobody knows whether it was taken, by this member or by its double."""
        key = self._wanted.token_path(self._member)
        try:
            answer = self._service.create(key, value)
        except UnreachableError as error:
            raise DiscoveryError(
                f"discovery: registering failed, and nobody knows how far it came: {error}: make a new token, or "
                f"delete {key} there if this member stands in it"
            ) from None
        code = registry.error_code(answer)
        if code == registry.NODE_EXISTS:
            raise RegisteredBeforeError("discovery: found duplicate id")
        if code:
            raise DiscoveryError(f"discovery: registering failed: {registry.error_text(answer)}: make a new token")
        try:  # It may be known elsewhere first: wait until it is where this member reads.
            self._service.wait(key, registry.created_index(answer), recursive=False)
        except UnreachableError as error:
            log.warning("failed to get from discovery server", url=self._wanted.url, error=error)

    def _await_change(self, index: int) -> None:
        try:
            answer = self._service.wait(self._wanted.token_path(), index, recursive=True)
        except UnreachableError as error:
            log.warning("error while waiting for peers", url=self._wanted.url, error=error)
            self._back_off("waiting for other nodes")
            return
        if answer.is_empty:  # the service gave up, as one does that stops, or a proxy in between
            self._back_off("waiting for other nodes")
            return
        code = registry.error_code(answer)
        if code not in {0, registry.EVENT_INDEX_CLEARED}:
            raise DiscoveryError(f"discovery: waiting for others failed: {registry.error_text(answer)}")

    def _back_off(self, step: str) -> None:
        self._attempts += 1
        seconds = 1 << min(self._attempts, _DOUBLINGS_MAX)
        log.info("retry connecting to discovery service", url=self._wanted.url, reason=step, backoff=f"{seconds}s")
        self._pause(seconds)

    def _show(self, seats: Seats) -> None:
        """What is new since the last time."""
        before = self._shown
        self._shown = seats
        for seat in seats.taken:
            if before is None or not before.has(seat.member):
                event = _SELF if seat.member == self._member else _PEER
                log.info(event, url=self._wanted.url, id=seat.member, value=seat.value)
        if seats.is_complete:
            log.info("found all needed peers from discovery server", url=self._wanted.url, found=len(seats.taken))
        elif before is None or before.taken != seats.taken:
            log.info(
                "found peers from discovery server; waiting for more",
                url=self._wanted.url,
                found=len(seats.taken),
                needed=seats.size - len(seats.taken),
            )


def _is_url(text: str) -> bool:
    """Whether a member can be there: whoever knows the token may register anything."""
    try:
        urls.parse(text)
    except ValueError:
        return False
    return True
