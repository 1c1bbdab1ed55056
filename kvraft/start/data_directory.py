"""What can be found out and done about a data directory before a member opens it."""

import pathlib
from typing import Final

from kvraft.founding import Identity
from kvraft.settings.flags import SettingsError, one_line
from kvraft.start import path_owners
from kvraft.storage import aside, environment

_REMEDY: Final = "give a directory that this user can write, on a disk with room"


def stored_identity(data_dir: pathlib.Path) -> Identity | None:
    """Whose data it holds; None if it holds none yet.

    Raises:
        SettingsError: it cannot be read.
        StorageError: it is damaged, or a newer kvraft's.
    """
    try:
        return environment.stored_identity(data_dir)
    except OSError as error:
        raise unusable(data_dir, error) from error


def put_back(data_dir: pathlib.Path) -> str:
    """Undo a rebuild (`--put-back`); the line that says so.

    Raises:
        SettingsError: it cannot be written.
        StorageError: nothing was set aside, or a member runs there.
    """
    try:
        back, replaced = aside.put_back(data_dir)
    except OSError as error:
        raise unusable(data_dir, error) from error
    rest = f"what stood in its place is in {replaced}" if replaced is not None else "nothing stood in its place"
    return f"kvraft: {data_dir} holds again what was in {back.name}; {rest}; start the member without --rebuild\n"


def refuse_unusable(data_dir: pathlib.Path) -> None:
    """Before anybody is told of this member, see whether it will be able to keep anything.

    Raises:
        SettingsError: something is in the way.
    """
    if why := path_owners.why_unusable(data_dir):
        raise SettingsError(f"--data-dir={one_line(str(data_dir))}: {one_line(why)}: {_REMEDY}")


def unusable(data_dir: pathlib.Path, error: OSError) -> SettingsError:
    """The line that says what stands in the way."""
    reason = error.strerror or str(error)
    if why := path_owners.why_unusable(data_dir):
        reason = f"{reason}: {why}"
    return SettingsError(f"--data-dir={one_line(str(data_dir))}: {one_line(reason)}: {_REMEDY}")
