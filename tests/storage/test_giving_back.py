"""Free pages become holes: of the disk's, never of what anybody reads."""

import ctypes
import errno
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kvraft.raft.restored import LogPosition
from kvraft.storage import giving_back, lmdb_file
from kvraft.storage.codec import position_of
from kvraft.storage.commit_marks import META_BYTES
from kvraft.storage.errors import CorruptStorageError
from kvraft.storage.free_pages import free_pages, runs
from kvraft.storage.interfaces import Database, Transaction
from kvraft.storage.lmdb_file import LmdbFile, Supply
from tests.storage.support import NO_SUPPLY, ORIGIN, LmdbHarness, batch, changes, entries_after

pytestmark = pytest.mark.slow

PAGE = 4096
VALUE_SIZES = (10, 100, 3000, 9000, 50_000)
KEPT_MAX = 8 << 20


def _file(path: Path, supply: Supply = NO_SUPPLY) -> LmdbFile:
    return LmdbFile(path, 1 << 30, 1, create=True, examine=False, supply=supply)


def _change(file: LmdbFile, table: Database, chance: random.Random, model: dict[bytes, bytes]) -> None:
    """One commit: each key once, as the stores write."""
    with file.writing() as transaction:
        for number in chance.sample(range(300), chance.randint(1, 30)):
            key = b"%d" % number
            if chance.random() < 0.5:
                model[key] = chance.randbytes(chance.choice(VALUE_SIZES))
                transaction.put(key, model[key], db=table)
            elif model.pop(key, None) is not None:
                transaction.delete(key, db=table)
        file.commit(transaction, 0)


def _play(path: Path, seed: int, commits: int) -> int:
    """Commits, readers that stay open for a while, and holes after each commit; how many bytes these were."""
    chance = random.Random(seed)
    file = _file(path)
    table = file.database(b"nodes")
    model: dict[bytes, bytes] = {}
    readers: list[tuple[Transaction, dict[bytes, bytes]]] = []
    given_back = 0

    def check(transaction: Transaction, expected: dict[bytes, bytes]) -> None:
        with transaction.cursor(db=table) as cursor:
            assert dict(cursor) == expected

    for _ in range(commits):
        _change(file, table, chance, model)
        if chance.random() < 0.1:
            readers.append((file._environment.begin(), dict(model)))
        given_back += file.give_back(idle=chance.random() < 0.5)
        with file.reading() as transaction:
            check(transaction, model)
        if readers and chance.random() < 0.15:
            reader, seen = readers.pop(chance.randrange(len(readers)))
            check(reader, seen)
            reader.abort()
    for reader, seen in readers:
        check(reader, seen)
        reader.abort()
    given_back += file.give_back(idle=True)
    assert lmdb_file._verify(str(path / "data.mdb"), subdir=False) == []
    # The rest is LMDB's list of free pages, which is counted nowhere; 16 pages of it were seen.
    assert file.size_bytes() < file.used_bytes() + 32 * PAGE
    file.close()
    again = LmdbFile(path, 1 << 30, 1, create=False, examine=True)
    table = again.database(b"nodes")
    with again.reading() as transaction, transaction.cursor(db=table) as cursor:
        assert dict(cursor) == model
    again.close()
    return given_back


def test_holes_take_nothing_from_any_reader(data_path: Path) -> None:
    """Neither from one that begins now nor from one that began before; and the structure stays sound."""
    assert _play(data_path, 1, 150) > 10 << 20


@pytest.mark.torture
@pytest.mark.timeout(1800)
def test_many_holes_take_nothing_from_any_reader(
    tmp_path: Path, torture_seed: int, scaled: Callable[[int, str], int]
) -> None:
    """As the first, with fresh seeds."""
    for number in range(scaled(100, "files with holes")):
        _play(tmp_path / f"{number}", torture_seed + number, 200)


