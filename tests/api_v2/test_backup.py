"""GET /v2/kvraft/backup: whole, in parts, refused, broken off."""

import asyncio
import dataclasses
import os
import pathlib
import random
import tracemalloc

import pytest

from kvraft.api_v2 import backup as module
from kvraft.api_v2.routes import Right, find
from kvraft.records import BackupCopy, BackupRefused
from tests.api_v2.conftest import Served
from tests.api_v2.test_guard import NO_ROOT, basic, populate

KERNEL_BYTES_MAX = 16 << 20
"""More than the kernel takes for somebody who reads nothing."""
CONTENT = random.Random(1).randbytes(3 * module.READ_BYTES + 17)


@pytest.fixture
def copy(served: Served, tmp_path: pathlib.Path) -> BackupCopy:
    """What the member has made."""
    path = tmp_path / "copy"
    path.write_bytes(CONTENT)
    made = BackupCopy("7-1-" + "ab" * 16, str(path), len(CONTENT))
    served.backend.backups.outcome = made
    served.backend.backups.copies[made.copy_id] = made
    return made


async def test_copy_is_sent_whole_with_its_name(served: Served, copy: BackupCopy) -> None:
    """And it is known to have been read to its end."""
    async with await served.connect() as client:
        answer = await client.request("GET", "/v2/kvraft/backup?history=true")
    assert answer.status == 200
    assert answer.header("X-Kvraft-Backup") == copy.copy_id
    assert answer.header("X-Kvraft-Backup-Size") == str(len(CONTENT))
    assert answer.header("Content-Type") == "application/octet-stream"
    assert answer.body == CONTENT
    await served.backend.backups.is_read_no_more.wait()
    assert (served.backend.backups.asked, served.backend.backups.ends) == ([True], [True])


@pytest.mark.parametrize("offset", [1, module.READ_BYTES + 5, len(CONTENT) - 1, len(CONTENT)])
async def test_rest_of_a_copy_is_sent_from_anywhere(served: Served, copy: BackupCopy, offset: int) -> None:
    """Also when nothing is left of it."""
    async with await served.connect() as client:
        answer = await client.request("GET", f"/v2/kvraft/backup?copy={copy.copy_id}&offset={offset}")
    assert (answer.status, answer.body) == (206, CONTENT[offset:])
    assert answer.header("Content-Range") == f"bytes {offset}-{len(CONTENT) - 1}/{len(CONTENT)}"
    assert served.backend.backups.asked == []


@pytest.mark.parametrize(
    ("query", "status", "said"),
    [
        ("copy=gone&offset=1", 410, "this member has no such copy any more"),
        ("copy={}&offset=99999999", 416, "the copy has 3145745 bytes"),
        ("copy={}&offset=-1", 400, "offset is a number of bytes"),
        ("offset=5", 400, "offset is a number of bytes of the copy that is named with it"),
        ("history=maybe", 400, "history is true or false"),
        ("hist=true", 400, "unknown parameter hist: known are history, copy and offset"),
    ],
)
async def test_wrong_question_is_answered_in_one_line(
    served: Served, copy: BackupCopy, query: str, status: int, said: str
) -> None:
    """As JSON, like etcd's other endpoints."""
    async with await served.connect() as client:
        answer = await client.request("GET", f"/v2/kvraft/backup?{query.format(copy.copy_id)}")
    assert answer.status == status
    assert answer.json()["message"].startswith(said)


@pytest.mark.parametrize(("is_room", "status"), [(True, 507), (False, 503)])
async def test_refusal_of_the_member_is_passed_on(served: Served, is_room: bool, status: int) -> None:
    """With what to do."""
    served.backend.backups.outcome = BackupRefused("no: ask another", is_room)
    async with await served.connect() as client:
        answer = await client.request("GET", "/v2/kvraft/backup")
    assert (answer.status, answer.json()) == (status, {"message": "no: ask another"})


async def test_client_that_goes_away_lets_go_of_the_copy(served: Served, copy: BackupCopy) -> None:
    """It is kept for him, unread."""
    reader, writer = await asyncio.open_connection("127.0.0.1", served.server.ports[0])
    writer.write(b"GET /v2/kvraft/backup HTTP/1.1\r\nHost: x\r\n\r\n")
    await reader.readuntil(b"\r\n\r\n")
    assert served.backend.backups.readers == 1
    writer.transport.abort()
    async with asyncio.timeout(20):
        await served.backend.backups.is_read_no_more.wait()
    assert (served.backend.backups.readers, served.backend.backups.ends) == (0, [False])
    assert copy.copy_id


