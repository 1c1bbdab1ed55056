"""JSON text as Go's encoding/json writes it."""

from collections.abc import Sequence

from kvraft.keyspace.json_text import escape


def quote(raw: bytes) -> bytes:
    """A JSON string with its quotes; each byte that is not UTF-8 becomes U+FFFD."""
    return b'"%b"' % escape(raw)


def render(value: object) -> bytes:
    """Compact JSON of plain data, fields in the given order.

    Takes dict with str keys, list, tuple, str, bytes (a string), bool, int, float and None.

    Raises:
        TypeError: anything else is inside.
    """
    if value is None:
        return b"null"
    if isinstance(value, bool):
        return b"true" if value else b"false"
    if isinstance(value, str):
        return quote(value.encode("utf-8", "surrogateescape"))
    if isinstance(value, bytes):
        return quote(value)
    if isinstance(value, int):
        return b"%d" % value
    if isinstance(value, float):
        return _float(value)
    if isinstance(value, dict):
        return b"{" + b",".join(render(str(name)) + b":" + render(item) for name, item in value.items()) + b"}"
    if isinstance(value, Sequence):
        return b"[" + b",".join(map(render, value)) + b"]"
    raise TypeError(type(value))


def _float(number: float) -> bytes:
    """A float64 as Go prints it: the shortest digits that read back, with an exponent below 1e-6 and from 1e21 on."""
    text = repr(number)
    if number.is_integer() and abs(number) < 1e21:
        # Zeros behind the digits that count.
        mantissa, _, exponent = text.removesuffix(".0").partition("e+")
        whole, _, fraction = mantissa.partition(".")
        return (whole + fraction.ljust(int(exponent or 0), "0")).encode()
    if "e-" in text and abs(number) >= 1e-6:
        mantissa, _, exponent = text.partition("e-")
        sign = "-" if mantissa.startswith("-") else ""
        digits = mantissa.lstrip("-").replace(".", "")
        text = f"{sign}0.{'0' * (int(exponent) - 1)}{digits}"
    return text.replace("e-0", "e-").encode()
