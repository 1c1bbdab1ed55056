"""A checksum behind every message between members.

TCP's own has 16 bits, and a memory module or a network card that flips bits does it where TCP does not look. An entry
would be found out by its chain hash; a term or a granted vote would be believed.
"""

import zlib
from typing import Final

from kvraft import logs

CHECKSUM_BYTES: Final = 4
"""CRC-32 of what stands before it, little-endian."""

log = logs.get(__name__)


def seal(message: bytes) -> bytes:
    """The message with its checksum, as it travels."""
    return message + zlib.crc32(message).to_bytes(CHECKSUM_BYTES, "little")


def unseal(sealed: bytes) -> bytes:
    """The message; empty if it is damaged, which every decoder refuses, so that the stream ends.

    gRPC calls this where an exception would not reach the stream's reader.
    """
    message, checksum = sealed[:-CHECKSUM_BYTES], sealed[-CHECKSUM_BYTES:]
    if len(checksum) == CHECKSUM_BYTES and zlib.crc32(message) == int.from_bytes(checksum, "little"):
        return message
    log.warning("damaged message from a peer", bytes=len(sealed))
    return b""
