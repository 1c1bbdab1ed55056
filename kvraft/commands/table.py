"""The subcommands by name. Imports next to nothing: the server looks here too."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, final


@final
@dataclass(slots=True, frozen=True)
class Subcommand:
    """A name on the command line."""

    name: str
    module: str
    """In this package; it has a `command`, which click runs."""
    summary: str
    """One line for `kvraft --help`."""


SUBCOMMANDS: Final = {
    entry.name: entry
    for entry in (
        Subcommand("status", "status", "Show how each member of a cluster is."),
        Subcommand("member", "member", "List, add, remove, move and replace members."),
        Subcommand("backup", "backup", "Fetch a copy of everything while the cluster runs."),
        Subcommand("verify", "verify", "Check every record of a backup or of a stopped member's data directory."),
        Subcommand("restore", "restore", "Write the data directories of new members that begin with a backup."),
        Subcommand("import", "import_", "Bring in keys, users and roles of an etcd, a kvraft, or a file."),
        Subcommand("export", "export", "Write keys, users and roles as JSON lines."),
        Subcommand("completion", "completion", "Print what makes a shell complete kvraft's command line."),
    )
}
"""In the order of the help."""

GLOBAL_OPTIONS: Final = ("--endpoints", "--cacert", "--cert", "--key", "--user", "--timeout", "--json")
"""Of every subcommand, before or after its name; `options` says what they do. No flag of the server has such a name."""
COMPLETING: Final = "_KVRAFT_COMPLETE"
"""Set by a shell that wants to know what may follow (click's `shell_completion`)."""


def is_called(arguments: Sequence[str]) -> bool:
    """Whether a command line is a subcommand's, or was meant to be; otherwise it is the server's."""
    if not arguments:
        return False
    first = arguments[0]
    if first.startswith("-"):
        return first.partition("=")[0] in GLOBAL_OPTIONS
    return first in SUBCOMMANDS or alike(first) is not None


def alike(word: str) -> str | None:
    """The subcommand that was probably meant."""
    close = difflib.get_close_matches(word, SUBCOMMANDS, 1)
    return close[0] if close else None


def help_lines() -> list[str]:
    """The subcommands as `kvraft --help` lists them."""
    width = max(map(len, SUBCOMMANDS))
    return [f"  {entry.name:<{width}}  {entry.summary}" for entry in SUBCOMMANDS.values()]
