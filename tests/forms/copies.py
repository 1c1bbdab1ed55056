"""Copies of this checkout below `build/forms/`, as it is written and compiled, to be run side by side.

This checkout itself may be of either form (`make compiled`).
"""

import hashlib
import os
import pathlib
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from typing import Final

ROOT: Final = pathlib.Path(__file__).parents[2]
FORMS: Final = ("pure", "compiled")
_PLACE: Final = ROOT / "build" / "forms"
_COPIED: Final = ("kvraft", "tests", "bench", "setup.py", "pyproject.toml", "README.md", "LICENSE")
_EXTENSIONS: Final = "*.so"


def copies() -> dict[str, pathlib.Path]:
    """A copy of each form. Compiling takes minutes, unless nothing was changed since the last time.

    Raises:
        subprocess.CalledProcessError: it could not be compiled; what the compiler said is on stderr.
    """
    made = {}
    for form in FORMS:
        copy = _PLACE / form
        shutil.rmtree(copy, ignore_errors=True)
        _copy_sources(copy)
        if form == "compiled":
            _copy_extensions(_compiled(), copy)
        made[form] = copy
    said = outputs(made, ["-c", "from kvraft.start import versions; print(versions.form())"])
    assert said == {form: f"{form}\n" for form in FORMS}, "a copy is of its form"
    return made


def outputs(made: dict[str, pathlib.Path], arguments: Sequence[str]) -> dict[str, str]:
    """What python prints in each copy, both at once. What it says on stderr is shown.

    Raises:
        subprocess.CalledProcessError: it failed in one of them.
    """
    command = [sys.executable, *arguments]
    running = {
        form: subprocess.Popen(command, cwd=copy, stdout=subprocess.PIPE, text=True) for form, copy in made.items()
    }
    said = {form: process.communicate()[0] for form, process in running.items()}
    for form, process in running.items():
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, [form, *command], said[form][-2000:])
    return said


def _copy_sources(copy: pathlib.Path) -> None:
    copy.mkdir(parents=True)
    for name in _COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__", _EXTENSIONS))
        else:
            shutil.copy2(source, copy / name)


def _compiled() -> pathlib.Path:
    """A directory with what the compiler makes of these sources, at the places where it belongs."""
    digest = hashlib.blake2b(f"{sys.version} {sysconfig.get_platform()}".encode(), digest_size=8)
    for path in [ROOT / "setup.py", *sorted((ROOT / "kvraft").rglob("*.py"))]:
        digest.update(path.read_bytes())
    compiled = _PLACE / f"extensions-{digest.hexdigest()}"
    if not compiled.exists():
        for older in _PLACE.glob("extensions-*"):
            shutil.rmtree(older)
        with tempfile.TemporaryDirectory(dir=_PLACE) as temporary:
            source, found = pathlib.Path(temporary, "source"), pathlib.Path(temporary, "found")
            _copy_sources(source)
            subprocess.run(
                [sys.executable, "setup.py", "-q", "build_ext", "--inplace"],
                cwd=source,
                env={**os.environ, "KVRAFT_COMPILED": "1"},
                check=True,
                stdout=subprocess.DEVNULL,
            )
            _copy_extensions(source, found)
            found.rename(compiled)
    return compiled


def _copy_extensions(source: pathlib.Path, copy: pathlib.Path) -> None:
    for path in source.rglob(_EXTENSIONS):
        if "build" not in path.relative_to(source).parts:
            target = copy / path.relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, target)
