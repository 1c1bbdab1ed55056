"""The threads that a member takes at its start."""

import asyncio
import threading

import pytest

from kvraft.settings.flags import SettingsError
from kvraft.start import thread_limit

WITHIN_S = 20


def _no_more(_thread: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")


async def test_work_goes_on_where_the_system_has_no_more_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """As much at once as there are threads; more waits for its turn."""
    loop = asyncio.get_running_loop()
    thread_limit.start_threads(loop)
    together = threading.Barrier(thread_limit.THREADS)
    with monkeypatch.context() as scarce:
        scarce.setattr(threading.Thread, "start", _no_more)
        works = [loop.run_in_executor(None, together.wait, WITHIN_S) for _ in range(3 * thread_limit.THREADS)]
    async with asyncio.timeout(WITHIN_S):
        assert sorted(await asyncio.gather(*works)) == sorted(3 * [*range(thread_limit.THREADS)])


@pytest.mark.parametrize("started", [0, 3])
async def test_start_without_threads_says_what_to_do(monkeypatch: pytest.MonkeyPatch, started: int) -> None:
    """And leaves none of those behind that it got."""
    before = {*threading.enumerate()}
    start = threading.Thread.start

    def starts_some(thread: threading.Thread) -> None:
        if len({*threading.enumerate()} - before) == started:
            _no_more(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", starts_some)
    with pytest.raises(SettingsError, match=r"can't start new thread: .*raise TasksMax of its unit, or `ulimit -u`"):
        thread_limit.start_threads(asyncio.get_running_loop())
    for thread in {*threading.enumerate()} - before:
        thread.join(WITHIN_S)
        assert not thread.is_alive()
