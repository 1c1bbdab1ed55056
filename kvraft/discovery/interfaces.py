"""What this room is given: somebody who asks the service, and somebody who knows names."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, final


class DiscoveryError(Exception):
    """The members cannot be found out. The text is one line with the remedy, but for the flag, which stands before."""


@final
class FullClusterError(DiscoveryError):
    """The cluster has as many members as it shall have, and this one is none of them."""

    def __init__(self, peer_urls: tuple[str, ...]) -> None:
        super().__init__("discovery: cluster is full")
        self.peer_urls = peer_urls
        """Of its members."""


@final
class RegisteredBeforeError(DiscoveryError):
    """A member with these peer URLs has taken its place already."""


@final
class UnreachableError(Exception):
    """The service did not answer, or not as one that is in order: asked again, it may. The text says what happened."""


@final
@dataclass(slots=True, frozen=True)
class Answer:
    """Of the service, to one request; its errors of 5xx are no answers."""

    status: int
    body: object
    """Of its JSON; None if it is none."""
    is_empty: bool
    """There is no body: an answer to a watch that was given up."""
    index: int
    """The header `X-Etcd-Index`; 0 if there is none."""


class Service(Protocol):
    """The keys of etcd's v2 API at the service. Each raises UnreachableError."""

    def get(self, path: str) -> Answer:
        """What is there, within a few seconds."""
        ...

    def create(self, path: str, value: str) -> Answer:
        """A key that is not there yet, within a few seconds."""
        ...

    def wait(self, path: str, index: int, *, recursive: bool) -> Answer:
        """The next change since an index, however long it takes."""
        ...


Pause = Callable[[float], None]
"""Waits for some seconds."""


@final
@dataclass(slots=True, frozen=True)
class Target:
    """Of one SRV record."""

    host: str
    """Without the dot at its end."""
    port: int


class Records(Protocol):
    """Who knows SRV records."""

    def targets(self, name: str) -> tuple[Target, ...]:
        """Of the records of a name, in no order; none if there are none.

        Raises:
            DiscoveryError: nobody knows whether there are any.
        """
        ...


Addresses = Callable[[str, int], frozenset[tuple[str, int]]]
"""Where a host and port lead to: addresses with their ports; none if nobody knows the name."""
