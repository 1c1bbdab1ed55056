"""What is read from disk and from a peer's snapshot: a value, or one of the typed errors that stop a member.

Checksums find damage before any decoder sees it. So damage is done inside and sealed anew here: what a decoder would
meet if a checksum let it pass, or if another version had written it.
"""

import contextlib
import hashlib
import pathlib
import struct
import tempfile
import zlib
from collections.abc import Callable, Iterator
from typing import Any, Final

from hypothesis import strategies as st

from kvraft.keyspace.account_commands import Permissions, PutRole, PutUser
from kvraft.keyspace.commands import Command, Create, CreateInOrder, Delete, PublishMember, Set, SetClusterVersion
from kvraft.keyspace.keyspace import Keyspace
from kvraft.keyspace.records import RecordError, decode_event, decode_meta, decode_node
from kvraft.keyspace.state_records import StateChanges, StateImage
from kvraft.raft.configuration import Configuration
from kvraft.raft.effects import HardState
from kvraft.raft.entries import ZERO_HASH, EntryKind, entries_from_wire, make_entry
from kvraft.raft.restored import LogPosition
from kvraft.storage import codec
from kvraft.storage.errors import StorageError
from kvraft.storage.spool import DIGEST_BYTES, MAGIC, SpoolHeader, read_spool, write_spool
from tests.fuzz.damage import damaged
from tests.fuzz.engine import Check, Target
from tests.keyspace.flushes import take_changes

REPOSITORY: Final = pathlib.Path(__file__).resolve().parents[2]
CONFIGURATION: Final = Configuration.of((1, 2, 3), (4,))
WITH_REMOVED: Final = Configuration.of((1, 3), (4,), (2, 5))
POSITION: Final = LogPosition(9, 2, b"h" * 16, 7000)
ENTRIES: Final = [make_entry(ZERO_HASH, index, 1, EntryKind.COMMAND, index, b"x" * index) for index in range(3, 8)]


def _state() -> StateChanges:
    """A small state with everything in it: directories, TTLs, raw values, history."""
    keyspace = Keyspace(history_events_max=20)
    commands: tuple[Command, ...] = (
        PublishMember(5, "n1", ("http://127.0.0.1:2379",)),
        SetClusterVersion("3.4.0"),
        Set(b"/a/b/c", b"value"),
        Set(b"/a/b/c", b"\xff raw"),
        Create(b"/dir", directory=True, ttl_s=60, expiration_ns=5),
        CreateInOrder(b"/queue", b"1", ttl_s=9, expiration_ns=6),
        PutUser("root", b"$2b$10$hash"),
        PutRole("r", Permissions(("/a/*",), None)),
        Set(b"/gone", b"x"),
        Delete(b"/gone"),
    )
    for number, command in enumerate(commands):
        keyspace.apply(command, 1000 * number)
    return take_changes(keyspace)


STATE: Final = _state()
NODES: Final = sorted(STATE.nodes)
META_VALUES: Final = st.sampled_from(
    (
        b"0",
        b"-1",
        b"1e400",
        b"NaN",
        b"null",
        b'"x"',
        b"[]",
        b"{}",
        b"[[1,2]]",
        b"9" * 5000,
        b"[" * 20_000,
        b'"\\ud800"',
        b"18446744073709551616",
    )
)


@st.composite
def metas(draw: st.DrawFn) -> bytes:
    """A meta record with the value of one field exchanged."""
    fields = STATE.meta.split(b',"')
    at = draw(st.integers(0, len(fields) - 1))
    name, colon, _ = fields[at].partition(b":")
    fields[at] = name + colon + draw(META_VALUES)
    return b',"'.join(fields)


Decoder = Callable[[bytes, bytes], Any]
GROUPS: Final = codec.encode_groups(ENTRIES)
CHUNKS: Final = codec.encode_history(STATE.history)
SEALED: Final[dict[str, tuple[bytes, bytes, Decoder]]] = {
    "hard state": (
        codec.HARD_STATE_KEY,
        codec.encode_hard_state(HardState(3, 1, 9)),
        lambda _key, stored: codec.decode_hard_state(stored, "here"),
    ),
    "position": (
        codec.BASE_KEY,
        codec.encode_position(codec.BASE_KEY, POSITION),
        lambda key, stored: codec.decode_position(key, stored, "here"),
    ),
    "number": (
        codec.GENERATION_KEY,
        codec.encode_number(codec.GENERATION_KEY, 5),
        lambda key, stored: codec.decode_number(key, stored, "here"),
    ),
    "identity": (
        codec.IDENTITY_KEY,
        codec.encode_identity(7, 1, codec.LOG_ENVIRONMENT),
        lambda _key, stored: codec.decode_identity(stored, "here"),
    ),
    "configurations": (
        codec.CONFIGURATIONS_KEY,
        codec.encode_configurations([(0, CONFIGURATION), (5, Configuration.of((1, 2)))]),
        lambda _key, stored: codec.decode_configurations(stored, "here"),
    ),
    "group": (*GROUPS[0], lambda key, stored: codec.decode_group(key, stored, 0, 2**64, "here")),
    "history": (*CHUNKS[0], lambda key, stored: list(codec.decode_history(key, stored, "here"))),
}
PLAIN: Final[dict[str, tuple[st.SearchStrategy[bytes], Callable[[bytes], Any]]]] = {
    "node": (st.sampled_from([record for _, record in NODES]), decode_node),
    "event": (st.sampled_from([record for _, record in STATE.history]), lambda record: decode_event(9, record)),
    "meta": (metas(), decode_meta),
    "configuration": (st.sampled_from((CONFIGURATION.encode(), WITH_REMOVED.encode())), Configuration.decode),
    "entry": (
        st.sampled_from([entry.chain_hash + entry.record for entry in ENTRIES]),
        lambda data: entries_from_wire([data]),
    ),
}
PLAIN_ERRORS: Final = {"configuration": ValueError, "entry": ValueError}
"""Those of the core; the keyspace raises `RecordError`."""

