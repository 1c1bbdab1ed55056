"""Messages in a stream of bytes: where each ends, and whether it is what was sent. No I/O.

TCP's own checksum has 16 bits, and a memory module or a network card that flips bits does it where TCP does not look.
An entry would be found out by its chain hash; a term or a granted vote would be believed. The length stands twice, as
a damaged one would otherwise wait for bytes that never come.
"""

import struct
import zlib
from typing import Final, final

from kvraft.transport.codec import WireError

MAGIC: Final = b"\x00kvraft\x01"
"""What a dialler sends first. HTTP begins with a letter, TLS with 0x16."""
_HEADER: Final = struct.Struct("<III")
_INVERTED: Final = 0xFFFFFFFF


def seal(message: bytes) -> bytes:
    """The message as it travels."""
    length = len(message)
    return _HEADER.pack(length, length ^ _INVERTED, zlib.crc32(message)) + message


PING: Final = seal(b"")
"""Says that its sender is alive, and nothing else."""


@final
class Splitter:
    """Finds the messages in what arrives on one connection; holds at most one that is not complete."""

    __slots__ = ("_need", "_rest", "message_bytes_max")

    def __init__(self, message_bytes_max: int) -> None:
        self.message_bytes_max = message_bytes_max
        self._rest = bytearray()
        self._need = _HEADER.size
        """Bytes without which nothing new is complete."""

    def clear(self) -> None:
        """Drop what is not complete: nothing more comes."""
        self._rest = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """The messages that are complete with these bytes; pings are not among them.

        Raises:
            WireError: damaged, or longer than allowed. Nothing of these bytes is to be used.
        """
        if self._rest:
            self._rest += data
            if len(self._rest) < self._need:
                return []
            data = bytes(self._rest)
            self._rest = bytearray()
        messages: list[bytes] = []
        start, end = 0, len(data)
        header_bytes = _HEADER.size
        self._need = header_bytes
        while end - start >= header_bytes:
            length, inverted, checksum = _HEADER.unpack_from(data, start)
            if length ^ inverted != _INVERTED:
                raise WireError("a damaged message: its length is none")
            if length > self.message_bytes_max:
                raise WireError(f"a message of {length} bytes")
            stop = start + header_bytes + length
            if stop > end:
                self._need = header_bytes + length
                break
            message = data[start + header_bytes : stop]
            if zlib.crc32(message) != checksum:
                raise WireError(f"a damaged message of {length} bytes")
            if length:
                messages.append(message)
            start = stop
        if start < end:
            self._rest += memoryview(data)[start:]
        return messages
