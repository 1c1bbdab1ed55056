"""Media types as Go 1.19 reads them (mime: mediatype.go, grammar.go). Pure.

Anybody may send a header of a MiB before he says who he is: one walk, and each character is looked at a few times.
"""

import re
from typing import Final

_SPACES: Final = "\t\n\v\f\r \x85\xa0"
"""What unicode.IsSpace takes below U+0100; header values hold nothing above."""
_WORD: Final = r"[!#$%&'*+\-.0-9A-Z^_`a-z{|}~]+"
"""RFC 2045 token characters, as mime.isTokenChar has them."""
_QUOTABLE: Final = r"[()<>@,;:\\\"/\[\]?=]"
"""mime.isTSpecial: what a backslash escapes inside a quoted parameter value."""
# Go leaves other backslashes alone: old browsers sent unescaped Windows paths. No text fits in two ways, so that one
# that does not end in the right place is gone through once more, and not again and again.
_PLAIN: Final = r"[^\"\\\r\n]*"
_QUOTED: Final = rf"\"{_PLAIN}(?:\\(?:{_QUOTABLE}|(?!{_QUOTABLE})){_PLAIN})*\""
_GAP: Final = f"[{_SPACES}]*"
_MEDIA_TYPE: Final = re.compile(f"({_WORD})?(/)?({_WORD})?")
_PARAMETER: Final = re.compile(f"{_GAP};{_GAP}({_WORD}){_GAP}={_GAP}(?:{_WORD}|{_QUOTED})|(?s:.+)")
"""mime.consumeMediaParam: `; name=value`; where there is none, all the rest."""


def parse_media_type(content_type: bytes) -> tuple[str, bytes | None]:
    """mime.ParseMediaType without the parameters' values: (media type in lower case, what Go complains about)."""
    text = content_type.decode("utf-8", "surrogateescape")
    base = text.partition(";")[0]
    media_type = base.lower().strip(_SPACES)
    complaint = _media_type_complaint(media_type)
    if complaint is not None:
        return "", complaint
    names: set[str] = set()
    for found in _PARAMETER.finditer(text, len(base)):
        name = found[1]
        if name is None:
            is_over = found[0].strip(_SPACES) in {"", ";"}
            return media_type, None if is_over else b"mime: invalid media parameter"
        name = name.lower()
        if name in names:
            return "", b"mime: duplicate parameter name"
        names.add(name)
    return media_type, None


def _media_type_complaint(media_type: str) -> bytes | None:
    """mime.checkMediaTypeDisposition."""
    found = _MEDIA_TYPE.match(media_type)
    assert found is not None  # the expression matches the empty string
    kind, slash, subtype = found.groups()
    if not kind:
        return b"mime: no media type"
    if not slash:
        return b"mime: expected slash after first token" if found.end(1) < len(media_type) else None
    if not subtype:
        return b"mime: expected token after slash"
    return b"mime: unexpected content after media subtype" if found.end() < len(media_type) else None
