"""The exit codes. Imports next to nothing: the server's help shows them too."""

import enum
from typing import Final, final


@final
class Exit(enum.IntEnum):
    """How a subcommand ends. 0 to 5 are etcdctl's for v2 (etcd v3.4.23: etcdctl/ctlv2/command/error.go)."""

    DONE = 0
    WRONG_ARGUMENTS = 1
    NO_SERVER = 2
    NOT_ALLOWED = 3
    REFUSED = 4
    NOT_WELL = 5
    UNKNOWN = 6
    INTERRUPTED = 130
    NOBODY_READS = 141
    TERMINATED = 143


MEANINGS: Final = {
    Exit.DONE: "It is done, and nothing is wrong.",
    Exit.WRONG_ARGUMENTS: "The arguments are wrong, or a file that they name cannot be used.",
    Exit.NO_SERVER: "No endpoint could be reached, TLS failed, or something else than etcd or kvraft answered.",
    Exit.NOT_ALLOWED: "The user is missing, unknown, or may not do that.",
    Exit.REFUSED: "The server refused, or the work failed.",
    Exit.NOT_WELL: "The work is done, and what it looked at is not well: a sick cluster, a damaged file, a difference.",
    Exit.UNKNOWN: "A change was sent and no answer came: look whether it was done before doing it again.",
    Exit.INTERRUPTED: "Ctrl-C.",
    Exit.NOBODY_READS: "Whoever reads the output stopped reading.",
    Exit.TERMINATED: "SIGTERM.",
}
"""As help and man page tell them."""


def short() -> str:
    """All of them in a line."""
    return ", ".join(f"{int(code)} {code.name.lower().replace('_', ' ')}" for code in Exit if code < Exit.INTERRUPTED)
