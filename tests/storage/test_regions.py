"""Every region of every file of a data directory, damaged: found in one line, or harmless; never served."""

import math
import os
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from kvraft.storage.errors import StorageError
from tests.storage.child import open_small
from tests.storage.example import EVERYTHING, PAGE, flip, read_everything

pytestmark = pytest.mark.slow

SECTOR: Final = 512
ENVIRONMENTS: Final = ("log", "state-1")
FILES: Final = (
    "identity",
    *(f"{environment}/{name}" for environment in ENVIRONMENTS for name in ("data.mdb", "watermark")),
)
FOUND_EXIT: Final = 1


@dataclass
class Tally:
    """What became of the damages."""

    found: int = 0
    harmless: int = 0

    def judge(self, path: Path, damage: str) -> None:
        """Open the directory: an error in one line, or everything as it was written."""
        try:
            assert read_everything(path) == EVERYTHING, f"{damage}: something else was served"
        except StorageError as error:
            assert "\n" not in str(error), damage
            self.found += 1
        else:
            self.harmless += 1


def damaged(path: Path, pieces: Iterable[tuple[int, bytes]]) -> Iterator[int]:
    """Put each piece into the file at its offset, alone; the file is as it was in between."""
    whole = path.read_bytes()
    for offset, piece in pieces:
        path.write_bytes(whole[:offset] + piece + whole[offset + len(piece) :])
        yield offset
    path.write_bytes(whole)


