"""The environment on a device answers as LMDB does, and keeps whole commits through every power cut."""

import random
import shutil
from pathlib import Path
from typing import Any, Final

import pytest

from kvraft.storage.errors import CorruptStorageError
from kvraft.storage.lmdb_file import LmdbFile
from tests.simulation.sectors.device import Device, FaultPlan, PowerCut
from tests.simulation.sectors.paged_file import SectorFile

TABLES: Final = (b"nodes", b"history")
Content = dict[bytes, list[tuple[bytes, bytes]]]


def new_file(seed: int = 1) -> tuple[SectorFile, Device]:
    """An empty environment with two tables, and its device."""
    device = Device(FaultPlan(random.Random(seed)))
    file = SectorFile(Path("simulated"), device, create=True)
    for name in TABLES:
        file.database(name)
    return file, device


def reopened(device: Device) -> SectorFile:
    """What a start finds on the device."""
    file = SectorFile(Path("simulated"), device, create=False)
    for name in TABLES:
        file.database(name)
    return file


def content_of(file: Any, tables: list[Any]) -> Content:
    """Every record of every table."""
    with file.reading() as transaction:
        found: Content = {}
        for name, table in zip(TABLES, tables, strict=True):
            with transaction.cursor(table) as cursor:
                found[name] = [*cursor]
        return found


def change(transaction: Any, tables: list[Any], draw: random.Random) -> list[object]:
    """One random call of those that kvraft makes, and its answer."""
    table = draw.choice(tables)
    key = b"%03d" % draw.randrange(200)
    match draw.randrange(9):
        case 0 | 1 | 2:
            value = draw.randbytes(draw.choice((0, 10, 300, 900, 5000)))
            return [transaction.put(key, value, db=table)]
        case 3:
            return [transaction.put(key, b"appended", append=True, db=table)]
        case 4:
            return [transaction.delete(key, db=table)]
        case 5:
            return [transaction.get(key, db=table)]
        case 6:
            with transaction.cursor(db=table) as cursor:
                pairs = [(b"%03d" % number, draw.randbytes(40)) for number in range(draw.randrange(190), 200)]
                return [cursor.putmulti(pairs, append=draw.random() < 0.5)]
        case 7:
            with transaction.cursor(db=table) as cursor:
                answers: list[object] = [cursor.set_range(key)]
                while answers[-1] and len(answers) < draw.choice((2, 8, 40)):
                    answers.append(cursor.delete())
                return answers
        case _:
            with transaction.cursor(db=table) as cursor:
                steps = [cursor.set_range(key), cursor.set_key(key), cursor.first(), cursor.last()]
                if cursor.set_range(key):
                    steps += [cursor.item(), cursor.prev() and cursor.item(), cursor.next() and cursor.key()]
                return steps


def test_answers_as_lmdb_does(tmp_path: Path) -> None:
    """The same random calls on both, with commits, aborts and reopening: the same answers, the same content."""
    draw = random.Random(5)
    lmdb = LmdbFile(tmp_path / "lmdb", 1 << 26, 2, create=True, examine=False)
    ours, device = new_file()
    lmdb_tables = [lmdb.database(name) for name in TABLES]
    for _ in range(150):
        seed = draw.randrange(1 << 30)
        count, commits = draw.choice((1, 5, 30)), draw.random() < 0.8
        answers = []
        both: tuple[tuple[Any, list[Any]], ...] = ((lmdb, lmdb_tables), (ours, list(TABLES)))
        for file, tables in both:
            calls = random.Random(seed)
            with file.writing() as transaction:
                answers.append([change(transaction, tables, calls) for _ in range(count)])
                if commits:
                    file.commit(transaction, 1)
        assert answers[0] == answers[1], f"seed {seed}"
        if draw.random() < 0.1:
            ours = reopened(device)
        assert content_of(lmdb, lmdb_tables) == content_of(ours, list(TABLES)), f"seed {seed}"
    lmdb.close()
    shutil.rmtree(tmp_path / "lmdb")


def test_power_cut_at_every_operation_leaves_a_whole_commit() -> None:
    """Whatever the platter made of unsynced sectors, a start finds the last commit or the interrupted one."""
    torn = undone = 0
    for seed in range(24):
        draw = random.Random(seed)
        file, device = new_file(seed)
        before: Content = {name: [] for name in TABLES}
        for _ in range(20):
            device._plan.operations_to_power_cut = draw.randrange(40)
            try:
                with file.writing() as transaction:
                    for _ in range(draw.choice((1, 10))):
                        change(transaction, list(TABLES), draw)
                    after = {name: [*transaction.cursor(name)] for name in TABLES}
                    file.commit(transaction, 1)
                before = after
            except PowerCut:
                torn += device.power_cut()
                file = reopened(device)
                held = content_of(file, list(TABLES))
                assert held in (before, after), f"seed {seed}"
                undone += held == before != after
                before = held
    assert torn > 50
    assert undone > 20


def test_rolled_back_meta_page_is_refused() -> None:
    """The watermark is newer than what is found."""
    file, device = new_file()
    for number in range(5):
        with file.writing() as transaction:
            transaction.put(b"key", b"%d" % number)
            file.commit(transaction, number)
    device.kill()
    device.roll_back_newest_meta()
    with pytest.raises(CorruptStorageError, match="rolled back"):
        SectorFile(Path("simulated"), device, create=False)


def test_pages_of_the_last_two_commits_are_never_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """Copy on write: or else a torn commit would damage what it replaces."""
    file, device = new_file()
    draw = random.Random(3)
    protected: list[set[int]] = [set(), set()]
    written: list[int] = []
    write = device.write

    def note(page: int, content: bytes) -> None:
        written.append(page)
        write(page, content)

    monkeypatch.setattr(device, "write", note)
    for _ in range(60):
        written.clear()
        with file.writing() as transaction:
            for _ in range(5):
                change(transaction, list(TABLES), draw)
            file.commit(transaction, 1)
        assert not protected[-1].intersection(written)
        assert not protected[-2].intersection(written)
        protected.append(set(file.live_pages()))
    assert device.pages < 2000
