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

_BACKSPACE: Final = "\ud800"
_FORM_FEED: Final = "\ud801"
"""Stand for the two controls that Python shortens (to \\b and \\f) and Go does not, while Python escapes the rest: lone
surrogates that no decoded text contains, since `surrogateescape` gives others."""

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
    return _quote(raw)[0][1:-1] if raw.translate(None, _PLAIN) else raw


def encode_value(raw: bytes) -> tuple[bytes, bytes | None]:
    """A value as Go's JSON string with quotes, and `raw` itself where decoding that string would not give it back."""
    if not raw.translate(None, _PLAIN):
        return b'"%b"' % raw, None
    quoted, lossless = _quote(raw)
    return quoted, None if lossless else raw


def decode_value(value_json: bytes) -> bytes:
    """The bytes that `encode_value` made a JSON string from, where it did not have to keep them."""
    if b"\\" not in value_json:
        return value_json[1:-1]
    text = json.loads(value_json)
    assert isinstance(text, str)
    return text.encode()


def _quote(raw: bytes) -> tuple[bytes, bool]:
    """The JSON string, and whether it decodes back to `raw`."""
    lossless = True
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        # Go replaces invalid bytes one by one, Python's own replacement merges those of one broken sequence.
        text = raw.decode("utf-8", "surrogateescape")
        lossless = False
    text = encode_basestring(text.replace("\b", _BACKSPACE).replace("\f", _FORM_FEED))
    text = text.replace(_BACKSPACE, "\\u0008").replace(_FORM_FEED, "\\u000c")
    for plain, escaped in _GO_ONLY:
        text = text.replace(plain, escaped)
    if not lossless:
        text = _INVALID.sub(r"\\ufffd", text)
    return text.encode(), lossless
