"""JSON as Go's encoding/json reads it, with its words for what is wrong (go1.19 encoding/json scanner.go, decode.go).

`read` is json.Unmarshal: first the whole text is scanned, as there, so that what comes first in it is complained about.
`first_value` is json.Decoder, of which nobody wants Go's words. Python's decoder makes the values; deeper than some
1,000 levels it refuses what Go takes.
"""

import json
import re
from dataclasses import dataclass
from typing import Final, final

DEPTH_MAX: Final = 10_000
"""Arrays and objects inside each other: Go's maxNestingDepth."""

_END: Final = "unexpected end of JSON input"
_BLANKS: Final = b" \t\r\n"
_PLAIN: Final = re.compile(rb'[^\x00-\x1f"\\]*')
_DIGITS: Final = re.compile(rb"[0-9]*")
_LITERALS: Final = {ord("t"): b"true", ord("f"): b"false", ord("n"): b"null"}
_ESCAPES: Final = b'bfnrt\\/"u'
_SURROGATES: Final = re.compile("[\ud800-\udfff]")
_SHORT: Final = {"\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v"}


@final
class GoJsonError(ValueError):
    """The text is no JSON, or not of the form that is wanted."""


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
    _Scanner(data).scan()
    return first_value(data)


def first_value(data: bytes) -> Value:
    """The first value of a text; what follows it is not looked at.

    Raises:
        GoJsonError: there is none.
    """
    text = data.decode("utf-8", "surrogateescape").lstrip(" \t\r\n")
    try:
        value: Value = _DECODER.raw_decode(text)[0]
    except RecursionError as error:
        raise GoJsonError("invalid character '[' exceeded max depth") from error
    except ValueError as error:
        raise GoJsonError(str(error)) from error
    return value


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


def go_quote(text: str, mark: str = '"') -> str:
    """strconv.Quote, with these quotation marks."""
    quoted = []
    for char in text:
        if char in {mark, "\\"}:
            quoted.append("\\" + char)
        elif char.isprintable():
            quoted.append(char)
        elif char in _SHORT:
            quoted.append(_SHORT[char])
        elif char < " " or char == "\x7f" or "\udc80" <= char <= "\udcff":
            quoted.append(f"\\x{ord(char) & 0xFF:02x}")  # a surrogate stands for a byte that is not UTF-8
        else:
            quoted.append(f"\\u{ord(char):04x}" if ord(char) < 0x10000 else f"\\U{ord(char):08x}")
    return mark + "".join(quoted) + mark


def _character(byte: int) -> str:
    """A byte as Go shows it: as the character of that number."""
    return go_quote(chr(byte), "'")


@final
class _Scanner:
    """Finds the first character that cannot stand where it does; never recurses."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def scan(self) -> None:
        """The whole text."""
        closing: list[int] = []
        is_empty = False
        while True:
            if is_empty and self._peek() == closing[-1]:
                self._at += 1
                closing.pop()
            else:
                if closing and closing[-1] == ord("}"):
                    self._begin_member()
                opened = self._begin_value()
                if opened is not None:
                    closing.append(opened)
                    if len(closing) > DEPTH_MAX:
                        self._at -= 1
                        raise self._error("exceeded max depth")
                    is_empty = True
                    continue
            is_empty = False
            if not self._end_value(closing):
                return

    def _begin_member(self) -> None:
        """A name and its colon."""
        if self._peek() != ord('"'):
            raise self._error("looking for beginning of object key string")
        self._string()
        if self._peek() != ord(":"):
            raise self._error("after object key")
        self._at += 1

    def _begin_value(self) -> int | None:
        """A whole value but for arrays and objects: of those only the bracket, and what closes it is returned."""
        byte = self._peek()
        if byte in b"{[":
            self._at += 1
            return ord("}") if byte == ord("{") else ord("]")
        if byte == ord('"'):
            self._string()
        elif byte in _LITERALS:
            self._literal(_LITERALS[byte])
        elif byte in b"-0123456789":
            self._number()
        else:
            raise self._error("looking for beginning of value")
        return None

    def _end_value(self, closing: list[int]) -> bool:
        """What follows a value, up to where the next begins; False at the end of the text."""
        while closing:
            byte = self._peek()
            if byte == ord(","):
                self._at += 1
                return True
            if byte != closing[-1]:
                raise self._error("after object key:value pair" if closing[-1] == ord("}") else "after array element")
            self._at += 1
            closing.pop()
        if self._data[self._at :].strip(_BLANKS):
            self._peek()
            raise self._error("after top-level value")
        return False

    def _string(self) -> None:
        self._at += 1
        while True:
            found = _PLAIN.match(self._data, self._at)
            assert found is not None
            self._at = found.end()
            if self._at == len(self._data):
                raise GoJsonError(_END)
            byte = self._byte()
            if byte == ord('"'):
                self._at += 1
                return
            if byte != ord("\\"):
                raise self._error("in string literal")
            self._at += 1
            escape = self._byte()
            if escape not in _ESCAPES:
                raise self._error("in string escape code")
            self._at += 1
            for _ in range(4 if escape == ord("u") else 0):
                if self._byte() not in b"0123456789abcdefABCDEF":
                    raise self._error("in \\u hexadecimal character escape")
                self._at += 1

    def _literal(self, literal: bytes) -> None:
        for expected in literal:
            if self._byte() != expected:
                raise self._error(f"in literal {literal.decode()} (expecting {_character(expected)})")
            self._at += 1

    def _number(self) -> None:
        if self._byte() == ord("-"):
            self._at += 1
        if self._byte() == ord("0"):
            self._at += 1
        else:
            self._digits("in numeric literal")
        if self._data[self._at : self._at + 1] == b".":
            self._at += 1
            self._digits("after decimal point in numeric literal")
        if self._data[self._at : self._at + 1] in {b"e", b"E"}:
            self._at += 1
            if self._byte() in b"+-":
                self._at += 1
            self._digits("in exponent of numeric literal")

    def _digits(self, context: str) -> None:
        """One or more."""
        found = _DIGITS.match(self._data, self._at)
        assert found is not None
        if not found.group():
            raise self._error(context)
        self._at = found.end()

    def _peek(self) -> int:
        """The next byte that is no blank.

        Raises:
            GoJsonError: the text ends.
        """
        data = self._data
        while self._at < len(data):
            if data[self._at] not in _BLANKS:
                return data[self._at]
            self._at += 1
        raise GoJsonError(_END)

    def _byte(self) -> int:
        """The byte here; at the end of the text a blank, as Go tries one before it says that something is missing."""
        return self._data[self._at] if self._at < len(self._data) else ord(" ")

    def _error(self, context: str) -> GoJsonError:
        """The byte here is wrong."""
        return GoJsonError(f"invalid character {_character(self._byte())} {context}")
