"""How many files this process may have open, and so how many clients it can serve."""

import resource
from typing import Final

RESERVED: Final = 256
"""Files that are no client's: environments, spools, peers and their connections, log, wheels being imported."""


def raise_soft_limit() -> int:
    """Raise the soft limit of open files to the hard one (setrlimit(2)), as Go does for etcd; what it is then."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard if hard != resource.RLIM_INFINITY else 1 << 30


def connections_within(files_max: int, wanted: int) -> int:
    """How many of the wanted connections fit: beyond, an accept would fail and the client hear nothing."""
    return max(1, min(wanted, files_max - RESERVED))
