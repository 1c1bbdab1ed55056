"""What stands at descriptors 0 to 2, and the first and last moments: never a traceback, never a member that hangs."""

import contextlib
import fcntl
import os
import pathlib
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence

import pytest

from kvraft.testing import leash, ports, raw_http

COMMAND = (sys.executable, "-m", "kvraft")
PIPE_BYTES = 4096


@contextlib.contextmanager
def started(
    directory: pathlib.Path, *wrapper: str, stderr: int | None = None, flags: Sequence[str] = ()
) -> "Iterator[tuple[str, subprocess.Popen[bytes]]]":
    """A member alone that serves, at its URL, until it is stopped."""
    reservation = ports.reserve(2)
    client, peer = (f"http://127.0.0.1:{port}" for port in reservation.ports)
    command = [
        *wrapper,
        *COMMAND,
        f"--data-dir={directory}/d",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        *flags,
    ]
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager,
        subprocess.Popen(
            command,
            env={**os.environ, "NOTIFY_SOCKET": f"{directory}/notify"},
            stderr=stderr,
            start_new_session=True,
        ) as member,
    ):
        manager.bind(f"{directory}/notify")
        manager.settimeout(30)
        leash.hold(member.pid)
        try:
            assert manager.recv(100) == b"READY=1"
            yield client, member
        finally:
            member.kill()
            member.wait()
            leash.let_go(member.pid)
            reservation.release()


def stop(member: "subprocess.Popen[bytes]") -> int:
    """SIGTERM, and the exit code."""
    member.terminate()
    return member.wait(timeout=30)


def serves(url: str) -> bool:
    """Whether a write is taken."""
    return raw_http.exchange(url, "PUT", "/v2/keys/a", form={"value": "1"}).status in {200, 201}


@pytest.mark.slow
@pytest.mark.parametrize("redirection", ["<&- >&- 2>&-", ">/dev/full 2>/dev/full"])
def test_member_without_usable_streams_serves_and_ends_with_0(redirection: str, tmp_path: pathlib.Path) -> None:
    """Closed descriptors were the event loop's next ones (SIGABRT at the end); a full disk made the exit code 120."""
    with started(tmp_path, "sh", "-c", f'exec "$@" {redirection}', "sh") as (url, member):
        assert serves(url)
        assert stop(member) == 0


@pytest.mark.parametrize("closed", range(1, 8))
def test_no_file_takes_the_place_of_a_closed_stream(closed: int) -> None:
    """In every combination of closed descriptors the next file gets a number from 3 on, and children get the three."""
    script = (
        "import os; from kvraft import __main__ as entry; entry._open_standard_descriptors();"
        "inherited = [os.get_inheritable(number) for number in range(3)];"
        "os._exit(0 if inherited == [True] * 3 and os.open('/dev/null', os.O_RDONLY) > 2 else 1)"
    )
    redirections = " ".join(f"{number}>&-" for number in range(3) if closed >> number & 1)
    ended = subprocess.run(
        ["sh", "-c", f'exec "$@" {redirections}', "sh", sys.executable, "-c", script], check=False, timeout=30
    )
    assert ended.returncode == 0


def _full_pipe() -> tuple[int, int]:
    """The smallest pipe, without room for another byte."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    os.write(writer, b"x" * PIPE_BYTES)
    return reader, writer


@pytest.mark.slow
def test_member_whose_stderr_nobody_reads_serves_and_stops(tmp_path: pathlib.Path) -> None:
    """Not one line gets out, from the first to the last (etcd#22326)."""
    reader, writer = _full_pipe()
    with started(tmp_path, stderr=writer) as (url, member):
        assert serves(url)
        assert stop(member) == 0
    assert os.read(reader, 2 * PIPE_BYTES).count(b"x") == PIPE_BYTES
    os.close(reader)
    os.close(writer)


@pytest.mark.slow
def test_reader_of_stderr_that_dies_stops_nothing(tmp_path: pathlib.Path) -> None:
    """Nobody is left to read the last lines."""
    reader, writer = os.pipe()
    with started(tmp_path, stderr=writer) as (url, member):
        os.close(reader)
        os.close(writer)
        assert serves(url)
        assert stop(member) == 0


@pytest.mark.slow
def test_impatient_ctrl_c_ends_without_a_traceback(tmp_path: pathlib.Path) -> None:
    """As many as somebody can press: in order, or by the signal."""
    with (tmp_path / "log").open("wb") as log, started(tmp_path, stderr=log.fileno()) as (_, member):
        while member.poll() is None:
            member.send_signal(signal.SIGINT)
        assert member.returncode in {0, 128 + signal.SIGINT, -signal.SIGINT}
    text = (tmp_path / "log").read_text()
    assert "Traceback" not in text
    assert "Exception ignored" not in text


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("module", ["asyncio", "kvraft.settings.flags"])
def test_signal_while_modules_are_imported_ends_without_a_word(
    number: int, module: str, tmp_path: pathlib.Path
) -> None:
    """By the signal, as a shell and systemd expect it."""
    command = [sys.executable, "-X", "importtime", "-m", "kvraft", f"--data-dir={tmp_path}/d"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=tmp_path) as process:
        assert process.stderr is not None
        lines = []
        for line in process.stderr:  # one for each module, when it is done
            lines.append(line)
            if line.split("|")[-1].strip() == module:
                process.send_signal(number)
        assert process.wait(timeout=30) == -number
    assert all(line.startswith("import time:") for line in lines)
    assert list(tmp_path.iterdir()) == []


def _ended(arguments: Sequence[str], redirection: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        ["bash", "-c", f'"$@" {redirection}; exit ${{PIPESTATUS[0]}}', "bash", *COMMAND, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("argument", "redirection", "code", "line"),
    [
        ("--help", "| true", 128 + signal.SIGPIPE, ""),
        ("--version", ">/dev/full", 1, "kvraft: cannot write to stdout: No space left on device\n"),
        ("--version", ">&- 2>&-", 0, ""),
        ("--nosuch", "2>/dev/full", 1, ""),
    ],
)
def test_output_that_nobody_takes_is_one_line_at_most(argument: str, redirection: str, code: int, line: str) -> None:
    """The exit codes are those of other programs: of a pipe that breaks as the signal would make it."""
    ended = _ended([argument], redirection)
    assert (ended.returncode, ended.stderr, ended.stdout) == (code, line, "")


@pytest.mark.slow
def test_line_with_characters_that_the_terminal_does_not_know_is_still_a_line(tmp_path: pathlib.Path) -> None:
    """Under an ASCII locale, with a path in which bytes are no text at all."""
    place = os.fsdecode(bytes(tmp_path) + "/größe-".encode() + b"\xff")
    pathlib.Path(place).write_text("not a directory")
    ended = _ended(
        [f"--data-dir={place}"], "", LC_ALL="C", PYTHONIOENCODING="ascii", PYTHONCOERCECLOCALE="0", PYTHONUTF8="0"
    )
    assert ended.returncode == 1
    assert ended.stderr.startswith("kvraft: --data-dir="), ended.stderr
    assert ended.stderr.count("\n") == 1
