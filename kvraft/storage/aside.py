"""Data that a rebuild sets aside, and the way back.

Both move entries of the data directory by renaming, in an order that makes a crash in the middle visible: the identity
goes last, so what has one is whole.
"""

import shutil
from pathlib import Path
from typing import Final

from kvraft import clock, logs
from kvraft.storage.emptiness import holds_nothing
from kvraft.storage.environment import (
    ASIDE_PREFIX,
    MAKING_ROOM,
    PUTTING_BACK,
    DataDirectory,
    is_kept,
    lock_directory,
    sync_directory,
)
from kvraft.storage.errors import WrongDirectoryError
from kvraft.storage.log_place import remove

_log = logs.get(__name__)

_IDENTITY: Final = "identity"


def set_aside(directory: DataDirectory, reason: str) -> None:
    """Move everything that the directory holds into `damaged-<time>` below it. No data is deleted.

    What a member has begun and written nothing into is no data, neither here nor where it was set aside: it is removed.

    The identity goes last: whoever starts after a crash in the middle finds a damaged directory, not an empty one, and
    goes on where that one stopped. A second time is refused: a disk that fails again and again would be filled with
    copies of copies, and the first of them may hold what nobody else has.

    Raises:
        WrongDirectoryError: what an earlier rebuild has set aside is still there.
    """
    entries = _entries(directory.path)
    if not entries:
        return
    begun = [path for path in _asides(directory.path) if not (path / _IDENTITY).exists()]
    if not begun and holds_nothing(directory.path):
        _remove(entries)
        return
    for earlier in _asides(directory.path):
        if earlier in begun:
            continue
        if not holds_nothing(earlier):
            raise WrongDirectoryError(
                f"{reason}: --rebuild would set aside a second time, and {earlier} is still there: "
                "look at the disk, move that directory away, and start again"
            )
        remove(earlier / "log")
        shutil.rmtree(earlier)
    aside = begun[-1] if begun else _new_aside(directory.path)
    held_bytes = sum(path.lstat().st_blocks * 512 for entry in entries for path in (entry, *entry.rglob("*")))
    _move(entries, aside)
    directory.reading_died = False
    _log.warning(
        "the data is set aside and everything is fetched from the other members; remove it once they have it all, or "
        "stop this member and run it once with --put-back",
        directory=aside,
        bytes=held_bytes,
        reason=reason,
    )


def has_set_aside(directory: DataDirectory) -> bool:
    """Whether a rebuild has begun here at some time: then this member is no new one, however empty the directory."""
    return bool(_asides(directory.path))


def holds_data(path: Path) -> bool:
    """Whether there is anything that a rebuild would set aside."""
    return path.is_dir() and bool(_entries(path)) and not holds_nothing(path)


def put_back(path: Path) -> tuple[Path, Path | None]:
    """Put the newest data that was set aside back into its place, and what stands there now aside.

    Run again after a crash, it goes on. Put back twice, everything is as it was.

    Returns:
        Where the data was, and where that now is which stood in its place; None if nothing did.

    Raises:
        WrongDirectoryError: nothing whole was set aside, or the directory is not there or not kvraft's.
        DirectoryInUseError: a member runs on it.
        OSError: something cannot be moved.
    """
    if not path.exists():
        raise WrongDirectoryError(f"--put-back: --data-dir={path} is not there: give the directory of the member")
    directory = lock_directory(path, for_putting_back=True)
    try:
        waits, comes = path / MAKING_ROOM, path / PUTTING_BACK
        whole = [aside for aside in _asides(path) if (aside / _IDENTITY).exists()]
        wanted = next((aside for aside in reversed(whole) if not holds_nothing(aside)), None)
        replaced = None
        if not comes.exists():
            if not waits.exists():
                if wanted is None:
                    raise WrongDirectoryError(
                        f"--put-back: {path} has no {ASIDE_PREFIX}<time> with a member's data in it"
                    )
                wanted.rename(waits)
                sync_directory(path)
            replaced = _make_room(path)
            waits.rename(comes)
            sync_directory(path)
        _move(_entries(comes), path)
        comes.rmdir()
        sync_directory(path)
        return wanted or comes, replaced
    finally:
        directory.close()


def _make_room(path: Path) -> Path | None:
    """Set aside what stands in the place of what comes back: into an aside of its own, or the one begun before."""
    entries = _entries(path)
    if not entries:
        return None
    begun = next((aside for aside in _asides(path) if not (aside / _IDENTITY).exists()), None)
    aside = begun or _new_aside(path)
    _move(entries, aside)
    return aside


def _entries(path: Path) -> list[Path]:
    """What a member has there, its identity last."""
    ours = (entry for entry in path.iterdir() if not is_kept(entry.name))
    return sorted(ours, key=lambda entry: (entry.name == _IDENTITY, entry.name))


def _remove(entries: list[Path]) -> None:
    """Remove what `_entries` gave: the identity goes last, as when it is moved."""
    for entry in entries:
        remove(entry)


def _asides(path: Path) -> list[Path]:
    """Oldest first."""
    return sorted(aside for aside in path.glob(f"{ASIDE_PREFIX}*") if aside.is_dir())


def _new_aside(path: Path) -> Path:
    moment = clock.utc_text(clock.wall_ns() // 1_000_000_000).replace(":", "")
    aside = path / f"{ASIDE_PREFIX}{moment}Z"
    while aside.exists():  # two within a second
        aside = aside.with_name(aside.name + "+")
    return aside


def _move(entries: list[Path], to: Path) -> None:
    """Move what `_entries` gave, durably."""
    to.mkdir(mode=0o700, exist_ok=True)
    for entry in entries:
        entry.rename(to / entry.name)
    sync_directory(to)
    for parent in {entry.parent for entry in entries}:
        sync_directory(parent)