SNAPSHOT_RECORDS: Final = [
    *((0, key, codec.seal(key, record)) for key, record in NODES),
    *((1, key, stored) for key, stored in CHUNKS),
    *((2, key, codec.seal(key, record)) for key, record in STATE.accounts),
]
HEADER: Final = SpoolHeader(
    7, POSITION, CONFIGURATION.encode(), STATE.meta, 1, len(NODES), len(CHUNKS), len(STATE.accounts)
)


def _snapshot_frames() -> list[bytes]:
    with tempfile.TemporaryDirectory(dir=_scratch()) as directory:
        content = pathlib.Path(write_spool(pathlib.Path(directory), HEADER, SNAPSHOT_RECORDS).path).read_bytes()
    frames, offset = [], len(MAGIC)
    while offset < len(content) - DIGEST_BYTES:
        length = struct.unpack_from("<I", content, offset)[0]
        frames.append(content[offset + 8 : offset + 8 + length])
        offset += 8 + length
    return frames


def _scratch() -> pathlib.Path:
    path = REPOSITORY / "build" / "fuzz"
    path.mkdir(parents=True, exist_ok=True)
    return path


FRAMES: Final = _snapshot_frames()


def unsealed(name: str) -> bytes:
    """The good record of this name in `SEALED`, without its checksum."""
    return SEALED[name][1][4:]


@st.composite
def sealed(draw: st.DrawFn) -> tuple[str, Any]:
    """A record of the storage, damaged below its checksum."""
    name = draw(st.sampled_from(sorted(SEALED)))
    return name, draw(damaged(st.just(unsealed(name))))


@st.composite
def plain(draw: st.DrawFn) -> tuple[str, Any]:
    """A record of keyspace or core."""
    name = draw(st.sampled_from(sorted(PLAIN)))
    return name, draw(damaged(PLAIN[name][0]) if draw(st.booleans()) else PLAIN[name][0])


@st.composite
def snapshots(draw: st.DrawFn) -> tuple[str, Any]:
    """Frames of a snapshot file, each damaged below its checksum, or the whole file damaged above it."""
    frames = [draw(damaged(st.just(frame))) if draw(st.booleans()) else frame for frame in FRAMES]
    parts = [MAGIC, *(struct.pack("<II", len(frame), zlib.crc32(frame)) + frame for frame in frames)]
    content = b"".join(parts)
    content += hashlib.blake2b(content, digest_size=DIGEST_BYTES).digest()
    return "snapshot", draw(damaged(st.just(content))) if draw(st.integers(0, 3)) == 0 else content


@st.composite
def states(draw: st.DrawFn) -> tuple[str, Any]:
    """A stored state of records that each may be damaged, missing, doubled or in another order."""
    nodes = [(key, draw(damaged(st.just(record))) if draw(st.integers(0, 3)) == 0 else record) for key, record in NODES]
    nodes = draw(st.lists(st.sampled_from(nodes), max_size=9)) if draw(st.booleans()) else nodes
    history = draw(st.lists(st.sampled_from(STATE.history), max_size=4)) if draw(st.booleans()) else STATE.history
    accounts = [(key, draw(damaged(st.just(record)))) for key, record in STATE.accounts]
    accounts = accounts if draw(st.integers(0, 3)) == 0 else STATE.accounts
    return "state", (draw(metas()) if draw(st.integers(0, 4)) == 0 else STATE.meta, nodes, history, accounts)


INPUTS: Final = st.one_of(sealed(), plain(), snapshots(), states())


@contextlib.contextmanager
def _open() -> Iterator[Check]:
    with tempfile.TemporaryDirectory(dir=_scratch()) as directory:
        path = pathlib.Path(directory) / "fuzzed.snapshot"
        yield lambda given: check(given, path)


def check(given: tuple[str, Any], path: pathlib.Path) -> str:
    """One record, snapshot or state; the errors are those that its reader catches, and their text is one line."""
    name, data = given
    try:
        if name in SEALED:
            key, _, decode = SEALED[name]
            decode(key, codec.seal(key, data))
        elif name in PLAIN:
            PLAIN[name][1](data)
        elif name == "snapshot":
            path.write_bytes(data)
            _, records = read_spool(path)
            list(records)
        else:
            meta, *tables = data
            loading = Keyspace(history_events_max=20).begin_load(StateImage(meta, *map(iter, tables)))
            while loading.load_some(3):
                continue
    except (StorageError, RecordError, PLAIN_ERRORS.get(name, RecordError)) as error:
        assert str(error).isprintable()
        return f"{name} refused"
    return f"{name} read"


TARGET: Final = Target(
    "records", INPUTS, _open, frozenset({"snapshot refused", "state refused", "group refused", "state read"})
)
