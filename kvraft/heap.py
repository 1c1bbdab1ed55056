"""Memory that was freed, given back to the system: the allocator keeps it for the next burst, which may never come.

By itself it gives back only the ends of its heaps; after large values most of what is free lies between small ones.
"""

import ctypes
from collections.abc import Callable
from typing import Final, cast


def _find() -> Callable[[int], int] | None:
    """malloc_trim of glibc; other C libraries, as musl, have none and keep little."""
    try:
        return cast("Callable[[int], int]", ctypes.CDLL(None).malloc_trim)
    except (AttributeError, OSError):
        return None


_malloc_trim: Final = _find()


def give_back() -> bool:
    """Give back every free page; whether there were any. Takes about a millisecond for each 4 MiB: call it on a thread.

    The interpreter's lock is not held meanwhile, but whoever needs memory waits.
    """
    return _malloc_trim is not None and bool(_malloc_trim(0))
