"""What the audit log says of a request, through both fronts, and what it never says."""

import asyncio
import json
import socket
import stat
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from kvraft import audit_log
from kvraft.api_v2.settings import ApiSettings
from kvraft.keyspace.errors import EtcdError
from kvraft.testing.raw_http import Connection
from tests.api_v2.conftest import Served, start
from tests.api_v2.test_guard import ask, populate

Entries = list[dict[str, object]]


@pytest.fixture
def entries(monkeypatch: pytest.MonkeyPatch) -> Entries:
    """What is written, in the order in which it is."""
    written: Entries = []
    monkeypatch.setattr(audit_log, "write", written.append)
    return written


@pytest_asyncio.fixture
async def audited(settings: ApiSettings, entries: Entries) -> AsyncIterator[Served]:
    """A server with an audit log, its users known and auth on."""
    running = await start(replace(settings, is_audited=True))
    populate(running.backend)
    yield running
    await running.server.stop()


@pytest_asyncio.fixture
async def client(audited: Served) -> AsyncIterator[Connection]:
    """One connection to it."""
    async with await audited.connect() as connection:
        yield connection


@pytest.mark.parametrize(
    ("method", "target", "login", "entry"),
    [
        ("GET", "/v2/keys/b?quorum=true", "r:p", {"user": "r", "path": "/v2/keys/b", "outcome": 200}),
        ("GET", "/v2/keys/b", None, {"user": "", "path": "/v2/keys/b", "outcome": 401}),
        ("GET", "/v2/keys/b", "r:wrong", {"user": "", "claimed": "r", "path": "/v2/keys/b", "outcome": 401}),
        ("GET", "/v2/auth/users", "no\n:x", {"user": "", "claimed": "no\n", "path": "/v2/auth/users", "outcome": 401}),
        (
            "GET",
            "/v2/keys/b",
            "n" * 300 + ":x",
            {"user": "", "claimed": "n" * 256, "path": "/v2/keys/b", "outcome": 401},
        ),
        ("GET", "/v2/keys/a", "r:p", {"user": "r", "path": "/v2/keys/a", "outcome": 401}),
        ("PUT", "/v2/keys/b?value=hidden&prevValue=secret", "w:p", {"user": "w", "path": "/v2/keys/b", "outcome": 412}),
        ("GET", "/v2/keys/a/%0a%22%ff", "r:p", {"user": "r", "path": '/v2/keys/a/\n"\\xff', "outcome": 404}),
        ("GET", "/v2/auth/users", "root:rpw", {"user": "root", "path": "/v2/auth/users", "outcome": 200}),
        (
            "DELETE",
            "/v2/auth/users/r",
            "root:rpw",
            {"user": "root", "path": "/v2/auth/users/r", "change": "DeleteUser(name='r')", "outcome": 200},
        ),
        ("DELETE", "/v2/auth/enable", "rw:p", {"user": "rw", "path": "/v2/auth/enable", "outcome": 401}),
        (
            "DELETE",
            "/v2/members/1",
            "root:rpw",
            {"user": "root", "path": "/v2/members/1", "change": "RemoveMember(member_id=1)", "outcome": 404},
        ),
    ],
)
async def test_an_entry_says_who_did_what_with_what_outcome(
    client: Connection, entries: Entries, method: str, target: str, login: str | None, entry: dict[str, Any]
) -> None:
    """One for each request; of parameters none."""
    await ask(client, method, target, login)
    assert entries == [{"address": "127.0.0.1", "method": method, **entry}]


async def test_a_password_is_in_no_entry(client: Connection, entries: Entries) -> None:
    """Neither a new one, nor its hash, nor the one of whoever asks."""
    body = b'{"user":"new","password":"hidden1","roles":["reads"]}'
    await ask(client, "PUT", "/v2/auth/users/new", "root:rpw", body)
    assert entries[0]["change"] == "PutUser(name='new', roles=('reads',), grant=(), revoke=())"
    assert not [word for word in ("hidden1", "$2b$", "rpw") if word in repr(entries)]


async def test_a_watch_has_an_entry_when_it_opens(client: Connection, entries: Entries) -> None:
    """And none for its events."""
    head = await client.stream("/v2/keys/open?wait=true")
    assert head.status == 200
    assert [entry["outcome"] for entry in entries] == [200]


async def test_whoever_goes_before_his_answer_has_an_entry_without_outcome(
    audited: Served, entries: Entries, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection was reset while his write waited."""
    audited.backend.has_quorum = False
    came = asyncio.Event()
    read_barrier = audited.backend.read_barrier

    def noted(done: Callable[[EtcdError | None], None]) -> Callable[[], None]:
        came.set()
        return read_barrier(done)

    monkeypatch.setattr(audited.backend, "read_barrier", noted)
    async with await audited.connect() as other:
        await other.send("GET", "/v2/keys/open?quorum=true")
        await came.wait()
        sender = other.writer.get_extra_info("socket")
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        other.writer.transport.abort()
        await audited.backend.nobody_waits.wait()
    assert [entry["outcome"] for entry in entries] == [0]


async def test_what_is_everybodys_to_read_has_no_entry(client: Connection, entries: Entries) -> None:
    """Nor has what is nowhere; a change of the log level has one."""
    for target in ("/version", "/health", "/metrics", "/v2/members", "/v2/stats/self", "/nowhere", "/v2/auth/enable"):
        await ask(client, "GET", target)
    assert entries == []
    await ask(client, "PUT", "/config/local/log", None, b'{"Level":"INFO"}')
    assert [entry["path"] for entry in entries] == ["/config/local/log"]


PROGRAM = """
import os, sys
from kvraft import audit_log
audit_log.open_at(sys.argv[1])
audit_log.write({"user": "a\\nb\\u2028\\x7f"})
os.rename(sys.argv[1], sys.argv[1] + ".1")
for output in audit_log._outputs:
    assert output.writer.close()
audit_log._outputs.clear()
audit_log.open_at(sys.argv[1])
audit_log.write({"user": "second"})
os.rename(sys.argv[1], sys.argv[1] + ".2")
audit_log.reopen()
"""


def test_entries_are_lines_of_json_in_a_file_for_the_operator_alone(tmp_path: Path) -> None:
    """No value can begin another line; the file that has the name after a rotation is written to, and has mode 600."""
    path = tmp_path / "audit.log"
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    lines = (tmp_path / "audit.log.1").read_text().splitlines()
    assert [json.loads(line)["user"] for line in lines] == ["a\nb\u2028\x7f"]
    assert list(json.loads(lines[0])) == ["ts", "user"]
    assert path.exists(), "opened anew"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
