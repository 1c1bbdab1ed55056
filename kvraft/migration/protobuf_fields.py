"""The fields of a protobuf message, read by number: what etcd wrote, of which a dozen fields are wanted.

No generated code: etcd's strings may hold bytes that are not UTF-8, and an entry is told to be one of two messages only
by what is in it (see `etcd_entries.py`); protobuf's own library decides both too early.
https://protobuf.dev/programming-guides/encoding
"""

from typing import Final

_VARINT: Final = 0
_FIXED_64: Final = 1
_BYTES: Final = 2
_FIXED_32: Final = 5
_VARINT_BYTES_MAX: Final = 10

Fields = dict[int, list[int | bytes]]


class NotProtobufError(ValueError):
    """The bytes are no message."""


def fields_of(message: bytes | memoryview) -> Fields:
    """Every value of every field, in order; nested messages are bytes.

    Raises:
        NotProtobufError: a field ends beyond the message, or is of a kind that nobody writes any more.
    """
    found: Fields = {}
    at, end = 0, len(message)
    while at < end:
        tag, at = _varint(message, at)
        number, kind = tag >> 3, tag & 7
        value: int | bytes
        if kind == _VARINT:
            value, at = _varint(message, at)
        elif kind == _BYTES:
            size, at = _varint(message, at)
            value, at = _cut(message, at, size), at + size
        elif kind in (_FIXED_64, _FIXED_32):
            size = 8 if kind == _FIXED_64 else 4
            value, at = int.from_bytes(_cut(message, at, size), "little"), at + size
        else:
            raise NotProtobufError(f"field {number} is of kind {kind}")
        if not number:
            raise NotProtobufError("a field has the number 0")
        found.setdefault(number, []).append(value)
    return found


def number_in(fields: Fields, number: int) -> int:
    """The last value of a field of numbers; 0 if it is absent, or no number."""
    value = fields.get(number, (0,))[-1]
    return value if isinstance(value, int) else 0


def bytes_in(fields: Fields, number: int) -> bytes:
    """The last value of a field of bytes; empty if it is absent, or none."""
    value = fields.get(number, (b"",))[-1]
    return value if isinstance(value, bytes) else b""


def signed_in(fields: Fields, number: int) -> int:
    """The last value of a field of signed 64-bit numbers."""
    value = number_in(fields, number)
    return value - (1 << 64) if value >> 63 else value


def _varint(message: bytes | memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 7 * _VARINT_BYTES_MAX, 7):
        if at >= len(message):
            raise NotProtobufError("a number goes on beyond the message")
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & ((1 << 64) - 1), at
    raise NotProtobufError("a number has more than 64 bits")


def _cut(message: bytes | memoryview, at: int, size: int) -> bytes:
    if size > len(message) - at:
        raise NotProtobufError(f"{size} bytes are said to follow where {len(message) - at} are left")
    return bytes(message[at : at + size])
