"""The Date header line, made once a second."""

from collections.abc import Callable
from email.utils import formatdate
from typing import final


@final
class DateLine:
    """`Date: ...` for the current second."""

    __slots__ = ("_line", "_second", "_wall_ns")

    def __init__(self, wall_ns: Callable[[], int]) -> None:
        self._wall_ns = wall_ns
        self._second = -1
        self._line = b""

    def __call__(self) -> bytes:
        """The line with its CRLF."""
        second = self._wall_ns() // 1_000_000_000
        if second != self._second:
            self._second = second
            self._line = f"Date: {formatdate(second, usegmt=True)}\r\n".encode()
        return self._line