def sectors(path: Path, every: int) -> Iterator[tuple[int, bytes]]:
    """Zeros in place of sectors that were not all zeros: all of the meta pages, and one of so many of the rest."""
    content = path.read_bytes()
    for number in range(-(-len(content) // SECTOR)):
        sector = content[number * SECTOR : (number + 1) * SECTOR]
        if any(sector) and (number % every == 0 or number * SECTOR < 2 * PAGE):
            yield number * SECTOR, bytes(len(sector))


def _share(count: int) -> float:
    """How many of so many damages must be found, whatever chance has chosen: a fourth, of few less."""
    return count / 4 - 2 * math.sqrt(count)


def _zero_sectors(written: Path, file: str, every: int) -> Tally:
    tally = Tally()
    path = written / file
    restore = {other: (written / other).read_bytes() for other in FILES}
    for offset in damaged(path, sectors(path, every)):
        tally.judge(written, f"zeros at {offset} of {file}")
        for other, content in restore.items():
            if other != file:
                (written / other).write_bytes(content)
    assert tally.found >= 1
    assert read_everything(written) == EVERYTHING
    print(f"{file}: {tally}")
    return tally


@pytest.mark.parametrize("file", FILES)
def test_zeroed_sector_is_found_or_harmless(written: Path, file: str) -> None:
    """512 bytes that a disk has lost: every sector of both meta pages, and a part of the others."""
    _zero_sectors(written, file, 9)


@pytest.mark.torture
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("file", FILES)
def test_each_zeroed_sector_is_found_or_harmless(written: Path, file: str) -> None:
    """Every sector there is."""
    _zero_sectors(written, file, 1)


def _misdirect(written: Path, environment: str, count: int, seed: int) -> None:
    data = written / environment / "data.mdb"
    content = data.read_bytes()
    chance = random.Random(f"{environment}/{seed}")
    pages = len(content) // PAGE
    tally = Tally()
    pairs = [chance.sample(range(pages), 2) for _ in range(count)]
    moved = ((onto * PAGE, content[page * PAGE : (page + 1) * PAGE]) for page, onto in pairs)
    for offset in damaged(data, moved):
        tally.judge(written, f"another page at {offset} of {environment}")
    assert tally.found >= _share(count)
    print(f"{environment}: {tally}")


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_page_written_over_another_is_found_or_harmless(written: Path, environment: str) -> None:
    """A write that went to the wrong place of the same file."""
    _misdirect(written, environment, 20, 1)


@pytest.mark.torture
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_many_pages_written_over_others_are_found_or_harmless(
    written: Path, environment: str, torture_seed: int, scaled: Callable[[int, str], int]
) -> None:
    """As the twenty, two thousand times."""
    _misdirect(written, environment, scaled(2000, "misdirected pages"), torture_seed)


@pytest.mark.torture
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("file", FILES)
def test_flipped_bits_of_all_files_are_found_or_harmless(
    written: Path, file: str, torture_seed: int, scaled: Callable[[int, str], int]
) -> None:
    """Each bit of both meta pages and of the small files, and four thousand others."""
    path = written / file
    size = path.stat().st_size
    chance = random.Random(f"{file}/{torture_seed}")
    metas = range(2 * PAGE if file.endswith("data.mdb") else size)
    structured = [offset for offset in metas if offset % PAGE < 152 or size < PAGE]
    bits = [(offset, bit) for offset in structured for bit in range(8)]
    if size > 2 * PAGE:
        bits += [(chance.randrange(2 * PAGE, size), chance.randrange(8)) for _ in range(4000)]
    bits = sorted(chance.sample(bits, min(len(bits), scaled(len(bits), "flipped bits"))))
    tally = Tally()
    whole = path.read_bytes()
    for offset, bit in bits:
        flip(path, offset, bit)
        tally.judge(written, f"bit {bit} of byte {offset} of {file}")
        path.write_bytes(whole)
    assert tally.found >= _share(len(bits))
    print(f"{file}: {len(bits)} bits, {tally}")


def _read_while_damaged(written: Path, environment: str, offset: int, bit: int) -> int:
    """Open, then damage, then read, in a process of its own; its exit code, negative for the signal that ended it."""
    pid = os.fork()
    if pid == 0:
        code = 0
        try:
            storage = open_small(written)
            flip(written / environment / "data.mdb", offset, bit)
            after = None
            while (after := storage.log.scrub(after, 30)) is not None:
                pass
            image = storage.state.load()
            nodes = {int.from_bytes(key, "big"): record for key, record in image.nodes}
            history = {int.from_bytes(key, "big"): record for key, record in image.history}
            code = 0 if (storage.log.slice(1, 200, 1 << 40), nodes, history) == EVERYTHING else 9
        except StorageError:
            code = FOUND_EXIT
        except BaseException:  # noqa: BLE001 -- what the parent sees is the exit code
            code = 8
        os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _damage_while_open(written: Path, environment: str, count: int, seed: int) -> None:
    path = written / environment / "data.mdb"
    whole = path.read_bytes()
    restore = {other: (written / other).read_bytes() for other in FILES}
    chance = random.Random(f"{environment}/{seed}")
    codes: dict[int, int] = {}
    for _ in range(count):
        offset, bit = chance.randrange(len(whole)), chance.randrange(8)
        code = _read_while_damaged(written, environment, offset, bit)
        assert code in {0, FOUND_EXIT} or code < 0, f"bit {bit} of byte {offset} of {environment}: {code}"
        codes[code] = codes.get(code, 0) + 1
        Tally().judge(written, f"bit {bit} of byte {offset} of {environment}, after a restart")
        path.write_bytes(whole)
        for other, content in restore.items():
            (written / other).write_bytes(content)
        (written / "reading").unlink(missing_ok=True)
    assert codes[FOUND_EXIT] >= count // 10
    print(f"{environment}: exit codes {codes}")


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_bit_that_flips_under_an_open_environment_is_found_or_harmless(written: Path, environment: str) -> None:
    """Reads and scrub check what the map shows; if LMDB itself stumbles, the process ends. Nothing wrong is served."""
    _damage_while_open(written, environment, 15, 1)


@pytest.mark.torture
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_many_bits_that_flip_under_an_open_environment(
    written: Path, environment: str, torture_seed: int, scaled: Callable[[int, str], int]
) -> None:
    """As the fifteen, three thousand times."""
    _damage_while_open(written, environment, scaled(3000, "flips under an open map"), torture_seed)
