"""Bytes to JSON strings exactly as Go's encoding/json writes them, and back (contract A.1).

A value is encoded once, when it is written, and served as it is from then on.
Every function works at C speed on whole values: a 10 MiB value must not hold the event loop.
"""

import json
import re
from json.encoder import encode_basestring
from typing import Final

_PLAIN: Final = bytes(byte for byte in range(0x20, 0x80) if byte not in b'"\\<>&')
"""Bytes that stand for themselves in Go's JSON: ASCII including 0x7f, without quotes, backslash and the HTML three."""

_CONTROLS: Final = (
    ("\\", "\\\\"),
    ('"', '\\"'),
    ("\n", "\\n"),
    ("\r", "\\r"),
    ("\t", "\\t"),
    *((chr(code), f"\\u{code:04x}") for code in range(0x20) if code not in b"\n\r\t"),
)
"""For texts with backspace or form feed, which Python would shorten and Go does not. The backslash comes first."""

_GO_ONLY: Final = (
    ("<", "\\u003c"),
    (">", "\\u003e"),
    ("&", "\\u0026"),
    ("\u2028", "\\u2028"),
    ("\u2029", "\\u2029"),
)
"""What Go escapes beyond JSON: HTML's three, and the two line separators of old JavaScript."""

_INVALID: Final = re.compile("[\udc80-\udcff]")
"""Where `surrogateescape` has put a byte that is not part of valid UTF-8."""


def escape(raw: bytes) -> bytes:
    r"""The inside of Go's JSON string for `raw`, without quotes. Each invalid UTF-8 byte becomes `\ufffd`."""
    special = raw.translate(None, _PLAIN)
    return _quote(raw, special)[0][1:-1] if special else raw


def encode_value(raw: bytes) -> tuple[bytes, bytes | None]:
    """A value as Go's JSON string with quotes, and `raw` itself where decoding that string would not give it back."""
    special = raw.translate(None, _PLAIN)
    if not special:
        return b'"%b"' % raw, None
    quoted, lossless = _quote(raw, special)
    return quoted, None if lossless else raw


def decode_value(value_json: bytes) -> bytes:
    """The bytes that `encode_value` made a JSON string from, where it did not have to keep them."""
    if b"\\" not in value_json:
        return value_json[1:-1]
    text = json.loads(value_json)
    assert isinstance(text, str)
    return text.encode()


def _quote(raw: bytes, special: bytes) -> tuple[bytes, bool]:
    """The JSON string, and whether it decodes back to `raw`; `special` holds the bytes of `raw` that are not plain."""
    lossless = True
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        # Go replaces invalid bytes one by one, Python's own replacement merges those of one broken sequence.
        text = raw.decode("utf-8", "surrogateescape")
        lossless = False
    if b"\b" in special or b"\f" in special:
        for plain, escaped in _CONTROLS:
            text = text.replace(plain, escaped)
        text = f'"{text}"'
    else:
        text = encode_basestring(text)
    for plain, escaped in _GO_ONLY:
        text = text.replace(plain, escaped)
    if not lossless:
        text = _INVALID.sub(r"\\ufffd", text)
    return text.encode(), lossless
