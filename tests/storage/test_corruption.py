"""A disk that changes, loses or mixes up what was written: found, said in one line, never served."""

import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from kvraft.founding import Identity
from kvraft.raft.entries import Entry
from kvraft.storage import codec
from kvraft.storage.codec import position_of
from kvraft.storage.environment import claim, lock_directory
from kvraft.storage.errors import CorruptStorageError, NewerFormatError, StorageError, WrongDirectoryError
from kvraft.storage.lmdb_file import LmdbFile
from kvraft.storage.opening import open_storage
from tests.storage.child import open_small
from tests.storage.example import ENTRIES, EVERYTHING, HISTORY, NODES, PAGE, flip, newest_meta_page, read_everything
from tests.storage.processes import run
from tests.storage.support import (
    CONFIGURATION,
    IDENTITY,
    ORIGIN,
    SMALL_MAP_BYTES,
    LmdbHarness,
    batch,
    changes,
    entries_after,
    refuse_tmpfs,
)


def test_undamaged_directory_is_served_whole(written: Path) -> None:
    """The comparison for everything below."""
    assert read_everything(written) == (ENTRIES, NODES, HISTORY)


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize("environment", ["log", "state-1"])
def test_flipped_bit_is_found_or_harmless(written: Path, environment: str, seed: int) -> None:
    """Wherever it is in the file: an error in one line, or everything as it was written (the page was free)."""
    _flip_and_check(written, environment, seed)


def _flip_and_check(path: Path, environment: str, seed: int) -> None:
    chosen = random.Random(seed)
    data = path / environment / "data.mdb"
    offset, bit = chosen.randrange(data.stat().st_size), chosen.randrange(8)
    flip(data, offset, bit)
    try:
        assert read_everything(path) == (ENTRIES, NODES, HISTORY), f"bit {bit} of byte {offset}, seed {seed}"
    except StorageError as error:
        assert "\n" not in str(error)
        assert codec.REMEDY in str(error)


@pytest.mark.parametrize("environment", ["log", "state-1"])
def test_every_flipped_byte_of_both_meta_pages_is_found_or_harmless(written: Path, environment: str) -> None:
    """LMDB has no checksum there: a flip may mean another root, another size, or an older commit."""
    data = written / environment / "data.mdb"
    found = 0
    for page in (0, 1):
        for offset in range(152):
            flip(data, page * PAGE + offset, offset % 8)
            try:
                assert read_everything(written) == (ENTRIES, NODES, HISTORY), f"byte {offset} of meta page {page}"
            except StorageError:
                found += 1
            flip(data, page * PAGE + offset, offset % 8)
    assert found > 152
    assert read_everything(written) == (ENTRIES, NODES, HISTORY)


