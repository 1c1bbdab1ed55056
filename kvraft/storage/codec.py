"""Between the core's types and bytes on disk: the only file that knows the layout of a record.

Every record begins with a CRC-32 over its key and its content, so a flipped bit, and a record that stands under another
record's key, are found when it is read. Integers are little-endian, except in keys, which sort as bytes.

Entries are stored in groups: one record for all entries of a commit (up to a size), under the index of the first.
One put stores a hundred entries and one delete removes them, which matters because each call into LMDB may hand the
interpreter lock to a busy event loop and wait to get it back.
Within a group stand, for each entry, its chain hash and its `record` exactly as the leader hashed and sent it.
"""

import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Final

from kvraft.raft.configuration import Configuration
from kvraft.raft.effects import HardState, Rebuilding
from kvraft.raft.entries import HASH_BYTES, Entry, entry_from_record
from kvraft.raft.restored import LogPosition
from kvraft.storage.errors import CorruptStorageError, NewerFormatError

FORMAT: Final = 1
"""Version of everything under the data directory. A directory with a larger number is refused."""

GROUP_BYTES_MAX: Final = 256 << 10
"""Records in one group. Small enough that reading one entry of it costs little, large enough for a whole commit."""
HISTORY_CHUNK_BYTES_MAX: Final = 64 << 10
HISTORY_CHUNK_RECORDS_MAX: Final = 256

META_PREFIX: Final = b"\x00"
GROUP_PREFIX: Final = b"\x01"
IDENTITY_KEY: Final = META_PREFIX + b"identity"
HARD_STATE_KEY: Final = META_PREFIX + b"hard_state"
BASE_KEY: Final = META_PREFIX + b"base"
CONFIGURATIONS_KEY: Final = META_PREFIX + b"configurations"
GENERATION_KEY: Final = META_PREFIX + b"generation"
PEER_PREFIX: Final = META_PREFIX + b"peer/"
LOG_META_KEYS: Final = frozenset((IDENTITY_KEY, HARD_STATE_KEY, BASE_KEY, CONFIGURATIONS_KEY, GENERATION_KEY))
"""In every log, beside one record for each peer that acknowledged something."""
POSITION_KEY: Final = META_PREFIX + b"position"
CONFIGURATION_KEY: Final = META_PREFIX + b"configuration"
KEYSPACE_KEY: Final = META_PREFIX + b"keyspace"
HISTORY_FLOOR_KEY: Final = META_PREFIX + b"history_floor"

_U32: Final = struct.Struct("<I")
_U64: Final = struct.Struct("<Q")
_KEY: Final = struct.Struct(">Q")
_GROUP_KEY: Final = struct.Struct(">BQ")
_HARD_STATE: Final = struct.Struct("<QQQ")
_REBUILDING: Final = struct.Struct("<BQQ")
_POSITION: Final = struct.Struct(f"<QQQ{HASH_BYTES}s")
_IDENTITY: Final = struct.Struct("<IQQ4s")
_INDEX_LENGTH: Final = struct.Struct("<QI")

POSITION_BYTES: Final = _POSITION.size

LOG_ENVIRONMENT: Final = b"log\x00"
STATE_ENVIRONMENT: Final = b"stat"


def seal(key: bytes, content: bytes) -> bytes:
    """The stored form of `content` under `key`."""
    return _U32.pack(zlib.crc32(content, zlib.crc32(key))) + content


def unseal(key: bytes, stored: bytes | None, where: str) -> bytes:
    """The content that `seal` stored.

    Raises:
        CorruptStorageError: the record is missing, or is not what was written.
    """
    if stored is None:
        raise CorruptStorageError(f"{where}: record {key!r} is missing; {REMEDY}")
    content = stored[4:]
    if len(stored) < 4 or _U32.unpack_from(stored)[0] != zlib.crc32(content, zlib.crc32(key)):
        raise CorruptStorageError(f"{where}: record {key!r} fails its checksum; {REMEDY}")
    return content


REMEDY: Final = "the disk or the file is damaged: start this member once with --rebuild, or restore its newest data"
"""What an operator can do: the other members hold everything that was acknowledged."""


def _unpack(layout: struct.Struct, key: bytes, content: bytes, where: str) -> tuple[int | bytes, ...]:
    if len(content) != layout.size:
        raise CorruptStorageError(f"{where}: record {key!r} has {len(content)} bytes, not {layout.size}; {REMEDY}")
    return layout.unpack(content)


def encode_hard_state(hard_state: HardState) -> bytes:
    """Stored under `HARD_STATE_KEY`.

    What a member that lost its disk has still to get back is part of it, and not a record of its own: if that went
    missing, the member would take itself for a new one, and vote again where it had voted.
    """
    content = _HARD_STATE.pack(hard_state.current_term, hard_state.voted_for, hard_state.commit_index)
    rebuilding = hard_state.rebuilding
    if rebuilding is not None:
        content += _REBUILDING.pack(rebuilding.asking, rebuilding.last_log_term, rebuilding.last_log_index)
    return seal(HARD_STATE_KEY, content)


