"""Forms as Go 1.19 reads them (net/http, net/url): Debian's etcd 3.4.23 is built with it.

etcd's answers to malformed input quote Go's own error texts, so the checks, their order and their words are Go's.
Everything here is bytes: Go strings are bytes, and neither keys nor values need to be UTF-8.
"""

import re
from binascii import a2b_qp
from typing import Final

from kvraft.api_v2.go_media_types import parse_media_type
from kvraft.keyspace.errors import ErrorCode, EtcdError

FORM_BYTES_MAX: Final = 10 << 20
"""Go's parsePostForm reads at most this many body bytes, inclusive; one more is `http: POST too large`."""

PAIRS_MAX: Final = 1000
"""In the query of a page that knows a handful of parameters: far more than anybody asks with."""

FORM_MEDIA_TYPE: Final = "application/x-www-form-urlencoded"

_USUAL_CONTENT_TYPE: Final = FORM_MEDIA_TYPE.encode()

Form = dict[bytes, bytes]
"""The first value of each name: etcd only ever asks for the first."""

_BAD_ESCAPE: Final = re.compile(rb"%(?![0-9A-Fa-f]{2})")


class FormError(Exception):
    """A form that Go refuses; the argument is Go's error text."""

    def __init__(self, text: bytes) -> None:
        super().__init__(text)
        self.text = text


def _bad_escape(raw: bytes) -> bytes:
    """The first `%` that does not start an escape, with up to two bytes after it."""
    found = _BAD_ESCAPE.search(raw)
    assert found is not None  # `unescape` has found one
    return raw[found.start() : found.start() + 3]


def unescape(raw: bytes) -> bytes | None:
    """Every `%xx` as its byte; None if there is a `%` that does not start an escape.

    Works at C speed: a 10 MiB form of escapes must not hold the event loop. Quoted-printable is the same with another
    sign, except that an escaped line end is dropped there.
    """
    if b"%" not in raw:
        return raw
    if b"%\n" in raw or b"%\r" in raw:
        return None
    decoded = a2b_qp(raw.replace(b"=", b"=3D").replace(b"%", b"="))
    # A good escape makes the text two bytes shorter, anything else less.
    return decoded if len(raw) - len(decoded) == 2 * raw.count(b"%") else None


def unescape_form_text(raw: bytes) -> bytes:
    """url.QueryUnescape: `+` is a space, `%xx` a byte. Raises FormError for a bad escape."""
    text = unescape(raw.replace(b"+", b" "))
    if text is None:
        raise FormError(b"invalid URL escape " + go_quote(_bad_escape(raw)))
    return text


def parse_pairs(raw: bytes, form: Form) -> FormError | None:
    """url.ParseQuery into `form`, names already there kept. The error Go would report, None when all is well.

    Go goes on after an error: the first bad escape is reported unless any pair holds a semicolon, which wins.
    """
    error: FormError | None = None
    for pair in raw.split(b"&"):
        if b";" in pair:
            error = FormError(b"invalid semicolon separator in query")
            continue
        if not pair:
            continue
        name, _, value = pair.partition(b"=")
        try:
            name = unescape_form_text(name)
            value = unescape_form_text(value)
        except FormError as escape_error:
            error = error or escape_error
            continue
        form.setdefault(name, value)
    return error


def is_good_query(query: bytes) -> bool:
    """Whether `parse_pairs` has no complaint; without a look at each pair, of which a request line holds a million."""
    return b";" not in query and unescape(query) is not None


def values_of(query: bytes, name: bytes) -> list[bytes]:
    """url.Query()[name], where nobody complains of the rest; of the first PAIRS_MAX pairs."""
    values = []
    for pair in query.split(b"&", PAIRS_MAX)[:PAIRS_MAX]:
        form: Form = {}
        if parse_pairs(pair, form) is None and name in form:
            values.append(form[name])
    return values


def parse_form(query: bytes, *, with_body: bool, content_type: bytes | None, body: bytes) -> Form:
    """http.Request.ParseForm: body pairs first, then the query's, so that a body value hides one of the query.

    Args:
        query: The raw query, without `?`.
        with_body: Whether the method is one whose body Go reads (PUT, POST).
        content_type: The first Content-Type header; None and empty mean that the body is not a form.
        body: The whole body, or its first FORM_BYTES_MAX + 1 bytes.

    Raises:
        EtcdError: INVALID_FORM with Go's text as its cause.
    """
    form: Form = {}
    error: FormError | None = None
    if with_body and content_type:
        # Nearly every client sends exactly this, and reading it takes longer than all the rest.
        if content_type != _USUAL_CONTENT_TYPE:
            media_type, complaint = parse_media_type(content_type)
            error = None if complaint is None else FormError(complaint)
        else:
            media_type = FORM_MEDIA_TYPE
        if media_type == FORM_MEDIA_TYPE:
            if len(body) > FORM_BYTES_MAX:
                raise EtcdError(ErrorCode.INVALID_FORM, b"http: POST too large")
            error = error or parse_pairs(body, form)
    if query:
        error = error or parse_pairs(query, form)
    if error is not None:
        raise EtcdError(ErrorCode.INVALID_FORM, error.text)
    return form


_GO_ESCAPES: Final = {
    "\a": "\\a",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\v": "\\v",
    '"': '\\"',
    "\\": "\\\\",
}


def go_quote(raw: bytes) -> bytes:
    """strconv.Quote of a short string (here: a broken escape, at most three bytes)."""
    out = ['"']
    for char in raw.decode("utf-8", "surrogateescape"):
        code = ord(char)
        if char in _GO_ESCAPES:
            out.append(_GO_ESCAPES[char])
        elif 0xDC80 <= code <= 0xDCFF:
            out.append(f"\\x{code - 0xDC00:02x}")
        elif char.isprintable():
            out.append(char)
        elif code < 0x20 or code == 0x7F:
            out.append(f"\\x{code:02x}")
        else:
            out.append(f"\\u{code:04x}")
    out.append('"')
    return "".join(out).encode()
