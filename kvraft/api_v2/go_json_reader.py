"""JSON as Go's encoding/json reads it, with its words for what is wrong (go1.19 encoding/json decode.go).

`read` is json.Unmarshal: first the whole text is scanned, as there, so that what comes first in it is complained about.
`first_value` is json.Decoder, of which nobody wants Go's words. Python's decoder makes the values; deeper than some
1,000 levels it refuses what Go takes. So do both of what is longer, or of more values, than anybody has a use for: each
value is an object of Python's, and 10 MiB of `[1,1` would be 400 MB and a second of the event loop.
"""

import json
import re
from dataclasses import dataclass
from typing import Final, final

from kvraft.api_v2.go_json_scanner import GoJsonError, scan

BYTES_MAX: Final = 1 << 20
"""Of a text. The longest that means something are roles: a few times 1,024 patterns."""
VALUES_MAX: Final = 16 << 10
"""In a text; 10 to 50 ms of work."""
_EASY_BYTES: Final = 64 << 10
"""May be values and nothing else, as what follows the first one counts for nothing."""

_SURROGATES: Final = re.compile("[\ud800-\udfff]")


@final
@dataclass(slots=True, frozen=True)
class Object:
    """A JSON object: names may come twice, and Go takes each in turn."""

    pairs: list[tuple[str, "Value"]]


@final
@dataclass(slots=True, frozen=True)
class Number:
    """A JSON number, as it stands in the text."""

    text: str


Value = Object | Number | str | bool | list["Value"] | None


def _refuse_constant(name: str) -> object:
    """NaN and Infinity are no JSON for Go."""
    raise ValueError(name)


_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=Object, parse_int=Number, parse_float=Number, parse_constant=_refuse_constant
)


def read(data: bytes) -> Value:
    """The one value of a text; what is not UTF-8 in its strings is U+FFFD.

    Raises:
        GoJsonError: in Go's words.
    """
    if len(data) > BYTES_MAX or _has_too_many_values(data):
        raise GoJsonError("http: request body too large")
    scan(data)
    return first_value(data)


def first_value(data: bytes) -> Value:
    """The first value of a text; what follows it is not looked at.

    Raises:
        GoJsonError: there is none, or its end is too far away.
    """
    data = data[:BYTES_MAX]
    if len(data) > _EASY_BYTES and _has_too_many_values(data):
        raise GoJsonError("too many values")
    text = data.decode("utf-8", "surrogateescape").lstrip(" \t\r\n")
    try:
        value: Value = _DECODER.raw_decode(text)[0]
    except RecursionError as error:
        raise GoJsonError("invalid character '[' exceeded max depth") from error
    except ValueError as error:
        raise GoJsonError(str(error)) from error
    return value


def _has_too_many_values(data: bytes) -> bool:
    """Each value but the first stands behind one of these; a few stand in strings, too."""
    return data.count(b",") + data.count(b"[") + data.count(b"{") > VALUES_MAX


def text_of(text: str) -> str:
    """A string of the document as Go has it: halves of surrogate pairs and bytes that are not UTF-8 are U+FFFD."""
    return _SURROGATES.sub("\ufffd", text)


def kind_of(value: Value) -> str:
    """What Go calls it where something else was expected."""
    match value:
        case None:
            return "null"
        case bool():
            return "bool"
        case str():
            return "string"
        case Number():
            return "number"
        case Object():
            return "object"
        case _:
            return "array"