@pytest.mark.parametrize("environment", ["log", "state-1"])
def test_every_flipped_byte_of_the_newest_meta_page_of_a_large_file_is_found(
    written: Path, environment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too large for its structure to be examined at each start; the watermark holds the page's checksum."""
    monkeypatch.setattr("kvraft.storage.lmdb_file.EXAMINED_BYTES_MAX", 0)
    data = written / environment / "data.mdb"
    begin = newest_meta_page(data) * PAGE
    for offset in range(152):
        flip(data, begin + offset, offset % 8)
        with pytest.raises(CorruptStorageError):
            open_small(written)
        flip(data, begin + offset, offset % 8)
    open_small(written).close()


@pytest.mark.parametrize("environment", ["log", "state-1"])
def test_damaged_record_size_does_not_kill_the_process(written: Path, environment: str) -> None:
    """LMDB would hand out a record of 256 MiB that ends far behind the file: reading it is a SIGBUS."""
    data = written / environment / "data.mdb"
    content = bytearray(data.read_bytes())
    for page in range(2 * PAGE, len(content), PAGE):
        flags, lower = (int.from_bytes(content[page + at : page + at + 2], "little") for at in (10, 12))
        if flags == 2:  # a leaf
            for pointer in range(page + 16, page + lower, 2):
                node = page + int.from_bytes(content[pointer : pointer + 2], "little")
                content[node + 2 : node + 4] = b"\xff\x0f"
    data.write_bytes(content)
    outcome = run("hold", written, "-")
    assert outcome.exit_code == 1, outcome
    assert codec.REMEDY in outcome.refusals[0]


@pytest.mark.parametrize("environment", ["log", "state-1"])
def test_page_in_use_that_is_listed_as_free_is_found(written: Path, environment: str) -> None:
    """Every record would still read well, until some later commit writes over it."""
    data = written / environment / "data.mdb"
    content = bytearray(data.read_bytes())
    meta = newest_meta_page(data) * PAGE
    free_root = int.from_bytes(content[meta + 80 : meta + 88], "little") * PAGE
    node = free_root + int.from_bytes(content[free_root + 16 : free_root + 18], "little")
    first_free = node + 8 + 8 + 8  # behind the node's header, its key and the number of pages
    content[first_free : first_free + 8] = content[meta + 128 : meta + 136]  # the root of the main table
    data.write_bytes(content)
    with pytest.raises(CorruptStorageError):
        open_small(written)


@pytest.mark.parametrize("environment", ["log", "state-1"])
def test_zeroed_newest_meta_page_number_is_found(written: Path, environment: str) -> None:
    """LMDB would silently serve the commit before: an acknowledged write is gone."""
    data = written / environment / "data.mdb"
    with data.open("r+b") as file:
        file.seek(newest_meta_page(data) * PAGE + 144)
        file.write(bytes(8))
    with pytest.raises(CorruptStorageError, match="commit"):
        open_small(written)


@pytest.mark.parametrize("environment", ["log", "state-1"])
@pytest.mark.parametrize("more", range(4))
async def test_older_meta_page_that_passes_for_the_next_one_is_found(
    written: Path, environment: str, more: int
) -> None:
    """One bit makes 22 of 20, beside 21: LMDB would serve commit 20, and acknowledged writes are gone."""
    harness = LmdbHarness(written)
    harness.start()
    position = position_of(ENTRIES[-1])
    for number in range(1, more + 1):
        (entry,) = entries_after(position, 1)
        position = position_of(entry)
        await harness.persist(batch(number, [entry]))
        await harness.flush(position, changes({1: b"new"}))
    harness.storage.close()
    data = written / environment / "data.mdb"
    older = 1 - newest_meta_page(data)
    number_at = older * PAGE + 144
    content = data.read_bytes()
    number = int.from_bytes(content[number_at : number_at + 8], "little")
    data.write_bytes(content[:number_at] + (number + 2).to_bytes(8, "little") + content[number_at + 8 :])
    with pytest.raises(CorruptStorageError, match="is that of an older one"):
        open_small(written)


@pytest.mark.parametrize("environment", ["log", "state-1"])
async def test_rolled_back_environment_is_proven_by_the_watermark(written: Path, environment: str) -> None:
    """An older but sound data file beside a newer watermark: the commits between were acknowledged and are gone."""
    data = written / environment / "data.mdb"
    older = data.read_bytes()
    harness = LmdbHarness(written)
    harness.start()
    more = entries_after(position_of(ENTRIES[-1]), 3)
    await harness.persist(batch(1, more))
    await harness.flush(position_of(ENTRIES[149]), changes({1: b"new"}))
    harness.storage.close()
    data.write_bytes(older)
    with pytest.raises(CorruptStorageError, match=r"was rolled back: commit \d+ \(index \d+\) was acknowledged"):
        open_small(written)


def test_older_watermark_proves_nothing(written: Path) -> None:
    """The process may die, or the power fail, between a commit and its watermark."""
    watermark = written / "log" / "watermark"
    storage = open_small(written)
    older = watermark.read_bytes()
    storage.log._write_switch(position_of(ENTRIES[-1]), CONFIGURATION, 1)
    storage.close()
    assert watermark.read_bytes() != older
    watermark.write_bytes(older)
    with pytest.raises(CorruptStorageError, match="the state stands at 100"):  # read, and judged by what it holds
        open_small(written)


def test_transaction_that_changes_nothing_is_no_commit_to_remember(tmp_path: Path) -> None:
    """LMDB gives its number to the next one: a watermark that named it would find a lost commit in a sound file."""
    path = tmp_path / "log"
    file = LmdbFile(path, 1 << 30, 1, create=True, examine=False)
    table = file.database(b"log")
    for value in (b"1", None, None, b"2", None):
        with file.writing() as transaction:
            if value is not None:
                transaction.put(b"key", value, db=table)
            file.commit(transaction, 0)
        file.close()
        file = LmdbFile(path, 1 << 30, 1, create=False, examine=True)
        table = file.database(b"log")
    file.close()


def test_lost_watermark_is_mentioned(written: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It may never have reached the disk; but whoever looks for lost data must know that this start proved nothing."""
    (written / "log" / "watermark").write_bytes(b"")
    assert read_everything(written) == EVERYTHING
    assert [record.getMessage() for record in caplog.records] == [
        "there is no watermark: this start cannot tell a lost commit"
    ]
    caplog.clear()
    assert read_everything(written) == EVERYTHING
    assert caplog.records == []


def test_damaged_watermark_is_found(written: Path) -> None:
    """It cannot prove anything any more, and something has changed bytes on this disk."""
    flip(written / "log" / "watermark", 9)
    with pytest.raises(CorruptStorageError, match="watermark is damaged"):
        open_small(written)


@pytest.mark.parametrize("environment", ["log", "state-1"])
@pytest.mark.parametrize("kept", [0, 1, 152, PAGE, 2 * PAGE - 1, 2 * PAGE, 5 * PAGE])
def test_truncated_file_is_found_without_killing_the_process(written: Path, environment: str, kept: int) -> None:
    """Reading a map beyond the end of its file is a SIGBUS; an empty file is a new environment to LMDB."""
    data = written / environment / "data.mdb"
    with data.open("r+b") as file:
        file.truncate(kept)
    with pytest.raises(CorruptStorageError):
        read_everything(written)


@pytest.mark.parametrize("environment", ["log", "state-1"])
def test_each_missing_page_at_the_end_is_found_or_was_free(written: Path, environment: str) -> None:
    """LMDB does not write pages that a transaction took and gave back, so a short file may be sound."""
    data = written / environment / "data.mdb"
    whole = data.read_bytes()
    found = 0
    for missing in range(1, len(whole) // PAGE - 2):
        data.write_bytes(whole[: -missing * PAGE])
        try:
            assert read_everything(written) == (ENTRIES, NODES, HISTORY), f"{missing} pages missing"
        except CorruptStorageError:
            found += 1
    assert found > 5


@pytest.mark.parametrize("missing", ["log/data.mdb", "state-1/data.mdb"])
def test_missing_environment_is_no_first_start(written: Path, missing: str) -> None:
    """The identity says that creation was completed, so an absent file is damage."""
    (written / missing).unlink()
    with pytest.raises(CorruptStorageError, match="is missing"):
        open_small(written)


def test_state_without_its_log_is_refused(written: Path) -> None:
    """A log that was put back from elsewhere ends before what the state has applied."""
    other = written.with_name("other")
    open_small(other).close()
    shutil.rmtree(written / "log")
    shutil.copytree(other / "log", written / "log")
    with pytest.raises(CorruptStorageError, match="the state stands at 100"):
        open_small(written)


def test_environments_of_two_members_are_not_mixed(written: Path) -> None:
    """Each environment knows whose it is."""
    other = written.with_name("other")
    open_small(other, Identity(IDENTITY.cluster_id, 0xA2, "n2")).close()
    shutil.rmtree(written / "state-1")
    shutil.copytree(other / "state-1", written / "state-1")
    with pytest.raises(WrongDirectoryError, match="state-1 belongs to member a2 of cluster c1"):
        open_small(written)


def _change(written: Path, change: Callable[[LmdbFile], None], environment: str = "log") -> None:
    file = LmdbFile(written / environment, SMALL_MAP_BYTES, 2, create=False, examine=False)
    change(file)
    file.close()


def _rewrite_entry(index: int, replacement: Entry) -> Callable[[LmdbFile], None]:
    def change(file: LmdbFile) -> None:
        first = (index - 1) // 10 * 10 + 1
        key = codec.group_key(first)
        with file.writing() as transaction:
            group = codec.decode_group(key, transaction.get(key) or b"", 0, 1 << 63, "")
            group[index - first] = replacement
            ((_, value),) = codec.encode_groups(group)
            transaction.put(key, value)
            file.commit(transaction, 0)

    return change


def test_entry_with_a_valid_checksum_that_breaks_the_chain_is_found(written: Path) -> None:
    """A record of another history, correctly stored: at once beyond the applied index, by the scrub before it."""
    foreign = entries_after(ORIGIN, 200, payload=b"q" * 100)
    _change(written, _rewrite_entry(150, foreign[149]))
    with pytest.raises(CorruptStorageError, match="entry 150 does not follow entry 149"):
        open_small(written)
    _change(written, _rewrite_entry(150, ENTRIES[149]))
    _change(written, _rewrite_entry(50, foreign[49]))
    storage = open_small(written)
    try:
        position = storage.log.scrub(None, 49)
        assert position == position_of(ENTRIES[48])
        with pytest.raises(CorruptStorageError, match="entry 50 does not follow entry 49"):
            storage.log.scrub(position, 49)
    finally:
        storage.close()


def test_missing_group_is_a_gap_and_never_an_end(written: Path) -> None:
    """Nothing behind it may be given up, since it was acknowledged."""

    def change(file: LmdbFile) -> None:
        with file.writing() as transaction:
            transaction.delete(codec.group_key(151))
            file.commit(transaction, 0)

    _change(written, change)
    with pytest.raises(CorruptStorageError, match="entry 151 is missing"):
        open_small(written)


def test_entry_at_the_applied_index_must_be_the_one_that_the_state_has_applied(written: Path) -> None:
    """State and log of the same member, but of different histories."""
    _change(written, _rewrite_entry(100, entries_after(ORIGIN, 200, payload=b"q" * 100)[99]))
    with pytest.raises(CorruptStorageError, match="entry 100 is not the one the state has applied"):
        open_small(written)


@pytest.mark.parametrize("key", [codec.HARD_STATE_KEY, codec.BASE_KEY, codec.CONFIGURATIONS_KEY, codec.GENERATION_KEY])
def test_missing_meta_record_of_the_log_is_found(written: Path, key: bytes) -> None:
    """A vote that is forgotten could be given twice."""

    def change(file: LmdbFile) -> None:
        with file.writing() as transaction:
            transaction.delete(key)
            file.commit(transaction, 0)

    _change(written, change)
    with pytest.raises(CorruptStorageError, match="is missing"):
        open_small(written)


def test_directory_of_another_cluster_is_refused_and_left_alone(written: Path) -> None:
    """One line that names both clusters and the remedy."""
    before = {path: path.read_bytes() for path in written.rglob("*") if path.is_file() and path.name != "lock"}
    with pytest.raises(WrongDirectoryError, match=r"belongs to cluster c1 .*'n1'.*not to cluster c2: choose another"):
        open_small(written, Identity(0xC2, 0xA1, "n1"))
    with pytest.raises(WrongDirectoryError, match=r"belongs to member a1 .*not to member a2"):
        open_small(written, Identity(0xC1, 0xA2, "n2"))
    assert {path: path.read_bytes() for path in before} == before


def test_directory_of_a_newer_format_is_refused(data_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A downgrade is said to be one."""
    with monkeypatch.context() as patch:
        patch.setattr("kvraft.storage.environment.FORMAT", codec.FORMAT + 1)
        open_small(data_path).close()
    with pytest.raises(NewerFormatError, match="has format 2; this kvraft reads 1"):
        open_small(data_path)


def test_damaged_identity_is_found(written: Path) -> None:
    """Whose data it is cannot be told."""
    flip(written / "identity", 40)
    with pytest.raises(StorageError, match="identity"):
        open_small(written)


def test_lost_identity_is_no_first_start(written: Path) -> None:
    """Data without an identity is not overwritten, and a rebuild sets it aside."""
    (written / "identity").unlink()
    with pytest.raises(CorruptStorageError, match=r"identity is missing, and log is there; .*--rebuild"):
        open_small(written)
    open_storage(written, IDENTITY, CONFIGURATION, rebuild="its identity is missing").close()
    (aside,) = written.glob("damaged-*")
    assert (aside / "log" / "data.mdb").exists()


def test_interrupted_creation_begins_anew(data_path: Path) -> None:
    """Until the identity says that it is complete nothing was acknowledged, so there is nothing to protect."""
    directory = lock_directory(data_path)
    assert claim(directory, IDENTITY)
    directory.log_path.mkdir()
    (directory.log_path / "data.mdb").write_bytes(b"half")
    directory.close()
    storage = open_small(data_path)
    assert storage.fresh
    storage.close()
    storage = open_small(data_path)
    assert not storage.fresh
    storage.close()


def test_directory_is_private(written: Path) -> None:
    """Keys and values are nobody else's business."""
    assert written.stat().st_mode & 0o777 == 0o700
    for path in written.rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path


def test_start_that_died_while_reading_is_followed_by_an_examination(written: Path) -> None:
    """LMDB may be killed by the file it maps; the next start looks at the whole structure before."""
    (written / "reading").touch()
    storage = open_small(written)
    assert storage.directory.reading_died
    storage.close()
    assert not (written / "reading").exists()


def test_refusal_of_a_process_is_one_line(written: Path) -> None:
    """What an operator sees."""
    flip(written / "log" / "watermark", 9)
    outcome = run("hold", written, "-")
    assert outcome.exit_code == 1
    assert len(outcome.refusals) == 1


def test_temporary_directory_is_on_a_disk(tmp_path: Path) -> None:
    """These tests would prove nothing on tmpfs; /dev/shm is one."""
    refuse_tmpfs(tmp_path)
    with pytest.raises(AssertionError, match="tmpfs"):
        refuse_tmpfs(Path("/dev/shm"))