async def test_only_so_many_copies_are_sent_at_once(
    served: Served, copy: BackupCopy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each has a part of the file in memory: one too many is told to come later, whether it begins or goes on."""
    monkeypatch.setattr(module, "SENDINGS_MAX", 1)
    monkeypatch.setattr(module, "PIECES_PER_S_MAX", 0.001)
    reader, writer = await asyncio.open_connection("127.0.0.1", served.server.ports[0])
    writer.write(b"GET /v2/kvraft/backup HTTP/1.1\r\nHost: x\r\n\r\n")
    await reader.readuntil(b"\r\n\r\n")
    async with await served.connect() as client:
        for query in ("", f"?copy={copy.copy_id}&offset=5"):
            answer = await client.request("GET", f"/v2/kvraft/backup{query}")
            assert answer.status == 503
            assert answer.json() == {"message": "this member sends 1 backups already: try again later"}
    writer.transport.abort()


async def test_client_that_takes_nothing_is_broken_off(
    served: Served, copy: BackupCopy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And may ask for the rest: its copy is kept as one that was not read to its end."""
    monkeypatch.setattr(module, "STALLED_S", 0.05)
    monkeypatch.setattr(module, "PIECES_PER_S_MAX", 100_000)
    size_bytes = 4 * KERNEL_BYTES_MAX
    await asyncio.to_thread(os.truncate, copy.path, size_bytes)
    served.backend.backups.outcome = dataclasses.replace(copy, size_bytes=size_bytes)
    reader, writer = await asyncio.open_connection("127.0.0.1", served.server.ports[0], limit=1 << 10)
    writer.write(b"GET /v2/kvraft/backup HTTP/1.1\r\nHost: x\r\n\r\n")
    await reader.readuntil(b"\r\n\r\n")
    async with asyncio.timeout(20):
        await served.backend.backups.is_read_no_more.wait()
    assert served.backend.backups.ends == [False]
    writer.transport.abort()


async def test_slow_client_makes_a_member_hold_little(
    served: Served, copy: BackupCopy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long the copy is, and however often its client takes a little and stops again."""
    monkeypatch.setattr(module, "PIECES_PER_S_MAX", 100_000)
    await asyncio.to_thread(os.truncate, copy.path, 8 * KERNEL_BYTES_MAX)
    served.backend.backups.outcome = dataclasses.replace(copy, size_bytes=8 * KERNEL_BYTES_MAX)
    is_full = asyncio.Event()
    soon = module._soon

    async def told(writable: asyncio.Event) -> None:
        is_full.set()
        await soon(writable)

    monkeypatch.setattr(module, "_soon", told)
    reader, writer = await asyncio.open_connection("127.0.0.1", served.server.ports[0], limit=1 << 10)
    tracemalloc.start()
    try:
        writer.write(b"GET /v2/kvraft/backup HTTP/1.1\r\nHost: x\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        for _ in range(3):
            taken_bytes = 0
            async with asyncio.timeout(20):
                await is_full.wait()
                is_full.clear()
                while taken_bytes < KERNEL_BYTES_MAX:
                    taken_bytes += len(await reader.read(1 << 18))
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 4 * module.READ_BYTES
    writer.transport.abort()


async def test_copy_that_is_shorter_than_it_was_is_no_whole_answer(served: Served, copy: BackupCopy) -> None:
    """Something has happened to the disk: the client sees that the answer has no end."""
    await asyncio.to_thread(pathlib.Path(copy.path).write_bytes, CONTENT[:1000])
    body = await served.raw(b"GET /v2/kvraft/backup HTTP/1.1\r\nHost: x\r\n\r\n")
    assert CONTENT[:1000] in body
    assert not body.endswith(b"0\r\n\r\n")
    assert served.backend.backups.ends == [False]


async def test_server_that_stops_breaks_copies_off(
    served: Served, copy: BackupCopy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once: its client goes on elsewhere, or later."""
    monkeypatch.setattr(module, "PIECES_PER_S_MAX", 0.001)
    reader, writer = await asyncio.open_connection("127.0.0.1", served.server.ports[0])
    writer.write(b"GET /v2/kvraft/backup HTTP/1.1\r\nHost: x\r\n\r\n")
    await reader.readuntil(b"\r\n\r\n")
    async with asyncio.timeout(20):
        await served.server.stop()
        rest = await reader.read()
    assert len(rest) < len(CONTENT)
    writer.close()
    assert (served.backend.backups.ends, copy.size_bytes) == ([False], len(CONTENT))


async def test_backup_is_roots_while_auth_is_on(served: Served, copy: BackupCopy) -> None:
    """It holds all keys, and the hashes of all passwords."""
    route = find(b"/v2/kvraft/backup")
    assert route is not None
    assert route.right(b"GET") is Right.ROOT
    populate(served.backend)
    async with await served.connect() as client:
        for headers in ((), (basic("rw:p"),)):
            other = await client.request("GET", "/v2/kvraft/backup", headers=headers)
            assert (other.status, other.body) == NO_ROOT
        root = await client.request("GET", "/v2/kvraft/backup", headers=[basic("root:rpw")])
        assert (root.status, root.body) == (200, CONTENT)
    assert copy.copy_id
