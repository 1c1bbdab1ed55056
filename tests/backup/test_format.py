"""The form of a backup: every byte counts, and what was written once is read for ever."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvraft.backup import verification
from kvraft.keyspace.commands import Set
from kvraft.storage import spool
from kvraft.storage.backup_file import MAGIC, BackupDecoder, encode_facts, open_backup
from kvraft.storage.errors import BackupError, NewerFormatError, StorageError
from kvraft.storage.spool import FRAME_HEAD
from tests.backup.support import FACTS, POSITION, backup_of, old_keyspace, written

GOLDEN = Path(__file__).parents[1] / "data" / "backup" / "format_1.backup"
GOLDEN_WITH_ACCOUNTS = GOLDEN.with_name("format_1_with_accounts.backup")
CONTENT = backup_of(old_keyspace())
HEADER_BYTES = len(encode_facts(FACTS)) + len(spool.MAGIC) + FRAME_HEAD.size
"""Magic, facts, the snapshot's magic, and the head of the frame behind it."""


def decoded(content: bytes, piece_bytes: int = 1 << 20) -> BackupDecoder:
    """A decoder that has taken all of it and is satisfied."""
    decoder = BackupDecoder("it", len(content))
    for start in range(0, len(content), piece_bytes):
        decoder.feed(content[start : start + piece_bytes])
    decoder.finish()
    return decoder


@pytest.mark.parametrize("piece_bytes", [1, 7, 1000, 1 << 20])
def test_pieces_of_any_size_make_the_same(piece_bytes: int) -> None:
    """As a network gives them."""
    decoder = BackupDecoder("it", len(CONTENT))
    records = []
    for start in range(0, len(CONTENT), piece_bytes):
        records += decoder.feed(CONTENT[start : start + piece_bytes])
    assert decoder.facts == FACTS
    assert decoder.header.position == POSITION
    assert len(records) == decoder.header.nodes + decoder.header.history_chunks + decoder.header.accounts
    assert decoder.finish() == f"28-3-{CONTENT[-16:].hex()}"


def test_golden_bytes_are_written() -> None:
    """A change of any of them is a new format, which must still read these."""
    assert GOLDEN_WITH_ACCOUNTS.read_bytes() == CONTENT


@pytest.mark.parametrize("golden", [GOLDEN, GOLDEN_WITH_ACCOUNTS], ids=["meta", "records"])
def test_golden_bytes_are_read(golden: Path, tmp_path: Path) -> None:
    """Also with users and roles in the meta record."""
    found = verification.verify(written(tmp_path, golden.read_bytes()))
    assert (found["keys"], found["directories"], found["hidden"], found["with_ttl"]) == (3, 3, 2, 2)
    assert (found["users"], found["roles"], found["auth"]) == (2, 2, True)
    assert (found["raft_index"], found["raft_term"], found["etcd_index"]) == (40, 3, 20)
    assert found["taken"] == "2025-11-29T07:06:40Z"


def flips() -> Iterator[tuple[int, int]]:
    """(byte, bit): all of the header, one in each byte behind it."""
    for at in range(HEADER_BYTES):
        yield from ((at, bit) for bit in range(8))
    chosen = random.Random(1)
    yield from ((at, chosen.randrange(8)) for at in range(HEADER_BYTES, len(CONTENT)))


def test_every_flipped_bit_is_found() -> None:
    """Anywhere in the file."""
    for at, bit in flips():
        changed = bytearray(CONTENT)
        changed[at] ^= 1 << bit
        with pytest.raises((BackupError, NewerFormatError)):
            decoded(bytes(changed))


def test_every_length_but_its_own_is_found() -> None:
    """Cut off anywhere, or with something behind it."""
    for length in range(len(CONTENT)):
        with pytest.raises(BackupError):
            decoded(CONTENT[:length])
    with pytest.raises(BackupError):
        decoded(CONTENT + b"\0")


def test_what_never_ends_is_refused_at_its_length() -> None:
    """A server that goes on behind its backup fills neither memory nor disk."""
    decoder = BackupDecoder("it", len(CONTENT))
    decoder.feed(CONTENT)
    with pytest.raises(BackupError, match=f"more than the {len(CONTENT)} bytes"):
        decoder.feed(b"\0")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"hello", "is no backup of kvraft"),
        (b"PK\x03\x04" * 100, "is no backup of kvraft"),
        (CONTENT[:-100], "is cut off or damaged"),
        (CONTENT[:-17] + b"?" + CONTENT[-16:], "is damaged"),
        (MAGIC + spool.frame(b'{"format":2}') + CONTENT, "has format 2; this kvraft reads 1: use a newer kvraft"),
        (MAGIC + spool.frame(b'{"format":1}') + CONTENT, "says of itself what no backup does"),
        (MAGIC + spool.frame(b"[" * 60_000) + CONTENT, "says of itself what no backup does"),
        (MAGIC + spool.frame(b'{"format":1e999}') + CONTENT, "says of itself what no backup does"),
        (MAGIC + spool.frame(b"x" * 70_000) + CONTENT, "is cut off or damaged"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path: Path, content: bytes, said: str) -> None:
    """With the file's name, and what to do."""
    path = written(tmp_path, content)
    with pytest.raises(StorageError) as error:
        verification.verify(path)
    assert str(error.value).startswith(str(path))
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    assert "--rebuild" not in str(error.value)


def test_records_that_make_no_tree_are_no_backup(tmp_path: Path) -> None:
    """Intact bytes of a member with a bug: a start would refuse them, so a verification does."""
    keyspace = old_keyspace()
    keyspace._tree.root.children[b"app"].created_index = 5
    path = written(tmp_path, backup_of(keyspace))
    with pytest.raises(BackupError, match="impossible indices"):
        verification.verify(path)


def test_file_of_many_pieces_is_read_in_pieces(tmp_path: Path) -> None:
    """No more than a few of them are held at once."""
    path = written(tmp_path, backup_of(old_keyspace(*(Set(b"/big/%d" % n, b"v" * 400_000) for n in range(12)))))
    with open_backup(path) as (decoder, records):
        next(records)
        assert decoder.taken_bytes < path.stat().st_size / 3
        assert (
            sum(1 for _ in records)
            == decoder.header.nodes + decoder.header.history_chunks + decoder.header.accounts - 1
        )
    assert verification.verify(path)["keys"] == 15
