"""Threads and tasks whose end is heard of."""

import asyncio
import threading

import pytest

from kvraft.background import Lasting, in_a_thread

WITHIN_S = 20


async def test_what_a_thread_raises_is_raised_to_whoever_waits() -> None:
    """And what it returns is returned."""

    def fail() -> int:
        raise ValueError("a defect")

    async with asyncio.timeout(WITHIN_S):
        with pytest.raises(ValueError, match="a defect"):
            await in_a_thread("fails", fail)
        assert await in_a_thread("works", threading.get_ident) != threading.get_ident()


async def test_where_there_is_no_thread_whoever_waits_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """As of every other end, and not the one who begins it, who has noted already that it is under way."""

    def start(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    waiting = in_a_thread("never", lambda: None)
    with pytest.raises(RuntimeError, match="new thread"):
        await waiting


async def test_whoever_gives_up_is_not_told() -> None:
    """The thread goes on, and its end disturbs nobody."""
    go_on = threading.Event()
    waiting = in_a_thread("waits", go_on.wait)
    waiting.cancel()
    go_on.set()
    async with asyncio.timeout(WITHIN_S):
        await in_a_thread("a later one", lambda: None)
    assert waiting.cancelled()


@pytest.mark.parametrize("end", ["raises", "returns", "is cancelled"])
async def test_every_end_of_what_must_live_is_told_but_its_owner_s(end: str) -> None:
    """To the loop's handler, with its name and its cause."""
    told: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context["exception"]))
    hold = asyncio.Event()

    async def work() -> None:
        await hold.wait()
        if end == "raises":
            raise OSError("a defect")

    ended_by_owner = Lasting(work(), "the one")
    await asyncio.sleep(0)
    ended_by_owner.end()
    await asyncio.wait((ended_by_owner.task,))
    assert told == []
    another = Lasting(work(), "the other")
    hold.set()
    if end == "is cancelled":
        another.task.cancel()
    await asyncio.wait((another.task,))
    await asyncio.sleep(0)
    [defect] = told
    assert isinstance(defect, RuntimeError)
    assert "the other" in str(defect)


async def test_what_may_return_is_not_told_when_it_does() -> None:
    """Only when it fails."""
    told: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context["exception"]))
    done = Lasting(asyncio.sleep(0), "the one", may_return=True)
    await asyncio.wait((done.task,))
    await asyncio.sleep(0)
    assert told == []
