"""Where bodies end, found while they pass through. Pure."""

import re
from typing import Final, Protocol, final

from kvraft.proxy.heads import CHUNKED, UNTIL_CLOSE

_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,12})(?:[ \t]*;[\t\x20-\x7e\x80-\xff]*)?")
_LINE_BYTES_MAX: Final = 4096
"""Go's limit (net/http/internal/chunked.go, maxLineLength)."""
_TRAILER_BYTES_MAX: Final = 64 << 10


@final
class BrokenBodyError(Exception):
    """Chunks whose end cannot be told; the text has Go's words for it."""


class Body(Protocol):
    """A body of which pieces pass through."""

    is_over: bool

    def feed(self, data: bytes, content: list[bytes] | None = None) -> int:
        """How many of these bytes are the body's, and all of them unless it ends here.

        `content` gets what is in the body, without its frame.

        Raises:
            BrokenBodyError: its end cannot be told.
        """
        ...


def body_of(length: int) -> Body:
    """A body of so many bytes, or of one of the two other kinds."""
    if length == CHUNKED:
        return Chunked()
    return Counted(length) if length != UNTIL_CLOSE else Endless()


@final
class Counted:
    """Its length is known."""

    __slots__ = ("_left", "is_over")

    def __init__(self, length: int) -> None:
        self._left = length
        self.is_over = not length

    def feed(self, data: bytes, content: list[bytes] | None = None) -> int:
        """See `Body.feed`."""
        size = min(self._left, len(data))
        self._left -= size
        self.is_over = not self._left
        if content is not None and size:
            content.append(data[:size])
        return size


@final
class Endless:
    """It ends with its connection."""

    __slots__ = ("is_over",)

    def __init__(self) -> None:
        self.is_over = False

    def feed(self, data: bytes, content: list[bytes] | None = None) -> int:
        """See `Body.feed`."""
        if content is not None and data:
            content.append(data)
        return len(data)


@final
class Chunked:
    """It has a size before each piece (RFC 9112, 7.1)."""

    __slots__ = ("_is_behind_data", "_is_trailer", "_left", "_line", "_trailer_left", "is_over")

    def __init__(self) -> None:
        self.is_over = False
        self._left = 0
        """Of the chunk's data."""
        self._is_behind_data = False
        """Its CRLF is still to come."""
        self._is_trailer = False
        self._trailer_left = _TRAILER_BYTES_MAX
        self._line = b""
        """The beginning of a line whose end has not come."""

    def feed(self, data: bytes, content: list[bytes] | None = None) -> int:
        """See `Body.feed`."""
        at, size = 0, len(data)
        while at < size and not self.is_over:
            if self._left:
                end = min(at + self._left, size)
                self._left -= end - at
                if content is not None:
                    content.append(data[at:end])
                at = end
                continue
            end = data.find(b"\n", at)
            self._line += data[at:] if end < 0 else data[at : end + 1]
            if len(self._line) > _LINE_BYTES_MAX:
                raise BrokenBodyError("header line too long")
            if end < 0:
                break
            at = end + 1
            line, self._line = self._line, b""
            if not line.endswith(b"\r\n"):
                raise BrokenBodyError("malformed chunked encoding")
            self._read_line(line[:-2])
        return at if self.is_over else size

    def _read_line(self, line: bytes) -> None:
        if self._is_behind_data:
            if line:
                raise BrokenBodyError("malformed chunked encoding")
            self._is_behind_data = False
        elif self._is_trailer:
            self._trailer_left -= len(line)
            if self._trailer_left < 0 or b"\r" in line or b"\0" in line or (line and b":" not in line):
                raise BrokenBodyError("malformed trailer")
            self.is_over = not line
        else:
            found = _SIZE.fullmatch(line)
            if found is None:
                raise BrokenBodyError("invalid byte in chunk length")
            self._left = int(found[1], 16)
            self._is_behind_data = self._left > 0
            self._is_trailer = not self._left
