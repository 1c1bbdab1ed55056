"""The fault matrix of docs/testing.md names tests that exist, leaves out no fault, and covers enough of them."""

import ast
import re
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
ROWS: Final = tuple(
    f"{kind}{number}"
    for kind, count in (("P", 9), ("N", 14), ("C", 5), ("D", 13), ("M-", 7), ("X-", 4))
    for number in range(1, count + 1)
) + tuple(
    f"{kind}{number}" for kind, count in (("O", 9), ("U", 3), ("B", 5), ("A", 6)) for number in range(1, count + 1)
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


def _functions(path: Path) -> set[str]:
    return {
        node.name
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def test_every_fault_has_a_row() -> None:
    """In the order in which they are counted, each once."""
    assert tuple(_table()) == ROWS


def test_every_test_of_the_matrix_exists() -> None:
    """Names of tests are `path::function`, commands name a module of the checkout."""
    missing = []
    for row, tests in _table().items():
        names = re.findall(r"`([^`]+)`", tests)
        assert names or tests.startswith("not covered: "), f"{row} names no test"
        for name in names:
            if name.startswith("python -m "):
                module = ROOT.joinpath(*name.split()[2].split("."))
                exists = module.with_suffix(".py").exists() or (module / "__main__.py").exists()
            elif name.startswith("make "):
                exists = f"\n{name.split()[1]}:" in (ROOT / "Makefile").read_text()
            else:
                path, _, function = name.partition("::")
                exists = (ROOT / path).exists() and function in _functions(ROOT / path)
            if not exists:
                missing.append(f"{row}: {name}")
    assert missing == []


def test_enough_of_the_matrix_is_covered() -> None:
    """Four fifths of all rows, and every row whose fault may lose data or service."""
    uncovered = {row for row, tests in _table().items() if tests.startswith("not covered: ")}
    assert not uncovered & NEVER_UNCOVERED
    assert len(uncovered) <= (1 - COVERED_SHARE) * len(ROWS), sorted(uncovered)