def test_pages_of_an_open_reader_are_not_free(data_path: Path) -> None:
    """What a later commit gave up is still what an earlier reader reads."""
    file = _file(data_path)
    table = file.database(b"nodes")
    with file.writing() as transaction:
        transaction.put(b"key", b"x" * 1_000_000, db=table)
        file.commit(transaction, 0)
    with file._environment.begin() as reader:
        with file.writing() as transaction:
            transaction.delete(b"key", db=table)
            file.commit(transaction, 0)
        assert file.give_back(idle=True) < 100_000
        assert reader.get(b"key", db=table) == b"x" * 1_000_000
    assert file.give_back(idle=True) >= 1_000_000
    file.close()


def _damaged_lists(path: Path, seed: int, count: int) -> tuple[int, int]:
    chance = random.Random(seed)
    file = _file(path)
    table = file.database(b"nodes")
    model: dict[bytes, bytes] = {}
    for _ in range(40):
        _change(file, table, chance, model)
    number = file._environment.info()["last_txnid"]
    meta = file._meta_page(number)
    content = (path / "data.mdb").read_bytes()
    file.close()
    read: list[int] = []

    def reading(data: bytes) -> Callable[[int, int], bytes]:
        def read_at(offset: int, length: int) -> bytes:
            read.append(offset // PAGE)
            return data[offset : offset + length]

        return read_at

    sound = free_pages(reading(content), PAGE, meta, number, "here")
    assert sound
    pages = sorted(set(read))
    found = harmless = 0
    for _ in range(count):
        offset = chance.choice(pages) * PAGE + chance.randrange(PAGE if chance.random() < 0.3 else 64)
        damaged = bytearray(content)
        damaged[offset] ^= 1 << chance.randrange(8)
        try:
            listed = free_pages(reading(bytes(damaged)), PAGE, meta, number, "here")
        except CorruptStorageError as error:
            assert "\n" not in str(error)
            found += 1
        else:
            assert all(2 <= page < len(content) // PAGE + 1 for page in listed)
            harmless += listed == sound
    return found, harmless


def test_damaged_list_of_free_pages_ends_in_one_line(data_path: Path) -> None:
    """Any bit of it flipped: an error, or a list of pages that the file has; it never hangs or takes all memory."""
    found, harmless = _damaged_lists(data_path, 1, 300)
    assert found > 50
    assert harmless > 20


def test_meta_page_without_free_pages_has_none() -> None:
    """A new file."""
    meta = bytearray(META_BYTES)
    meta[80:88] = b"\xff" * 8
    assert free_pages(lambda _offset, _length: b"", PAGE, bytes(meta), 9, "here") == []


def test_runs_are_neighbours() -> None:
    """Short ones are left out."""
    assert list(runs([2, 3, 4, 7, 9, 10], 2)) == [(2, 3), (9, 2)]
    assert list(runs([2, 3, 4, 7, 9, 10], 1)) == [(2, 3), (7, 1), (9, 2)]
    assert list(runs([], 1)) == []


async def test_log_and_state_take_no_more_of_the_disk_than_what_lives(data_path: Path) -> None:
    """A hundred MiB went through both; a few entries and nodes are left."""
    harness = LmdbHarness(data_path)
    harness.start()
    position: LogPosition = ORIGIN
    for number in range(1, 11):
        entries = entries_after(position, 100, payload=b"p" * 100_000)
        position = position_of(entries[-1])
        await harness.persist(batch(number, entries))
        await harness.flush(position, changes(dict.fromkeys(range(100), b"v" * 100000)))
        harness.log.compact(position)
    files = [data_path / name / "data.mdb" for name in ("log", "state-1")]
    assert sum(file.stat().st_size for file in files) > 5 * KEPT_MAX, "nothing was ever freed: this test shows nothing"
    (last,) = entries_after(position, 1)
    await harness.persist(batch(11, [last]))
    await harness.flush(position_of(last), changes({}, removed=range(100)))
    harness.log.give_back()
    harness.state.give_back(idle=True)
    harness.storage.close()
    spare = 16 << 20
    assert sum(file.stat().st_blocks * 512 for file in files) <= 2 * spare + KEPT_MAX
    again = LmdbHarness(data_path)
    assert again.stored()[1] == {}
    assert again.all_entries() == [last]
    again.crash()


def test_file_system_without_holes_leaves_the_file_as_it_is(data_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked once, not after every commit."""
    asked: list[int] = []

    def refuse(descriptor: int, *_how: int) -> int:
        asked.append(descriptor)
        ctypes.set_errno(errno.EOPNOTSUPP)
        return -1

    file = _file(data_path, Supply(0, 1, 0))
    table = file.database(b"nodes")
    model: dict[bytes, bytes] = {}
    chance = random.Random(1)
    monkeypatch.setattr(giving_back, "_fallocate", refuse)
    for _ in range(40):
        _change(file, table, chance, model)
        assert file.give_back(idle=True) == 0
    assert len(asked) == 1
    file.close()


def _resident_kib(path: Path) -> int:
    """What this process has of a mapped file."""
    found, resident = False, 0
    for line in Path("/proc/self/smaps").read_text().splitlines():
        words = line.split()
        if "-" in words[0]:  # a mapping begins, with a name or without
            found = words[-1] == str(path) and words[1] == "r--s"
        elif found and words[0] == "Rss:":
            resident += int(words[1])
    return resident


def _filled(path: Path) -> LmdbFile:
    """A file of 16 MB that was read and is mapped, most of it free by now."""
    file = _file(path)
    table = file.database(b"nodes")
    for kept in (4096, 1):
        with file.writing() as transaction:
            for number in range(4096):
                if kept > number:
                    transaction.put(b"%06d" % number, bytes(4000), db=table)
                else:
                    transaction.delete(b"%06d" % number, db=table)
            file.commit(transaction, 0)
        with file.reading() as transaction, transaction.cursor(db=table) as cursor:
            assert len(dict(cursor)) == kept
    return file


def test_directory_that_was_moved_gives_back_all_the_same(tmp_path: Path) -> None:
    """The open file counts, and not what has its name by now, which stays as it is."""
    file = _filled(tmp_path / "was")
    (tmp_path / "was").rename(tmp_path / "is")
    (tmp_path / "was").mkdir()
    stranger = tmp_path / "was" / "data.mdb"
    stranger.write_bytes(b"theirs" * 4_000_000)
    blocks = stranger.stat().st_blocks
    assert _resident_kib(tmp_path / "is" / "data.mdb") > 8 << 10
    assert file.give_back(idle=True) > 8 << 20
    assert _resident_kib(tmp_path / "is" / "data.mdb") < 4 << 10
    assert stranger.stat().st_blocks == blocks
    file.close()


def test_map_that_has_another_inode_than_its_file_is_found_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As overlayfs showed them before Linux 6.8, and btrfs shows devices."""
    file = _filled(tmp_path / "log")
    facts = os.stat_result((0, 1, 2, *[0] * 7))
    with monkeypatch.context() as patched:
        patched.setattr(os, "fstat", lambda _descriptor: facts)
        giving_back.forget_mapped(file._data)
    assert _resident_kib(tmp_path / "log" / "data.mdb") < 4 << 10
    file.close()


OVERLAY = """
import sys
from pathlib import Path
from kvraft.storage import giving_back
from tests.storage.test_giving_back import _filled, _resident_kib
path = Path(sys.argv[1])
file = _filled(path)
before, given_back = _resident_kib(path / "data.mdb"), file.give_back(idle=True)
print(before > 8 << 10, _resident_kib(path / "data.mdb") < before // 4, given_back > 8 << 20)
"""


def test_overlay_gives_back_as_the_disk_below_does(tmp_path: Path) -> None:
    """A container's writable layer: what is mapped leaves, and free pages are holes."""
    for name in ("lower", "upper", "work", "merged"):
        (tmp_path / name).mkdir()
    mount = (
        'mount -t overlay overlay -o "lowerdir=$1/lower,upperdir=$1/upper,workdir=$1/work" "$1/merged"'
        ' && exec "$2" -c "$3" "$1/merged/log"'
    )
    command = ["unshare", "-m", "/bin/sh", "-c", mount, "sh", str(tmp_path), sys.executable, OVERLAY]
    shown = subprocess.run(command, capture_output=True, text=True, check=False)
    assert shown.stdout.split() == ["True", "True", "True"], shown.stderr
