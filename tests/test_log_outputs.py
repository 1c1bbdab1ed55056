"""Outputs of the log, in processes of their own: a process has one stderr."""

import json
import os
import pathlib
import signal
import subprocess
import sys

import pytest

from tests.test_standard_streams import started, stop

_PROGRAM = """
import sys
from kvraft import logs
logs.configure(logs.LogSettings(as_json={as_json}, outputs={outputs}))
log = logs.get("kvraft.member.member")
log.info("first", number=1)
{steps}
print("from a library", file=sys.stderr)
logs.last_words("the end")
"""


def run(outputs: tuple[str, ...], steps: str = "", *, as_json: bool = False, journal: str = "") -> tuple[str, str]:
    """What such a program leaves on stdout and stderr."""
    program = _PROGRAM.format(outputs=outputs, steps=steps, as_json=as_json)
    command = [sys.executable, "-c", program]
    if journal:  # its stderr is the journal if that is what it says
        command = ["sh", "-c", f'JOURNAL_STREAM="$(stat -L -c {journal} /dev/fd/2)" exec "$0" "$@"', *command]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    return ended.stdout, ended.stderr


def test_every_output_gets_every_line_and_stderr_the_last_words(tmp_path: pathlib.Path) -> None:
    """Also what a library writes to `sys.stderr`; two names of one file are one output.

    Each output sets the time into its lines, which may be a millisecond later in one.
    """
    file = tmp_path / "log"
    stdout, stderr = run((str(file), "stdout", f"file://{tmp_path}/./log"))
    assert stderr == "kvraft: the end\n"
    for text in (file.read_text(), stdout):
        first, library, last = text.splitlines()
        assert first.endswith("INFO member: first number=1")
        assert (library, last) == ("from a library", "kvraft: the end")


def test_every_line_is_json_whoever_wrote_it() -> None:
    """Libraries and last words too, or a log system would stumble."""
    _, stderr = run(("stderr",), as_json=True)
    first, library, last = map(json.loads, stderr.splitlines())
    assert (first["level"], first["msg"], first["number"]) == ("info", "first", 1)
    assert (library["level"], library["msg"]) == ("warn", "from a library")
    assert (last["level"], last["msg"]) == ("fatal", "the end")
    assert all(line["ts"] for line in (first, library, last))


@pytest.mark.parametrize(
    ("output", "stream", "is_marked"),
    [
        ("default", "%d:%i", True),
        ("systemd/journal", "%d:%i", True),
        ("stderr", "%d:%i", False),
        ("default", "1:%i", False),
    ],
)
def test_journald_is_told_of_levels_where_it_reads(output: str, stream: str, is_marked: bool) -> None:
    """By the default only, and only if stderr is what JOURNAL_STREAM names."""
    _, stderr = run((output,), journal=stream)
    assert [line[:3] for line in stderr.splitlines() if line.startswith("<")] == (
        ["<6>", "<4>", "<3>"] if is_marked else []
    )


def test_file_is_opened_anew_by_its_name(tmp_path: pathlib.Path) -> None:
    """What comes before goes to the moved one, what comes after to the new, and nothing is lost on the way."""
    file, moved = tmp_path / "log", tmp_path / "log.1"
    steps = f"""
import os
for number in range(2, 500):
    log.info("line", number=number)
os.rename({str(file)!r}, {str(moved)!r})
logs.reopen()
log.info("last", number=500)
"""
    run((str(file),), steps)
    lines = (moved.read_text() + file.read_text()).splitlines()
    numbers = [int(line.rpartition("=")[2]) for line in lines if "number=" in line]
    assert numbers == list(range(1, 501))
    assert "number=500" in file.read_text()


def test_file_that_cannot_be_opened_anew_leaves_the_old_one_in_use(tmp_path: pathlib.Path) -> None:
    """Its directory is gone: the line that says so is the next one."""
    file, moved = tmp_path / "logs" / "log", tmp_path / "moved"
    file.parent.mkdir()
    steps = f"""
import os
os.rename({str(file.parent)!r}, {str(moved)!r})
logs.reopen()
"""
    run((str(file),), steps)
    assert "ERROR logs: log file cannot be opened again" in (moved / "log").read_text()


def test_output_that_cannot_be_opened_is_one_line_and_no_file(tmp_path: pathlib.Path) -> None:
    """Before anything else is touched; a pipe that nobody reads is no output either."""
    os.mkfifo(tmp_path / "pipe")
    for output in (tmp_path / "none" / "log", tmp_path, tmp_path / "pipe"):
        command = [sys.executable, "-m", "kvraft", f"--data-dir={tmp_path}/d", f"--log-outputs={output}"]
        ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
        assert ended.returncode == 1
        assert ended.stderr.startswith(f"kvraft: --log-outputs={output}: {output}: "), ended.stderr
        assert ended.stderr.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


@pytest.mark.slow
def test_member_goes_on_in_a_new_file_after_sighup(tmp_path: pathlib.Path) -> None:
    """As logrotate(8) has it."""
    file = tmp_path / "logs" / "log"
    file.parent.mkdir()
    with started(tmp_path, flags=[f"--log-outputs={file}"]) as (_, member):
        file.rename(tmp_path / "old")
        member.send_signal(signal.SIGHUP)
        assert stop(member) == 0
    assert "serving clients" in (tmp_path / "old").read_text()
    assert file.read_text().splitlines()[-1].endswith("INFO running: stopped member=default")
