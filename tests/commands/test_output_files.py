"""What `export`, `backup`, `import --to-backup` and `import --state` write: a file, whole, and nothing but a file."""

import os
import resource
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pytest

from kvraft.commands.codes import Exit
from tests.api_v2.conftest import Served
from tests.commands.conftest import Run, hide

WRITERS: Final = {
    "export": ("export", "--endpoints={url}", "{file}"),
    "backup": ("backup", "{url}", "{file}"),
    "to-backup": ("import", "{tmp}/tree", "--to-backup={file}"),
    "state": ("import", "{tmp}/tree", "--to={url}", "--state={file}"),
}
TREE: Final = '{"kvraft_export":1,"etcd_index":5}\n{"end":true,"lines":1}\n'


def _words(writer: Sequence[str], served: Served, directory: Path, name: str) -> list[str]:
    hide(served, directory)
    (directory / "tree").write_text(TREE)
    return [word.format(url=served.url, tmp=directory, file=directory / name) for word in writer]


def _make(directory: Path, kind: str) -> None:
    """What is to stay, at `out`."""
    out = directory / "out"
    if kind == "directory":
        out.mkdir()
    elif kind == "fifo":
        os.mkfifo(out)
    elif kind == "link to a fifo":
        os.mkfifo(directory / "fifo")
        out.symlink_to("fifo")
    elif kind == "link to itself":
        out.symlink_to("out")
    elif kind == "link to nowhere":
        out.symlink_to(directory / "none" / "file")
    elif kind == "directory in the way":
        (directory / "out.new").mkdir()
    else:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(os.path.relpath(out))


@pytest.mark.parametrize("writer", WRITERS.values(), ids=WRITERS)
@pytest.mark.parametrize(
    "kind",
    ["directory", "fifo", "link to a fifo", "link to itself", "link to nowhere", "socket", "directory in the way"],
)
def test_nothing_but_a_file_is_replaced(
    run: Run, served: Served, tmp_path: Path, writer: tuple[str, ...], kind: str
) -> None:
    """A device, of which a FIFO has all that matters here, is told before a server is asked, and stays."""
    _make(tmp_path, kind)
    words = [*_words(writer, served, tmp_path, "out")]
    before = {path.name: path.lstat().st_mode for path in tmp_path.iterdir()}
    nobody = [word.replace(served.url, "http://127.0.0.1:1") for word in words]
    ran = run(*nobody)
    assert (ran.exit_code, ran.stdout) == (Exit.WRONG_ARGUMENTS, ""), ran
    assert ran.stderr.startswith(f"kvraft: {tmp_path}/out"), ran
    assert ran.stderr.count("\n") == 1
    assert {path.name: path.lstat().st_mode for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("writer", WRITERS.values(), ids=WRITERS)
@pytest.mark.parametrize("name", [".", "..", "sub/..", "x" * 255, "out/file"])
def test_name_of_no_file_is_told_at_once(
    run: Run, served: Served, tmp_path: Path, writer: tuple[str, ...], name: str
) -> None:
    """Not after a whole tree was read."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "out").touch()
    words = [word.replace(f"{tmp_path}/./", "./") for word in _words(writer, served, tmp_path, name)]
    ran = run(*words)
    assert (ran.exit_code, ran.stdout) == (Exit.WRONG_ARGUMENTS, ""), ran
    assert ran.stderr.splitlines()[-1].startswith(f"kvraft: {tmp_path}"), ran


@pytest.mark.parametrize("writer", list(WRITERS)[:3])
def test_link_keeps_pointing_to_what_is_written(run: Run, served: Served, tmp_path: Path, writer: str) -> None:
    """As `latest -> there/today`: only its owner may read that, whatever was planted beside it."""
    (tmp_path / "there").mkdir()
    target, planted = tmp_path / "there" / "today", tmp_path / "planted"
    (tmp_path / "out").symlink_to("there/today")
    planted.write_text("as it was")
    (tmp_path / "there" / "today.new").symlink_to(planted)
    words = _words(WRITERS[writer], served, tmp_path, "out")
    for there in ("nothing", "yesterday's"):
        ran = run(*words)
        assert ran.exit_code == Exit.DONE, (there, ran)
        assert (tmp_path / "out").is_symlink()
        assert target.stat().st_mode & 0o777 == 0o600
        assert target.read_bytes() not in {b"", b"yesterday's"}
        assert planted.read_text() == "as it was"
        target.write_text("yesterday's")


@pytest.mark.parametrize("writer", ["export", "to-backup"])
def test_left_over_that_others_may_read_is_not_written_to(
    run: Run, served: Served, tmp_path: Path, writer: str
) -> None:
    """The file may hold hashes of passwords."""
    left = tmp_path / "out.new"
    left.touch(0o644)
    with left.open("rb") as others:
        assert run(*_words(WRITERS[writer], served, tmp_path, "out")).exit_code == Exit.DONE
        assert others.read() == b""
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("writer", ["export", "to-backup", "state"])
def test_full_disk_leaves_what_stood_there_and_names_the_file(served: Served, tmp_path: Path, writer: str) -> None:
    """A limit of the size of files does as well, which the system tells in the same place."""
    words = _words(WRITERS[writer], served, tmp_path, "out")
    if writer != "state":
        (tmp_path / "out").write_text("yesterday's")
    before = {path.name for path in tmp_path.iterdir()}
    ended = subprocess.run(
        [sys.executable, "-m", "kvraft", *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)),
    )
    assert ended.returncode == Exit.REFUSED
    assert ended.stderr.splitlines()[-1] == f"kvraft: {tmp_path}/out: File too large"
    assert {path.name for path in tmp_path.iterdir()} == before
