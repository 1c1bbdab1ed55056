"""The fault matrix of docs/testing.md names tests that exist and are run, leaves out no fault, and covers enough."""

import ast
import functools
import re
from pathlib import Path
from typing import Final

from tests import torture

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


@functools.cache
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


@functools.cache
def _marked_torture(path: Path) -> set[str]:
    """The test functions of a file that pytest leaves out without `-m torture`; not those with a small version too."""
    text = path.read_text()
    if "pytest.mark.torture" not in text:
        return set()
    tree = ast.parse(text)
    whole_file = any(
        isinstance(node, ast.Assign)
        and "pytestmark" in {target.id for target in node.targets if isinstance(target, ast.Name)}
        and "pytest.mark.torture" in ast.unparse(node.value)
        for node in tree.body
    )
    return {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (whole_file or "pytest.mark.torture" in map(ast.unparse, node.decorator_list))
    }


def _selected(path: str, command: list[str]) -> bool:
    """Whether a part of `make torture` runs the tests of this file that are marked so."""
    if command[:2] != ["-m", "pytest"] or "torture" not in command[2:]:
        return False
    chosen = [word for word in command[2:] if word.startswith("tests/")]
    left_out = [word.removeprefix("--deselect=") for word in command if word.startswith("--deselect=")]
    return any(Path(path).is_relative_to(word) for word in chosen) and path not in left_out


def _unreached(names: list[str], commands: list[list[str]]) -> list[str]:
    """Which of the matrix's names no part runs, nor `make test`, which is all of tests/ but what is marked torture."""
    modules = {command[1] for command in commands}
    unreached = []
    for name in names:
        path, _, function = name.partition("::")
        if name.startswith("python -m "):
            reached = name.split()[2] in modules
        elif name.startswith("make "):
            reached = True
        else:
            reached = function not in _marked_torture(ROOT / path) or any(
                _selected(path, command) for command in commands
            )
        if not reached:
            unreached.append(name)
    return unreached


def test_every_test_of_the_matrix_is_run_by_a_target() -> None:
    """By `make test`, or by a part of `make torture`; and without the parts that run pytest, it would be noticed."""
    names = [name for tests in _table().values() for name in re.findall(r"`([^`]+)`", tests)]
    commands = [part.command(1, 60, ROOT) for part in torture.all_parts()]
    assert _unreached(names, commands) == []
    no_pytest = [command for command in commands if command[1] != "pytest"]
    assert any("test_scarcity" in name for name in _unreached(names, no_pytest))
    assert _unreached(["python -m tests.nobody"], commands)


def test_every_file_with_torture_tests_is_in_a_part() -> None:
    """Also the files that the matrix does not name, but for the long kill rounds, which run as a program."""
    commands = [part.command(1, 60, ROOT) for part in torture.all_parts()]
    files = {str(path.relative_to(ROOT)) for path in (ROOT / "tests").rglob("test_*.py") if _marked_torture(path)}
    assert {path for path in files if not any(_selected(path, command) for command in commands)} == set()
    assert len(files) > 3, "the marks are not seen"


def test_enough_of_the_matrix_is_covered() -> None:
    """Four fifths of all rows, and every row whose fault may lose data or service."""
    uncovered = {row for row, tests in _table().items() if tests.startswith("not covered: ")}
    assert not uncovered & NEVER_UNCOVERED
    assert len(uncovered) <= (1 - COVERED_SHARE) * len(ROWS), sorted(uncovered)
