"""Tests that a document names, `path::function` or a command: that they exist, and that a target runs them."""

import ast
import functools
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]


def of(cell: str) -> list[str]:
    """The names in a cell of a table."""
    return re.findall(r"`([^`]+)`", cell)


def missing(names: Iterable[str]) -> list[str]:
    """Those that name nothing of the checkout."""
    gone = []
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
            gone.append(name)
    return gone


@functools.cache
def _functions(path: Path) -> set[str]:
    return {
        node.name
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


@functools.cache
def marked_torture(path: Path) -> set[str]:
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


def selected(path: str, command: list[str]) -> bool:
    """Whether a part of `make torture` runs the tests of this file that are marked so."""
    if command[:2] != ["-m", "pytest"] or "torture" not in command[2:]:
        return False
    chosen = [word for word in command[2:] if word.startswith("tests/")]
    left_out = [word.removeprefix("--deselect=") for word in command if word.startswith("--deselect=")]
    return any(Path(path).is_relative_to(word) for word in chosen) and path not in left_out


def unreached(names: list[str], commands: list[list[str]]) -> list[str]:
    """Which names no part runs, nor `make test` and `make conformance`: all that is not marked torture."""
    modules = {command[1] for command in commands}
    unreached = []
    for name in names:
        path, _, function = name.partition("::")
        if name.startswith("python -m "):
            reached = name.split()[2] in modules
        elif name.startswith("make "):
            reached = True
        else:
            reached = function not in marked_torture(ROOT / path) or any(
                selected(path, command) for command in commands
            )
        if not reached:
            unreached.append(name)
    return unreached
