"""JSON as Go's json.Decoder reads it into a struct: in places more lenient than Python's, in others stricter. Pure.

An object is a tuple of (name, value) pairs here, as a name may come twice, and an array is a list.
Deeper than some 1,000 levels is refused here, deeper than 10,000 there.
"""

import json
import re
from collections.abc import Iterator
from typing import Final, final

_SURROGATE: Final = re.compile("[\ud800-\udfff]")
_FOLDED: Final = str.maketrans({"\u017f": "s", "\u212a": "k"})
"""The two letters beside ASCII that are the same as one of ASCII without regard to case."""


@final
class GoJsonError(ValueError):
    """The body is not what the struct is made from."""


def _refuse_constant(name: str) -> object:
    """NaN and Infinity are no JSON for Go."""
    raise ValueError(name)


_DECODER: Final = json.JSONDecoder(object_pairs_hook=tuple, parse_int=float, parse_constant=_refuse_constant)
"""Keeps fields that come twice, and takes numbers of any length."""


def first_value(body: bytes) -> object:
    """The first value of a body; what follows it is not looked at.

    Raises:
        GoJsonError: there is none.
    """
    # A byte that is not UTF-8, and half of a surrogate pair, become U+FFFD.
    decoded = _SURROGATE.sub("\ufffd", body.decode("utf-8", "surrogateescape")).lstrip(" \t\r\n")
    try:
        value, _ = _DECODER.raw_decode(decoded)
    except (ValueError, RecursionError) as error:
        raise GoJsonError(str(error)) from error
    return value


def fields(value: object) -> Iterator[tuple[str, object]]:
    """The fields of an object in their order, by their names in small letters; none of null.

    Raises:
        GoJsonError: it is neither.
    """
    if value is None:
        return
    if not isinstance(value, tuple):
        raise GoJsonError("not an object")
    for name, item in value:
        yield name.translate(_FOLDED).lower(), item


def text(value: object, before: str) -> str:
    """A string; null leaves what was there before.

    Raises:
        GoJsonError: it is neither.
    """
    if value is None:
        return before
    if not isinstance(value, str):
        raise GoJsonError("not a string")
    return _SURROGATE.sub("\ufffd", value)


def texts(value: object) -> tuple[str, ...] | None:
    """An array of strings, in which null is an empty one; null itself is None.

    Raises:
        GoJsonError: it is neither.
    """
    if value is None:
        return None
    if not isinstance(value, list):
        raise GoJsonError("not an array")
    return tuple(text(item, "") for item in value)
