"""A file that stands under its name once all of it is on the disk, and until then what stood there before.

For what is written on somebody's word, by root too: nothing but a file is replaced, a link keeps pointing to its
target, and nobody else may read what may hold hashes of passwords.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from kvraft.storage.environment import sync_directory


def place_of(path: Path) -> Path:
    """Where a file of this name goes: through links, to what they point at. Nothing is made.

    Raises:
        OSError: no file can be there, for want of a directory or because of what stands there; it names the path.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        mode = stat.S_IFREG  # to be made, perhaps by way of a link
    if stat.S_ISDIR(mode):
        raise OSError(errno.EISDIR, "is a directory: give the name of a file in a directory that is there", str(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EEXIST, "is a device, a FIFO or a socket: name a file", str(path))
    place = Path(os.path.realpath(path)) if path.is_symlink() else path
    if not place.parent.is_dir():
        raise OSError(errno.ENOENT, "give the name of a file in a directory that is there", str(path))
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISDIR(_new(place).lstat().st_mode):  # too long a name is told by this, too
            raise OSError(errno.EISDIR, "is a directory, and in the way: remove it", str(_new(place)))
    return place


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[BinaryIO]:
    """What is written to it stands at `path` at the end of the block, or nothing does if that fails.

    Raises:
        OSError: it cannot be written; it names a file.
    """
    place = place_of(path)
    new = _new(place)
    new.unlink(missing_ok=True)  # it might be somebody else's to read, or a link
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    is_ours = True
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            is_ours = os.path.samestat(os.fstat(descriptor), new.lstat())
        _refuse_another(path, is_ours=is_ours)
        new.replace(place)
        sync_directory(place.parent)
    except BaseException as error:  # Ctrl-C too
        if is_ours:
            new.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(path)  # a write names nothing
        raise


def _refuse_another(path: Path, *, is_ours: bool) -> None:
    if not is_ours:
        raise OSError(errno.EBUSY, "another process writes it, too", str(path))


def _new(place: Path) -> Path:
    return place.with_name(place.name + ".new")
