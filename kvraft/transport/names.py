"""Names to addresses, as every other program on the machine does it: `getaddrinfo`, which reads the hosts file first.

It blocks, and for minutes if a name server never answers. So each lookup has a thread of its own, at most one for a
name at a time: one that hangs holds up neither another name nor the end of the process.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, final
from urllib.parse import urlsplit

from kvraft.background import in_a_thread

Target = tuple[str, int]
"""Host and port."""


@final
@dataclass(slots=True, frozen=True)
class Address:
    """Where a connection can go."""

    family: int
    sockaddr: tuple[str, int] | tuple[str, int, int, int]


Found = list[Address] | OSError
"""What a lookup ends with."""


def target_of(url: str) -> Target:
    """`http://127.0.0.1:2380` as host and port.

    Raises:
        ValueError: not an http or https URL with host and port.
    """
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.port is None:
        raise ValueError(f"peer URL {url!r} is not of the form http://host:port")
    return parts.hostname, parts.port


def is_secure(url: str) -> bool:
    """Whether TLS is spoken there."""
    return url.startswith("https:")


def look_up(host: str, port: int) -> Found:
    """All addresses of a name, in the order in which the system prefers them. Blocks."""
    try:
        found = socket.getaddrinfo(host, port, socket.AF_UNSPEC, socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        return error if isinstance(error, OSError) else OSError(f"{host!r} cannot be a name: {error}")
    internet = {socket.AF_INET, socket.AF_INET6}
    return list(dict.fromkeys(Address(family, sockaddr) for family, _, _, _, sockaddr in found if family in internet))  # type: ignore[arg-type]  # the two families have these


@final
class Names:
    """Looks names up for the diallers, and knows which addresses worked."""

    _THREAD: Final = "name lookup"

    def __init__(self, blocking_look_up: Callable[[str, int], Found] = look_up) -> None:
        self._look_up = blocking_look_up
        self._looking: dict[Target, asyncio.Future[Found]] = {}
        self._worked: dict[Target, Address] = {}
        self._found: dict[Target, Address] = {}

    def begin(self, target: Target) -> asyncio.Future[Found]:
        """A fresh lookup, or the one that is under way; a number is its own answer. Never raises, whatever it finds."""
        looking = self._looking.get(target)
        if looking is not None:
            return looking
        future: asyncio.Future[Found] = asyncio.get_running_loop().create_future()
        if _is_number(target[0]):
            future.set_result(look_up(*target))
            return future
        self._looking[target] = future
        looking_up = in_a_thread(self._THREAD, lambda: self._look_up(*target))
        looking_up.add_done_callback(lambda looked: self._finish(target, future, looked))
        return future

    def worked(self, target: Target) -> Address | None:
        """The last address of this name that led to the peer; before any did, the first that was found."""
        return self._worked.get(target) or self._found.get(target)

    def remember(self, target: Target, address: Address) -> None:
        """This address led to the peer."""
        self._worked[target] = address

    def _finish(self, target: Target, future: asyncio.Future[Found], looked: asyncio.Future[Found]) -> None:
        del self._looking[target]
        error = looked.exception()
        found = looked.result() if error is None else OSError(f"the lookup of {target[0]} failed: {error!r}")
        if isinstance(found, list) and found:
            self._found[target] = found[0]
        if not future.done():
            future.set_result(found)


def _is_number(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
