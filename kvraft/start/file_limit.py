"""How many files this process may have open, and so how many clients it can serve."""

import resource
from dataclasses import dataclass
from typing import Final, final

OWN: Final = 100
"""Files that are nobody else's: 27 at rest, 6 for each other member, spools, wheels being imported, and connections
that are being refused. etcd's figure is 150 with its clients (embed/etcd.go, maxFDUsage)."""
_NEEDED: Final = 150
"""With fewer there is no room for clients worth the name, and etcd does not start either."""
_STRANGERS_SHARE: Final = 4
"""One of so many of the rest is for strangers on the peer port, where members that come have to get in."""


@final
@dataclass(slots=True, frozen=True)
class Shares:
    """Who may have how many of the files."""

    clients: int
    strangers: int
    """Connections to the peer port that have not greeted."""


def raise_soft_limit() -> int:
    """Raise the soft limit of open files to the hard one (setrlimit(2)), as Go does for etcd; what it is then."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard if hard != resource.RLIM_INFINITY else 1 << 30


def shares_of(files_max: int, clients: int, strangers: int) -> Shares | None:
    """What fits of what is wanted; None if it is too little to start with.

    Beyond it an accept would fail and the client hear nothing, or a file could not be opened and the member would end.
    """
    if files_max < _NEEDED:
        return None
    rest = files_max - OWN
    strangers = min(strangers, rest // _STRANGERS_SHARE)
    return Shares(min(clients, rest - strangers), strangers)


def refusal(files_max: int, wanted: int) -> str:
    """What an operator is told who gives fewer than a start needs."""
    return (
        f"only {files_max} files may be open: a member needs {_NEEDED}, and one for each client: raise the hard limit "
        f"(LimitNOFILE= of its unit, or ulimit -n), to {wanted} for all clients that it can serve"
    )
