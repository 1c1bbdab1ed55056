"""The byte forms that are hashed, sent and stored: they must never change by accident."""

import pytest

from kvraft.raft.configuration import Configuration
from kvraft.raft.entries import ZERO_HASH, EntryKind, chain, entry_from_record, make_entry


def test_record_of_an_entry_byte_by_byte() -> None:
    """Kind, index, term, clock (little endian), payload; the chain hash is BLAKE2b of the one before and the record."""
    entry = make_entry(ZERO_HASH, 2, 3, EntryKind.COMMAND, 258, b"set")
    assert entry.record.hex() == "01" + "0200000000000000" + "0300000000000000" + "0201000000000000" + b"set".hex()
    assert entry.chain_hash.hex() == "4af48c5327e94dd71e5348fae05aa297"
    assert entry.payload == b"set"


def test_record_and_hash_make_the_entry_again() -> None:
    """What a follower decodes equals what the leader made."""
    entry = make_entry(bytes(range(16)), 9, 4, EntryKind.CONFIGURATION, 7, Configuration.of([1, 2]).encode())
    assert entry_from_record(entry.chain_hash, entry.record) == entry


@pytest.mark.parametrize("position", [0, 1, 9, 17, 25])
def test_every_part_of_a_record_is_hashed(position: int) -> None:
    """One changed bit anywhere gives another hash."""
    record = bytearray(make_entry(ZERO_HASH, 2, 3, EntryKind.COMMAND, 258, b"set").record)
    before = chain(ZERO_HASH, bytes(record))
    record[position] ^= 1
    assert chain(ZERO_HASH, bytes(record)) != before


@pytest.mark.parametrize(
    ("chain_hash", "record"),
    [
        (ZERO_HASH, b""),
        (ZERO_HASH, bytes(24)),
        (b"short", make_entry(ZERO_HASH, 1, 1, EntryKind.NOOP, 0, b"").record),
        (ZERO_HASH, make_entry(ZERO_HASH, 0, 1, EntryKind.NOOP, 0, b"").record),
        (ZERO_HASH, make_entry(ZERO_HASH, 1, 0, EntryKind.NOOP, 0, b"").record),
        (ZERO_HASH, b"\x09" + make_entry(ZERO_HASH, 1, 1, EntryKind.NOOP, 0, b"").record[1:]),
    ],
)
def test_impossible_records_are_refused(chain_hash: bytes, record: bytes) -> None:
    """Too short, index or term 0, an unknown kind."""
    with pytest.raises(ValueError, match=r"entr|EntryKind"):
        entry_from_record(chain_hash, record)


def test_configuration_is_sorted_and_free_of_duplicates() -> None:
    """Two members that write down the same servers write the same bytes."""
    assert Configuration.of([3, 1, 3], [5, 4]) == Configuration((1, 3), (4, 5))
    assert Configuration.of([3, 1]).encode().hex() == "01" + "0200" + "0000" + "0100000000000000" + "0300000000000000"
    assert Configuration.of([3, 1], [2]).servers == (1, 2, 3)


def test_configuration_comes_back_from_its_bytes() -> None:
    """Voters, learners and those removed keep their places."""
    for removed in ([], [8], [3, 8, 9]):
        configuration = Configuration.of([1, 2, (1 << 64) - 1], [7], removed)
        assert Configuration.decode(configuration.encode()) == configuration


def test_configuration_says_who_was_removed_in_a_form_of_its_own() -> None:
    """Form 2 has a third list; form 1, which earlier data directories hold, says that nobody was removed."""
    two = "02" + "0100" + "0000" + "01000000" + "0100000000000000" + "0300000000000000"
    assert Configuration.of([1], removed=[3]).encode().hex() == two
    one = "01" + "0100" + "0000" + "0100000000000000"
    assert Configuration.decode(bytes.fromhex(one)) == Configuration((1,), (), ())


def test_configuration_says_which_history_it_is_of_in_a_form_of_its_own() -> None:
    """Form 3: the counts, 16 bytes of the founding, then the three lists."""
    founding = bytes(range(16))
    three = "03" + "0100" + "0000" + "01000000" + founding.hex() + "0100000000000000" + "0300000000000000"
    configuration = Configuration.of([1], removed=[3], founding=founding)
    assert configuration.encode().hex() == three
    assert Configuration.decode(bytes.fromhex(three)) == configuration


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\x01\x00",
        b"\x02\x00\x00\x00\x00",
        b"\x01\x01\x00\x00\x00",
        b"\x01" + bytes(5),
        b"\x02" + bytes(7),
        b"\x02" + bytes(4) + b"\xff" * 4,
        b"\x03" + bytes(4),
        b"\x03" + bytes(8) + bytes(15),
        b"\x04" + bytes(4),
        b"\x02\x01\x00\x00\x00\x01\x00\x00\x00" + b"\x05".ljust(8, b"\x00") * 2,
    ],
)
def test_impossible_configurations_are_refused(payload: bytes) -> None:
    """Too short, another format, a length that does not fit the counts, a server that is in and removed."""
    with pytest.raises(ValueError, match="configuration"):
        Configuration.decode(payload)
