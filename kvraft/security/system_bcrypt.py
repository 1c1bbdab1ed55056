"""bcrypt as the system's libcrypt has it, where there is one: a sixth faster than the package, and than etcd's Go.

Debian, Fedora and most others have libxcrypt under one of two names; what has none, or one without bcrypt, has the
package. A password with a NUL is no C string, and so none of this.
"""

import contextlib
import ctypes
import threading
from collections.abc import Callable
from typing import Final

_NAMES: Final = ("libcrypt.so.1", "libcrypt.so.2")
_PASSWORD: Final = b"kvraft"
_ITS_HASH: Final = b"$2b$04$abcdefghijklmnopqrstuuNuLugQ9C0Xl0uVDQ.APvQLKDspw2PvS"

Hashed = Callable[[bytes, bytes], bytes]
"""The hash of a password by a setting; something else if the setting is none."""


def find() -> Hashed | None:
    """The function, tried on a known hash; None if the system has none."""
    for name in _NAMES:
        with contextlib.suppress(OSError, AttributeError):
            hashed = _function_of(ctypes.CDLL(name))
            if hashed(_PASSWORD, _ITS_HASH[:29]) == _ITS_HASH:
                return hashed
    return None


def _function_of(library: ctypes.CDLL) -> Hashed:
    """`crypt_ra` of libxcrypt (crypt(3)): its working memory is kept for each thread. It runs without the GIL.

    Raises:
        AttributeError: another libcrypt.
    """
    crypt = library.crypt_ra
    crypt.restype = ctypes.c_char_p
    crypt.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.POINTER(ctypes.c_void_p), ctypes.POINTER(ctypes.c_int)]
    kept = threading.local()

    def hashed(password: bytes, setting: bytes) -> bytes:
        if not hasattr(kept, "memory"):
            kept.memory, kept.size = ctypes.c_void_p(), ctypes.c_int()
        found: bytes | None = crypt(password, setting, ctypes.byref(kept.memory), ctypes.byref(kept.size))
        return found or b""

    return hashed
