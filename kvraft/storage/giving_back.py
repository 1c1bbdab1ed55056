"""Giving back to the system while the process goes on: parts of a file, and memory that shows one.

Nothing depends on either: where a file system has no holes, all stays as it was.
"""

import ctypes
import errno
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from kvraft import logs

_KEEP_SIZE: Final = 0x01
_PUNCH_HOLE: Final = 0x02
_DONT_NEED: Final = 4
_BLOCK_BYTES: Final = 512
"""The unit of `st_blocks`, whatever the file system's is."""

_IMPOSSIBLE: Final = frozenset({errno.EOPNOTSUPP, errno.ENOSYS, errno.EPERM})
"""The file system has no holes, or the process may not make them."""
_NOT_NOW: Final = frozenset({errno.ENOSPC, errno.EINTR})
"""A disk that is full may have no room to write down where the holes are."""

_log = logs.get(__name__)
_libc: Final = ctypes.CDLL(None, use_errno=True)
_fallocate: Final = _libc.fallocate
_fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
_libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)


def allocated_bytes(descriptor: int) -> int:
    """What a file takes of the disk; its length says nothing of holes."""
    return os.fstat(descriptor).st_blocks * _BLOCK_BYTES


def punch(file: int, ranges: Iterable[tuple[int, int]]) -> bool:
    """Give (offset, length) of an open file back; what is read there is zeros. False where that is not possible.

    The file itself is opened once more for writing, not what has its name by now.

    Raises:
        OSError: the disk has failed.
    """
    descriptor = os.open(f"/proc/self/fd/{file}", os.O_RDWR | os.O_CLOEXEC)
    try:
        for offset, length in ranges:
            if _fallocate(descriptor, _KEEP_SIZE | _PUNCH_HOLE, offset, length):
                number = ctypes.get_errno()
                if number in _IMPOSSIBLE:
                    _log.info("free pages stay in the file: nothing of it can be given back", file=_name_of(file))
                    return False
                if number in _NOT_NOW:
                    return True
                raise OSError(number, os.strerror(number), _name_of(file))
    finally:
        os.close(descriptor)
    return True


def _name_of(file: int) -> str:
    """Where an open file is now; the system adds that it was deleted."""
    return str(Path(f"/proc/self/fd/{file}").readlink())


def forget_mapped(file: int) -> None:
    """Let the pages of an open, mapped file leave this process: they stay in the system's cache until others need it.

    Only for maps that are shared and read only, as LMDB's are without `writemap`: what is needed again is mapped again.
    """
    facts, name = os.fstat(file), _name_of(file).replace("\n", "\\012")
    device = f"{os.major(facts.st_dev):02x}:{os.minor(facts.st_dev):02x}"
    for line in Path("/proc/self/maps").read_text().splitlines():
        fields = line.split(maxsplit=5)
        # Where file systems lie over others the two may name different devices and inodes, and agree on the name.
        is_the_file = fields[3:5] == [device, str(facts.st_ino)] or fields[5:] == [name]
        if fields[1] == "r--s" and is_the_file:
            first, end = (int(part, 16) for part in fields[0].split("-"))
            _libc.madvise(first, end - first, _DONT_NEED)
