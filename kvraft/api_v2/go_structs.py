"""JSON values as Go puts them into a struct. Pure."""

from collections.abc import Iterator
from typing import Final

from kvraft.api_v2.go_json_reader import Object, Value, text_of
from kvraft.api_v2.go_json_scanner import GoJsonError

_FOLDED: Final = str.maketrans({"\u017f": "s", "\u212a": "k"})
"""The two letters beside ASCII that are the same as one of ASCII without regard to case."""


def fields(value: Value) -> Iterator[tuple[str, Value]]:
    """The fields of an object in their order, by their names in small letters; none of null.

    Raises:
        GoJsonError: it is neither.
    """
    if value is None:
        return
    if not isinstance(value, Object):
        raise GoJsonError("not an object")
    for name, item in value.pairs:
        yield name.translate(_FOLDED).lower(), item


def text(value: Value, before: str) -> str:
    """A string; null leaves what was there before.

    Raises:
        GoJsonError: it is neither.
    """
    if value is None:
        return before
    if not isinstance(value, str):
        raise GoJsonError("not a string")
    return text_of(value)


def texts(value: Value) -> tuple[str, ...] | None:
    """An array of strings, in which null is an empty one; null itself is None.

    Raises:
        GoJsonError: it is neither.
    """
    if value is None:
        return None
    if not isinstance(value, list):
        raise GoJsonError("not an array")
    return tuple(text(item, "") for item in value)
