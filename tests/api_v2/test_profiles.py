"""/debug/pprof: what it shows, and that it is not there unasked."""

import asyncio
import sys
import threading

import pytest

from kvraft.api_v2 import profiles
from kvraft.api_v2.answers import Framing
from kvraft.api_v2.asker import Asker
from kvraft.api_v2.exchange import Exchange
from kvraft.api_v2.routes import PROFILES, Right
from kvraft.api_v2.settings import ApiSettings
from tests.api_v2.conftest import start
from tests.api_v2.test_guard import NO_ROOT, basic, populate


async def test_profiles_are_not_there_unasked() -> None:
    """As in etcd without `--enable-pprof`."""
    served = await start(ApiSettings())
    async with await served.connect() as client:
        assert (await client.request("GET", "/debug/pprof/")).status == 404
    await served.server.stop()


async def test_stacks_name_threads_tasks_and_where_they_are() -> None:
    """Of this very thread, and of a task that waits; text, as Go's with debug=2."""

    async def waits_for_nobody() -> None:
        await asyncio.Event().wait()

    waiting = asyncio.create_task(waits_for_nobody(), name="a patient task")
    served = await start(ApiSettings(profiles=True))
    async with await served.connect() as client:
        answer = await client.request("GET", "/debug/pprof/goroutine?debug=2")
        assert answer.status == 200
        assert answer.header("Content-Type") == "text/plain; charset=utf-8"
        text = answer.body.decode()
        assert "[MainThread]:" in text
        assert "in _stacks" in text
        assert "task a patient task:" in text
        assert "in waits_for_nobody" in text
        index = await client.request("GET", "/debug/pprof/")
        assert b"goroutine" in index.body
        cmdline = await client.request("GET", "/debug/pprof/cmdline")
        assert cmdline.body.decode().split("\0") == sys.argv
        unknown = await client.request("GET", "/debug/pprof/heap")
        assert (unknown.status, unknown.body) == (404, b"Unknown profile: kvraft has goroutine, profile and cmdline\n")
    waiting.cancel()
    await served.server.stop()


async def test_profile_counts_stacks_while_others_are_served() -> None:
    """A line each, outermost first; one at a time, and requests go on meanwhile."""
    served = await start(ApiSettings(profiles=True))
    async with await served.connect() as client, await served.connect() as other:
        target = "/debug/pprof/profile?seconds=1"
        refused, done = sorted(
            await asyncio.gather(client.request("GET", target), other.request("GET", target)),
            key=lambda answer: -answer.status,
        )
        assert refused.status == 500
        assert refused.body == b"Could not enable CPU profiling: cpu profiling already in use\n"
        assert done.status == 200
        lines = done.body.decode().splitlines()
        assert all(int(line.rpartition(" ")[2]) > 0 for line in lines)
        assert any(line.startswith("MainThread;") for line in lines)
    await served.server.stop()


class _Nobody:
    """A connection whose client has gone."""

    def token(self) -> bytes:
        raise AssertionError

    def asker(self) -> Asker:
        raise AssertionError

    def common_headers(self) -> bytes:
        return b""

    def write(self, parts: list[bytes]) -> None:
        raise AssertionError(parts)

    def is_writable(self) -> bool:
        return True

    def abort(self) -> None:
        raise AssertionError

    def exchange_over(self, *, keep_alive: bool) -> None:
        raise AssertionError(keep_alive)


async def test_client_that_goes_away_ends_its_profile() -> None:
    """The next one may begin at once, instead of in five minutes."""
    exchange = Exchange(_Nobody(), Framing(http10=False, head=False, keep_alive=True))
    assert profiles.answer(b"/debug/pprof/profile", b"seconds=300", exchange) is None
    assert profiles._busy.locked()
    exchange.gone()
    assert await asyncio.to_thread(profiles._busy.acquire, timeout=30)
    profiles._busy.release()


def test_profile_is_roots() -> None:
    """It costs the member something."""
    assert PROFILES.right(b"GET") is PROFILES.right(b"POST") is Right.ROOT


async def test_profile_asks_who_wants_it_while_auth_is_on() -> None:
    """Root gets it, others get what etcd tells them elsewhere."""
    served = await start(ApiSettings(profiles=True))
    populate(served.backend)
    async with await served.connect() as client:
        for headers, status in (((), 401), ((basic("r:p"),), 401), ((basic("root:rpw"),), 200)):
            answer = await client.request("GET", "/debug/pprof/goroutine", headers=headers)
            assert answer.status == status
            assert status == 200 or answer.body == NO_ROOT[1]
    await served.server.stop()


async def test_profile_that_gets_no_thread_is_answered_and_is_not_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next one is not told that one is under way."""

    def start_none(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(profiles, "_sampled", lambda *_: b"stacks")
    served = await start(ApiSettings(profiles=True))
    async with await served.connect() as client:
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", start_none)
            failed = await client.request("GET", "/debug/pprof/profile?seconds=1")
        assert (failed.status, failed.body) == (500, b"Could not sample: see the log\n")
        assert (await client.request("GET", "/debug/pprof/profile?seconds=1")).body == b"stacks"
    await served.server.stop()


async def test_profile_that_fails_is_answered_and_is_not_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever its thread raises."""

    def fail(*_: object) -> bytes:
        raise MemoryError

    served = await start(ApiSettings(profiles=True))
    async with await served.connect() as client:
        with monkeypatch.context() as patched:
            patched.setattr(profiles, "_sampled", fail)
            failed = await client.request("GET", "/debug/pprof/profile?seconds=1")
        assert (failed.status, failed.body) == (500, b"Could not sample: see the log\n")
        monkeypatch.setattr(profiles, "_sampled", lambda *_: b"stacks")
        assert (await client.request("GET", "/debug/pprof/profile?seconds=1")).body == b"stacks"
    await served.server.stop()