def decode_hard_state(stored: bytes | None, where: str) -> HardState:
    """Raises CorruptStorageError."""
    content = unseal(HARD_STATE_KEY, stored, where)
    head, rest = content[: _HARD_STATE.size], content[_HARD_STATE.size :]
    term, vote, commit = _unpack(_HARD_STATE, HARD_STATE_KEY, head, where)
    rebuilding = None
    if rest:
        asking, last_log_term, last_log_index = _unpack(_REBUILDING, HARD_STATE_KEY, rest, where)
        rebuilding = Rebuilding(bool(asking), int(last_log_term), int(last_log_index))
    return HardState(int(term), int(vote), int(commit), rebuilding)


def pack_position(position: LogPosition) -> bytes:
    """40 bytes: index, term, log clock, chain hash."""
    return _POSITION.pack(position.index, position.term, position.clock_ms, position.chain_hash)


def unpack_position(key: bytes, content: bytes, where: str) -> LogPosition:
    """Raises CorruptStorageError if the length is wrong."""
    index, term, clock_ms, chain_hash = _unpack(_POSITION, key, content, where)
    assert isinstance(chain_hash, bytes)
    return LogPosition(int(index), int(term), chain_hash, int(clock_ms))


def encode_position(key: bytes, position: LogPosition) -> bytes:
    """Stored under `BASE_KEY` in the log, `POSITION_KEY` in the state."""
    return seal(key, pack_position(position))


def decode_position(key: bytes, stored: bytes | None, where: str) -> LogPosition:
    """Raises CorruptStorageError."""
    return unpack_position(key, unseal(key, stored, where), where)


def encode_number(key: bytes, number: int) -> bytes:
    """A counter: a peer's index, the generation of the state, the history floor."""
    return seal(key, _U64.pack(number))


def decode_number(key: bytes, stored: bytes | None, where: str) -> int:
    """Raises CorruptStorageError."""
    return int(_unpack(_U64, key, unseal(key, stored, where), where)[0])


def peer_key(member_id: int) -> bytes:
    """Where the index of a peer stands."""
    return PEER_PREFIX + _KEY.pack(member_id)


def is_peer_key(key: bytes) -> bool:
    """Whether `peer_key` made it."""
    return key.startswith(PEER_PREFIX) and len(key) == len(PEER_PREFIX) + _KEY.size


def member_of_peer_key(key: bytes) -> int:
    """The member id in `peer_key`."""
    return int(_KEY.unpack_from(key, len(PEER_PREFIX))[0])


def encode_identity(cluster_id: int, member_id: int, environment: bytes) -> bytes:
    """In both environments, so that the files of two members cannot be mixed unnoticed."""
    return seal(IDENTITY_KEY, _IDENTITY.pack(FORMAT, cluster_id, member_id, environment))


def decode_identity(stored: bytes | None, where: str) -> tuple[int, int, bytes]:
    """(cluster id, member id, which environment).

    Raises:
        CorruptStorageError: missing or damaged.
        NewerFormatError: written by a newer kvraft.
    """
    content = unseal(IDENTITY_KEY, stored, where)
    if len(content) >= _U32.size and (written := int(_U32.unpack_from(content)[0])) > FORMAT:
        raise NewerFormatError(f"{where} has format {written}; this kvraft reads {FORMAT}: run a newer kvraft")
    _, cluster_id, member_id, environment = _unpack(_IDENTITY, IDENTITY_KEY, content, where)
    assert isinstance(environment, bytes)
    return int(cluster_id), int(member_id), environment


def encode_configurations(configurations: Iterable[tuple[int, Configuration]]) -> bytes:
    """The configuration in force at the base, then that of each CONFIGURATION entry, so that no start has to search."""
    parts = []
    for index, configuration in configurations:
        encoded = configuration.encode()
        parts.append(_INDEX_LENGTH.pack(index, len(encoded)) + encoded)
    return seal(CONFIGURATIONS_KEY, b"".join(parts))


def decode_configurations(stored: bytes | None, where: str) -> list[tuple[int, Configuration]]:
    """Raises CorruptStorageError."""
    content = unseal(CONFIGURATIONS_KEY, stored, where)
    configurations = []
    offset = 0
    try:
        while offset < len(content):
            index, length = _INDEX_LENGTH.unpack_from(content, offset)
            offset += _INDEX_LENGTH.size
            configurations.append((index, Configuration.decode(content[offset : offset + length])))
            offset += length
    except (ValueError, struct.error) as error:
        raise CorruptStorageError(f"{where}: record {CONFIGURATIONS_KEY!r}: {error}; {REMEDY}") from error
    return configurations


