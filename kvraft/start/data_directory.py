"""What can be found out and done about a data directory before a member opens it."""

import pathlib
import stat
from typing import Final

from kvraft import logs
from kvraft.founding import Identity
from kvraft.settings.flags import SettingsError, one_line
from kvraft.start import path_owners
from kvraft.storage import environment, usability

log = logs.get(__name__)

_OTHERS: Final = 0o077
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


def holds_proxy(data_dir: pathlib.Path) -> bool:
    """Whether a proxy has run there, kvraft's or etcd's.

    Raises:
        SettingsError: it cannot be read.
    """
    try:
        return (data_dir / "proxy").is_dir()
    except OSError as error:
        raise unusable(data_dir, error) from error


def holds_etcd(data_dir: pathlib.Path) -> bool:
    """Whether a member of etcd keeps its data there.

    Raises:
        SettingsError: it cannot be read.
    """
    try:
        return environment.holds_etcd(data_dir)
    except OSError as error:
        raise unusable(data_dir, error) from error


def check_mode(directory: pathlib.Path, *, is_strict: bool) -> None:
    """Look whether others may open a directory that is there: it holds keys, and hashes of passwords.

    One that is ours alone is closed when it is opened. One that has files of others is left as it is, unless that is
    not to be.

    Raises:
        SettingsError: others may open it, and `is_strict`.
    """
    try:
        mode = directory.stat().st_mode
    except OSError:
        return  # not made yet, or to be complained about by whoever opens it
    if not stat.S_ISDIR(mode) or not mode & _OTHERS:
        return
    if is_strict:
        shown = one_line(str(directory))
        raise SettingsError(f"--insecure=false: {shown}: others may open it: chmod 700 {shown}")
    log.warning("others may open the directory: chmod 700", directory=directory, mode=f"{mode & 0o777:o}")


def put_back(data_dir: pathlib.Path) -> str:
    """Undo a rebuild (`--put-back`); the line that says so.

    Raises:
        SettingsError: it cannot be written.
        StorageError: nothing was set aside, or a member runs there.
    """
    from kvraft.storage import aside  # noqa: PLC0415 -- hardly any start needs it, and it needs much

    try:
        back, replaced = aside.put_back(data_dir)
    except OSError as error:
        raise unusable(data_dir, error) from error
    rest = f"what stood in its place is in {replaced}" if replaced is not None else "nothing stood in its place"
    return f"kvraft: {data_dir} holds again what was in {back.name}; {rest}; start the member without --rebuild\n"


def refuse_unusable(data_dir: pathlib.Path, wal_dir: pathlib.Path | None, *, rebuilds: bool) -> None:
    """Before anybody is told of this member, see whether it will be able to keep anything, and touch nothing.

    Args:
        data_dir: the data directory, in which no member has completed its first start.
        wal_dir: where its log is to be, if elsewhere.
        rebuilds: the member may set aside what is left of its data.

    Raises:
        SettingsError: something is in the way.
        StorageError: the data directory is somebody else's, or damaged.
    """
    refuse_closed(data_dir, "data-dir")
    if wal_dir is not None:
        refuse_closed(wal_dir, "wal-dir")
    try:
        usability.refuse_unusable(data_dir, wal_dir, rebuilds=rebuilds)
    except OSError as error:
        raise unusable(data_dir, error) from error


def refuse_closed(directory: pathlib.Path, flag: str) -> None:
    """See whether a directory that a flag names can be made and written.

    Raises:
        SettingsError: something is in the way.
    """
    if why := path_owners.why_unusable(directory):
        raise SettingsError(f"--{flag}={one_line(str(directory))}: {one_line(why)}: {_REMEDY}")


def unusable(data_dir: pathlib.Path, error: OSError) -> SettingsError:
    """The line that says what stands in the way."""
    reason = error.strerror or str(error)
    if why := path_owners.why_unusable(data_dir):
        reason = f"{reason}: {why}"
    return SettingsError(f"--data-dir={one_line(str(data_dir))}: {one_line(reason)}: {_REMEDY}")
