import os
import pathlib
import re
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from kvraft.testing import ports, raw_http, run


@pytest.fixture
def port_base() -> Iterator[int]:
    """A base of which all six ports are free."""
    reservation = ports.reserve(200)
    candidates = (
        base for base in reservation.ports if all(ports.is_free(base + o + p) for o in run.SPACING for p in (0, 1))
    )
    yield next(candidates)
    reservation.release()


def start(port_base: int, data: pathlib.Path) -> "subprocess.Popen[str]":
    """`make run`, elsewhere."""
    command = [
        sys.executable,
        "-m",
        "kvraft.testing.run",
        "--kind=kvraft",
        f"--port-base={port_base}",
        f"--data={data}",
    ]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def read_until(process: "subprocess.Popen[str]", pattern: str) -> str:
    """The lines up to the first that matches."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if re.search(pattern, line):
            return "".join(lines)
    raise AssertionError(f"no line like {pattern!r} in:\n{''.join(lines)}")


@pytest.mark.slow
def test_three_members_run_until_a_signal_and_keep_their_data(port_base: int, tmp_path: pathlib.Path) -> None:
    """Endpoints and leader are printed, log lines carry their member's name, the data is there again."""
    endpoints = [f"http://127.0.0.1:{port_base + offset}" for offset in run.SPACING]
    for round_number, (number, expected_status) in enumerate(((signal.SIGINT, 201), (signal.SIGTERM, 200))):
        with start(port_base, tmp_path) as process:
            shown = read_until(process, r"-- \| data: ")
            assert f"-- | endpoints: {','.join(endpoints)}\n" in shown
            assert re.search(r"-- \| processes: n1 is \d+, n2 is \d+, n3 is \d+\n", shown)
            assert re.search(r"-- \| leader: n[123] at http://127\.0\.0\.1:\d+\n", shown)
            assert {line.split(" | ")[0] for line in shown.splitlines()} == {"n1", "n2", "n3", "--"}
            url = endpoints[round_number]
            assert raw_http.exchange(url, "PUT", "/v2/keys/a", form={"value": "1"}).status == expected_status
            process.send_signal(number)
            shown += read_until(process, r"-- \| stopped; the data is kept")
        assert process.returncode == 0, shown
        assert all(ports.is_free(int(endpoint.rpartition(":")[2])) for endpoint in endpoints)


def test_taken_port_is_named_with_its_holder(
    port_base: int, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is started, and the process to look at is named."""
    script = (
        "import socket\n"
        f"server = socket.create_server(('127.0.0.1', {port_base + 20_001}))\n"
        "print('listening', flush=True)\n"
        "input()\n"
    )
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        assert run.main(["--kind=kvraft", f"--port-base={port_base}", f"--data={tmp_path}/d"]) == 1
        holder.communicate("\n")
    line = capsys.readouterr().err
    assert line.startswith(f"kvraft: port {port_base + 20_001} is taken by pid {holder.pid} (")
    assert "PORT_BASE=" in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "base", ["abc", "", "1.5", "-5", "0", "35535", "99999", "1e3", "3_000", "٣٠٠٠", " 80", "a\nb", "-h"]
)
def test_port_base_that_is_none_is_one_line(
    base: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As `PORT_BASE=abc make run` gives it; argparse would show its usage."""
    monkeypatch.setenv("PORT_BASE", base)
    assert run.main([]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"kvraft: PORT_BASE=.*: use a number from 1 to 35534", line)


def test_port_that_this_user_may_not_have_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is nobody's, so no holder is looked for."""
    monkeypatch.setattr(ports, "may_listen", lambda port: port >= 1024)
    assert run.main(["--port-base=80"]) == 1
    assert capsys.readouterr().err == "kvraft: port 80 is not for this user: choose a PORT_BASE from 1024 on\n"


def test_data_that_cannot_be_made_is_one_line(
    port_base: int, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file is where the directory would be."""
    (tmp_path / "data").write_text("")
    assert run.main([f"--port-base={port_base}", f"--data={tmp_path / 'data'}"]) == 1
    [line] = capsys.readouterr().err.splitlines()
    assert re.fullmatch(r"kvraft: .*data.*: Not a directory: choose another --data", line)


def test_port_base_out_of_range_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """The third member's ports must exist too."""
    assert run.main(["--port-base=40000"]) == 1
    assert capsys.readouterr().err == "kvraft: PORT_BASE=40000: use a number from 1 to 35534\n"


def test_member_that_is_killed_is_named_and_the_others_go_on(port_base: int, tmp_path: pathlib.Path) -> None:
    """Kill -9 of a member is a thing to try by hand: the cluster stays up, and the end of all ends the run."""
    with start(port_base, tmp_path) as process:
        read_until(process, r"-- \| data: ")
        children = pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        members = [pid for pid in children if b"--data-dir" in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()]
        assert len(members) == 3
        os.kill(int(members[0]), signal.SIGKILL)
        read_until(process, r"-- \| n\d ended with -9; 2 left")
        for pid in members[1:]:
            os.kill(int(pid), signal.SIGKILL)
        read_until(process, "every member has ended")
    assert process.returncode == 1
