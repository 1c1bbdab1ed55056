"""mime.ParseMediaType of Go 1.19, function by function as in its sources: what the quick way has to agree with."""

import re
from typing import Final

_WORD: Final = re.compile(r"[!#$%&'*+\-.0-9A-Z^_`a-z{|}~]*")
"""RFC 2045 token characters, as mime.isTokenChar has them."""
_SPACES: Final = "\t\n\v\f\r \x85\xa0"
"""What unicode.IsSpace takes below U+0100; header values hold nothing above."""
_QUOTABLE: Final = '()<>@,;:\\"/[]?='
"""mime.isTSpecial: what a backslash escapes inside a quoted parameter value."""


def parse_media_type(content_type: bytes) -> tuple[str, bytes | None]:
    """mime.ParseMediaType without the parameters' values: (media type in lower case, what Go complains about)."""
    text = content_type.decode("utf-8", "surrogateescape")
    base, separator, rest = text.partition(";")
    media_type = base.lower().strip(_SPACES)
    complaint = _media_type_complaint(media_type)
    if complaint is not None:
        return "", complaint
    rest = separator + rest
    names: set[str] = set()
    while rest := rest.lstrip(_SPACES):
        parsed = _consume_parameter(rest)
        if parsed is None:
            if rest.strip(_SPACES) == ";":
                break
            return media_type, b"mime: invalid media parameter"
        name, rest = parsed
        if name in names:
            return "", b"mime: duplicate parameter name"
        names.add(name)
    return media_type, None


def _media_type_complaint(media_type: str) -> bytes | None:
    """mime.checkMediaTypeDisposition."""
    kind = _token(media_type)
    if not kind:
        return b"mime: no media type"
    rest = media_type[len(kind) :]
    if not rest:
        return None
    if not rest.startswith("/"):
        return b"mime: expected slash after first token"
    subtype = _token(rest[1:])
    if not subtype:
        return b"mime: expected token after slash"
    if len(rest) > len(subtype) + 1:
        return b"mime: unexpected content after media subtype"
    return None


def _token(text: str) -> str:
    found = _WORD.match(text)
    assert found is not None  # the expression matches the empty string
    return found.group()


def _consume_parameter(text: str) -> tuple[str, str] | None:
    """mime.consumeMediaParam: (lower-case name, rest) of `; name=value`, or None."""
    if not text.startswith(";"):
        return None
    rest = text[1:].lstrip(_SPACES)
    name = _token(rest)
    rest = rest[len(name) :].lstrip(_SPACES)
    if not name or not rest.startswith("="):
        return None
    rest = rest[1:].lstrip(_SPACES)
    after = _skip_value(rest)
    return None if after is None else (name.lower(), after)


def _skip_value(text: str) -> str | None:
    """mime.consumeValue: what follows a token or a quoted string; None when there is neither."""
    if not text.startswith('"'):
        token = _token(text)
        return text[len(token) :] if token else None
    at = 1
    while at < len(text):
        char = text[at]
        if char == '"':
            return text[at + 1 :]
        if char in "\r\n":
            return None
        # Go leaves other backslashes alone: old browsers sent unescaped Windows paths.
        escapes = char == "\\" and at + 1 < len(text) and text[at + 1] in _QUOTABLE
        at += 2 if escapes else 1
    return None
