"""The fault matrix of docs/testing.md names tests that exist and are run, leaves out no fault, and covers enough."""

import re
from pathlib import Path
from typing import Final

from tests import named_tests, torture

ROOT: Final = Path(__file__).parents[1]
ROWS: Final = tuple(
    f"{kind}{number}"
    for kind, count in (("P", 10), ("N", 18), ("C", 5), ("D", 13), ("M-", 7), ("X-", 4))
    for number in range(1, count + 1)
) + tuple(
    f"{kind}{number}" for kind, count in (("O", 10), ("U", 3), ("B", 5), ("A", 6)) for number in range(1, count + 1)
)
NEVER_UNCOVERED: Final = frozenset(
    {"P1", "P2", "P3", "N1", "N2", "N3", "C1", "C3", "D1", "D2", "D3", "D4", "D5", "D9", "X-1", "X-2", "X-3", "X-4"}
)
"""Their faults may lose data or service."""
COVERED_SHARE: Final = 0.8


def _table() -> dict[str, str]:
    """From the id of each row to its last cell."""
    text = (ROOT / "docs" / "testing.md").read_text()
    matrix = text.partition("## The fault matrix")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| ([A-Z]-?\d+) \| [^|]+ \| ([SR ]*) \| ([^|]+) \|$", matrix, re.MULTILINE)
    assert len(rows) == len({row for row, _, _ in rows}), "a row is there twice"
    for row, where, tests in rows:
        assert bool(where.strip()) is not tests.startswith("not covered: "), f"{row}: covered or not?"
    return {row: tests for row, _, tests in rows}


def test_every_fault_has_a_row() -> None:
    """In the order in which they are counted, each once."""
    assert tuple(_table()) == ROWS


def test_every_test_of_the_matrix_exists() -> None:
    """Names of tests are `path::function`, commands name a module of the checkout."""
    missing = []
    for row, tests in _table().items():
        names = named_tests.of(tests)
        assert names or tests.startswith("not covered: "), f"{row} names no test"
        missing += [f"{row}: {name}" for name in named_tests.missing(names)]
    assert missing == []


def test_every_test_of_the_matrix_is_run_by_a_target() -> None:
    """By `make test`, or by a part of `make torture`; and without the parts that run pytest, it would be noticed."""
    names = [name for tests in _table().values() for name in named_tests.of(tests)]
    commands = [part.command(1, 60, ROOT) for part in torture.all_parts()]
    assert named_tests.unreached(names, commands) == []
    no_pytest = [command for command in commands if command[1] != "pytest"]
    assert any("test_scarcity" in name for name in named_tests.unreached(names, no_pytest))
    assert named_tests.unreached(["python -m tests.nobody"], commands)


def test_every_file_with_torture_tests_is_in_a_part() -> None:
    """Also the files that the matrix does not name, but for the long kill rounds, which run as a program."""
    commands = [part.command(1, 60, ROOT) for part in torture.all_parts()]
    paths = [path for path in (ROOT / "tests").rglob("test_*.py") if named_tests.marked_torture(path)]
    files = {str(path.relative_to(ROOT)) for path in paths}
    assert {path for path in files if not any(named_tests.selected(path, command) for command in commands)} == set()
    assert len(files) > 3, "the marks are not seen"


def test_enough_of_the_matrix_is_covered() -> None:
    """Four fifths of all rows, and every row whose fault may lose data or service."""
    uncovered = {row for row, tests in _table().items() if tests.startswith("not covered: ")}
    assert not uncovered & NEVER_UNCOVERED
    assert len(uncovered) <= (1 - COVERED_SHARE) * len(ROWS), sorted(uncovered)
