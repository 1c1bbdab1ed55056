"""The bytes of format 1. A change of any of them is a new format, which must still read these."""

import dataclasses
import json
from pathlib import Path

import pytest

from kvraft.founding import Founder, Identity
from kvraft.raft.configuration import Configuration
from kvraft.raft.effects import HardState, Rebuilding
from kvraft.raft.entries import EntryKind, make_entry
from kvraft.raft.restored import LogPosition
from kvraft.storage import codec
from kvraft.storage.environment import claim, complete_creation, lock_directory, stored_identity
from kvraft.storage.spool import ACCOUNT, HISTORY, NODE, SpoolHeader, read_spool, write_spool

GOLDEN = Path(__file__).parents[1] / "data" / "storage" / "format_1.json"

POSITION = LogPosition(7, 3, bytes(range(16)), 1_700_000_000_123)
SET = make_entry(POSITION.chain_hash, 8, 3, EntryKind.COMMAND, 1_700_000_000_200, b"set /a")
CHANGE = make_entry(
    SET.chain_hash, 9, 4, EntryKind.CONFIGURATION, 1_700_000_000_201, Configuration.of([1, 2, 3], [9]).encode()
)
NOOP = make_entry(CHANGE.chain_hash, 10, 5, EntryKind.NOOP, 1_700_000_000_202, b"")
CONFIGURATIONS = [(7, Configuration.of([1, 2, 3])), (9, Configuration.of([1, 2, 3], [9]))]
WITH_REMOVED = Configuration.of([1, 3], [9], [2, 4])
HEADER = SpoolHeader(0xC1, POSITION, Configuration.of([1, 2, 3]).encode(), b"keyspace", 5, 1, 1)


def records() -> dict[str, tuple[bytes, bytes]]:
    """Every kind of record: its key and its value."""
    peer = codec.peer_key(0xA2)
    node = codec.number_key(17)
    (group,) = codec.encode_groups([SET, CHANGE, NOOP])
    history = [(codec.number_key(5), b"event 5"), (codec.number_key(6), b"")]
    (chunk,) = codec.encode_history(history)
    return {
        "log identity": (codec.IDENTITY_KEY, codec.encode_identity(0xC1, 0xA1, codec.LOG_ENVIRONMENT)),
        "state identity": (codec.IDENTITY_KEY, codec.encode_identity(0xC1, 0xA1, codec.STATE_ENVIRONMENT)),
        "hard state": (codec.HARD_STATE_KEY, codec.encode_hard_state(HardState(5, 0xA3, 9))),
        "hard state while rebuilding": (
            codec.HARD_STATE_KEY,
            codec.encode_hard_state(HardState(5, 0xA3, 9, Rebuilding(False, 4, 99))),
        ),
        "base": (codec.BASE_KEY, codec.encode_position(codec.BASE_KEY, POSITION)),
        "configurations": (codec.CONFIGURATIONS_KEY, codec.encode_configurations(CONFIGURATIONS)),
        "generation": (codec.GENERATION_KEY, codec.encode_number(codec.GENERATION_KEY, 3)),
        "peer": (peer, codec.encode_number(peer, 8)),
        "entries": group,
        "position": (codec.POSITION_KEY, codec.encode_position(codec.POSITION_KEY, POSITION)),
        "configuration": (codec.CONFIGURATION_KEY, codec.seal(codec.CONFIGURATION_KEY, HEADER.configuration)),
        "configuration with removed servers": (
            codec.CONFIGURATION_KEY,
            codec.seal(codec.CONFIGURATION_KEY, WITH_REMOVED.encode()),
        ),
        "keyspace": (codec.KEYSPACE_KEY, codec.seal(codec.KEYSPACE_KEY, b"keyspace")),
        "history floor": (codec.HISTORY_FLOOR_KEY, codec.encode_number(codec.HISTORY_FLOOR_KEY, 5)),
        "node": (node, codec.seal(node, b"a node")),
        "account": (codec.number_key(3), codec.seal(codec.number_key(3), b'["user","u","hash",null]')),
        "history": chunk,
    }


def golden() -> dict[str, str]:
    """What is committed."""
    held = json.loads(GOLDEN.read_text())
    assert isinstance(held, dict)
    return held


@pytest.mark.parametrize("name", sorted(records()))
def test_record_is_written_as_in_format_1(name: str) -> None:
    """Key and value, byte for byte."""
    key, value = records()[name]
    assert f"{key.hex()} {value.hex()}" == golden()[name]