def group_key(first_index: int) -> bytes:
    """Where the group that begins with this index stands."""
    return _GROUP_KEY.pack(GROUP_PREFIX[0], first_index)


def first_of_group_key(key: bytes) -> int:
    """The index in `group_key`."""
    return int(_GROUP_KEY.unpack(key)[1])


def encode_groups(entries: Sequence[Entry]) -> list[tuple[bytes, bytes]]:
    """(key, value) of the groups that hold these consecutive entries."""
    groups: list[tuple[bytes, bytes]] = []
    lengths = [len(entry.record) for entry in entries]
    start = 0
    while start < len(entries):
        end, size = start + 1, lengths[start]
        while end < len(entries) and size + lengths[end] <= GROUP_BYTES_MAX:
            size += lengths[end]
            end += 1
        groups.append(_encode_group(entries[start:end], lengths[start:end]))
        start = end
    return groups


def _encode_group(entries: Sequence[Entry], lengths: list[int]) -> tuple[bytes, bytes]:
    parts = [struct.pack(f"<{len(lengths) + 1}I", len(lengths), *lengths)]
    for entry in entries:
        parts += (entry.chain_hash, entry.record)
    key = group_key(entries[0].index)
    return key, seal(key, b"".join(parts))


def decode_group(key: bytes, stored: bytes, first: int, last: int, where: str) -> list[Entry]:
    """The entries of a group between two indices inclusive; those that it does not hold are left out.

    Raises:
        CorruptStorageError: checksum, lengths or indices do not fit.
    """
    content = unseal(key, stored, where)
    begins = first_of_group_key(key)
    try:
        (count,) = _U32.unpack_from(content)
        lengths = struct.unpack_from(f"<{count}I", content, 4)
        offsets = list(accumulate((HASH_BYTES + length for length in lengths), initial=4 + 4 * count))
        if offsets[-1] != len(content) or count == 0:
            raise CorruptStorageError(f"{where}: group at index {begins} has a wrong length; {REMEDY}")
        entries = []
        for at in range(max(first - begins, 0), min(last - begins + 1, count)):
            begin = offsets[at]
            entry = entry_from_record(
                content[begin : begin + HASH_BYTES], content[begin + HASH_BYTES : offsets[at + 1]]
            )
            if entry.index != begins + at:
                raise CorruptStorageError(f"{where}: entry {entry.index} stands at index {begins + at}; {REMEDY}")
            entries.append(entry)
    except (ValueError, struct.error) as error:
        raise CorruptStorageError(f"{where}: group at index {begins}: {error}; {REMEDY}") from error
    return entries


def position_of(entry: Entry) -> LogPosition:
    """The end of the log, if `entry` is its last."""
    return LogPosition(entry.index, entry.term, entry.chain_hash, entry.clock_ms)


def encode_history(records: Sequence[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """(key, value) of the chunks that hold these history records, which are ascending by etcd_index."""
    chunks: list[tuple[bytes, bytes]] = []
    parts: list[bytes] = []
    size = 0
    key = b""
    for index_key, record in records:
        full = size + len(record) > HISTORY_CHUNK_BYTES_MAX or len(parts) >= 2 * HISTORY_CHUNK_RECORDS_MAX
        if parts and full:
            chunks.append((key, seal(key, b"".join(parts))))
            parts, size = [], 0
        if not parts:
            key = index_key
        parts += (_INDEX_LENGTH.pack(_KEY.unpack(index_key)[0], len(record)), record)
        size += len(record)
    if parts:
        chunks.append((key, seal(key, b"".join(parts))))
    return chunks


def decode_history(key: bytes, stored: bytes, where: str) -> Iterator[tuple[int, bytes]]:
    """(etcd_index, record) of one chunk, ascending.

    Raises:
        CorruptStorageError: checksum or lengths do not fit.
    """
    content = unseal(key, stored, where)
    offset = 0
    while offset < len(content):
        if len(content) - offset < _INDEX_LENGTH.size:
            raise CorruptStorageError(f"{where}: history chunk {key!r} has a wrong length; {REMEDY}")
        etcd_index, length = _INDEX_LENGTH.unpack_from(content, offset)
        offset += _INDEX_LENGTH.size
        if length > len(content) - offset:
            raise CorruptStorageError(f"{where}: history chunk {key!r} has a wrong length; {REMEDY}")
        yield etcd_index, content[offset : offset + length]
        offset += length


def number_key(number: int) -> bytes:
    """8 bytes big-endian: node ids and etcd indices as keys."""
    return _KEY.pack(number)


def number_of_key(key: bytes) -> int:
    """The number in `number_key`."""
    return int(_KEY.unpack(key)[0])
