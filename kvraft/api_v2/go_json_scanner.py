"""What is wrong with a JSON text, in the words of Go's encoding/json (go1.19 encoding/json scanner.go). Pure."""

import re
from typing import Final, final

DEPTH_MAX: Final = 10_000
"""Arrays and objects inside each other: Go's maxNestingDepth."""

_END: Final = "unexpected end of JSON input"
_BLANKS: Final = b" \t\r\n"
_BLANK: Final = re.compile(rb"[ \t\r\n]*")
_GOOD_TEXT: Final = re.compile(rb'[^\x00-\x1f"\\]*(?:\\(?:[bfnrt\\/"]|u[0-9A-Fa-f]{4})[^\x00-\x1f"\\]*)*')
_DIGITS: Final = re.compile(rb"[0-9]*")
_LITERALS: Final = {ord("t"): b"true", ord("f"): b"false", ord("n"): b"null"}
_ESCAPES: Final = b'bfnrt\\/"u'
_SHORT: Final = {"\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v"}


@final
class GoJsonError(ValueError):
    """The text is no JSON, or not of the form that is wanted."""


def scan(data: bytes) -> None:
    """Look for the first character that cannot stand where it does.

    Raises:
        GoJsonError: there is one, or the text ends too early.
    """
    _Scanner(data).scan()


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
            found = _GOOD_TEXT.match(self._data, self._at)
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
        found = _BLANK.match(self._data, self._at)
        assert found is not None
        self._at = found.end()
        if self._at < len(self._data):
            return self._data[self._at]
        raise GoJsonError(_END)

    def _byte(self) -> int:
        """The byte here; at the end of the text a blank, as Go tries one before it says that something is missing."""
        return self._data[self._at] if self._at < len(self._data) else ord(" ")

    def _error(self, context: str) -> GoJsonError:
        """The byte here is wrong."""
        return GoJsonError(f"invalid character {_character(self._byte())} {context}")
