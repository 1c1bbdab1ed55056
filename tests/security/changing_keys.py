"""Changes of keys by a client, which Python's ssl cannot be asked for."""

import _ssl
import ctypes
import ssl
from typing import Final

from kvraft.security.engine import Engine

KEY_UPDATE_BYTES: Final = 5 + 5 + 1 + 16
"""Header, message, type and tag (RFC 8446, sections 5.2 and 4.6.3)."""
_SESSION_AT: Final = object.__basicsize__ + ctypes.sizeof(ctypes.c_void_p)
"""Of the `SSL *` in CPython's `PySSLSocket` (Modules/_ssl.c): its second field."""
_UPDATE_REQUESTED: Final = 1


def key_update(client: Engine) -> bytes:
    """What leaves a client that changes its keys and asks for the same."""
    library = ctypes.CDLL(_ssl.__file__)
    shown = client.session._sslobj  # type: ignore[attr-defined]  # what the ssl module wraps
    session = ctypes.c_void_p.from_address(id(shown) + _SESSION_AT)
    library.SSL_version.argtypes = [ctypes.c_void_p]
    library.SSL_key_update.argtypes = [ctypes.c_void_p, ctypes.c_int]
    assert library.SSL_version(session) == ssl.TLSVersion.TLSv1_3
    assert library.SSL_key_update(session, _UPDATE_REQUESTED)
    client.session.do_handshake()
    data = client.outgoing.read()
    assert len(data) == KEY_UPDATE_BYTES
    return data