def test_every_record_of_format_1_is_still_read() -> None:
    """The committed bytes decode to what was put into them."""
    held = {name: [bytes.fromhex(part) for part in golden()[name].split()] for name in records()}
    where = "golden"
    assert codec.decode_identity(held["log identity"][1], where) == (0xC1, 0xA1, codec.LOG_ENVIRONMENT)
    assert codec.decode_identity(held["state identity"][1], where) == (0xC1, 0xA1, codec.STATE_ENVIRONMENT)
    assert codec.decode_hard_state(held["hard state"][1], where) == HardState(5, 0xA3, 9)
    rebuilding = codec.decode_hard_state(held["hard state while rebuilding"][1], where)
    assert rebuilding == HardState(5, 0xA3, 9, Rebuilding(False, 4, 99))
    assert codec.decode_position(codec.BASE_KEY, held["base"][1], where) == POSITION
    assert codec.decode_position(codec.POSITION_KEY, held["position"][1], where) == POSITION
    assert codec.decode_configurations(held["configurations"][1], where) == CONFIGURATIONS
    assert codec.decode_number(codec.GENERATION_KEY, held["generation"][1], where) == 3
    for name, encoded in (
        ("configuration", HEADER.configuration),
        ("configuration with removed servers", WITH_REMOVED.encode()),
    ):
        stored = codec.unseal(codec.CONFIGURATION_KEY, held[name][1], where)
        assert Configuration.decode(stored) == Configuration.decode(encoded)
    assert codec.member_of_peer_key(held["peer"][0]) == 0xA2
    assert codec.decode_number(held["peer"][0], held["peer"][1], where) == 8
    key, group = held["entries"]
    assert codec.decode_group(key, group, 0, 99, where) == [SET, CHANGE, NOOP]
    assert codec.decode_group(key, group, 9, 9, where) == [CHANGE]
    key, chunk = held["history"]
    assert list(codec.decode_history(key, chunk, where)) == [(5, b"event 5"), (6, b"")]
    assert codec.unseal(held["node"][0], held["node"][1], where) == b"a node"
    assert codec.unseal(held["keyspace"][0], held["keyspace"][1], where) == b"keyspace"


def test_snapshot_file_is_as_in_format_1(tmp_path: Path) -> None:
    """The whole file; it also crosses the wire."""
    held = records()
    written = write_spool(tmp_path, HEADER, [(NODE, *held["node"]), (HISTORY, *held["history"])])
    assert Path(written.path).read_bytes().hex() == golden()["snapshot file"]
    assert written.snapshot_id == golden()["snapshot id"]
    committed = tmp_path / "committed"
    committed.write_bytes(bytes.fromhex(golden()["snapshot file"]))
    header, stored = read_spool(committed)
    assert header == HEADER
    assert list(stored) == [(NODE, *held["node"]), (HISTORY, *held["history"])]


def test_snapshot_file_with_users_and_roles_is_as_in_format_2(tmp_path: Path) -> None:
    """Their number stands between position and configuration."""
    held = records()
    header = dataclasses.replace(HEADER, accounts=1)
    stored = [(NODE, *held["node"]), (HISTORY, *held["history"]), (ACCOUNT, *held["account"])]
    written = write_spool(tmp_path, header, stored)
    assert Path(written.path).read_bytes().hex() == golden()["snapshot file of format 2"]
    committed = tmp_path / "committed"
    committed.write_bytes(bytes.fromhex(golden()["snapshot file of format 2"]))
    assert read_spool(committed)[0] == header
    assert list(read_spool(committed)[1]) == stored


FOUNDED = Identity(0xC1, 0xA1, "n1", "token", (Founder(0xA1, "n1", ("http://a:2380", "http://b:2380")),))


CAME_LATER = Identity(
    0xC1,
    0xA4,
    "n4",
    "token",
    (),
    (Founder(0xA1, "n1", ("http://a:2380",)), Founder(0xA4, "n4", ("http://d:2380",))),
    0xA2,
)


@pytest.mark.parametrize(
    ("name", "identity"),
    [
        ("identity file", Identity(0xC1, 0xA1, "n1")),
        ("identity file with founders", FOUNDED),
        ("identity file of one that came later", CAME_LATER),
        ("identity file after force-new-cluster", Identity(0xC1, 0xA1, "n1", forced=True)),
    ],
)
def test_identity_file_is_as_in_format_1(name: str, identity: Identity, tmp_path: Path) -> None:
    """One readable line, written and read; the founders came to it later, and what came after them later still."""
    directory = lock_directory(tmp_path / "data")
    claim(directory, identity)
    path = directory.path / "identity"
    assert path.read_text() == golden()[name]
    assert stored_identity(directory.path) is None, "its first start was not completed"
    complete_creation(directory, identity)
    assert path.read_text() == golden()[f"{name}, complete"]
    assert stored_identity(directory.path) == identity
    directory.close()
