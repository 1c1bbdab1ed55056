"""/debug/pprof under `--enable-pprof`: where the threads and tasks of this process are, as text.

Go's profiles are of Go's runtime, so only the ones with a meaning here are served, under their names: `goroutine` is
every thread and every task with its stack, `profile` samples all threads for a while and counts equal stacks, a line
each, as flame graphs are made of. Neither is in pprof's own form, and `go tool pprof` reads neither.
"""

import asyncio
import io
import sys
import threading
import traceback
from collections import Counter
from types import FrameType
from typing import Final

from kvraft import clock, logs
from kvraft.api_v2 import errors
from kvraft.api_v2.answers import Answer
from kvraft.api_v2.exchange import Exchange
from kvraft.api_v2.go_forms import values_of
from kvraft.background import in_a_thread

log = logs.get(__name__)

_HEADERS: Final = errors.PLAIN + b"X-Content-Type-Options: nosniff\r\n"
_INDEX: Final = b"""/debug/pprof/ of kvraft, which is Python: text, nothing that go tool pprof reads

goroutine   every thread and task with its stack
profile     stacks of all threads, sampled for ?seconds=30, a line each with its count, as flame graphs are made of
cmdline     the command line, with NUL between its words
"""
_SECONDS: Final = 30
"""Go's, if nothing or nonsense is asked for."""
_SECONDS_MAX: Final = 300
_PERIOD_S: Final = 0.01
"""Go samples as often."""
_busy = threading.Lock()


def answer(path: bytes, query: bytes, exchange: Exchange) -> Answer | None:
    """The answer for a clean path; None if a profile is under way, which answers the exchange at its end."""
    match path.removeprefix(b"/debug/pprof").strip(b"/"):
        case b"":
            return Answer(200, _HEADERS, _INDEX)
        case b"cmdline":
            return Answer(200, _HEADERS, "\0".join(sys.argv).encode("utf-8", "surrogateescape"))
        case b"goroutine":
            return Answer(200, _HEADERS, _stacks().encode("utf-8", "backslashreplace"))
        case b"profile":
            return _begin_profile(_seconds(query), exchange)
        case _:
            return errors.text_error(404, b"Unknown profile: kvraft has goroutine, profile and cmdline")


def _stacks() -> str:
    """Every thread, then every task that waits."""
    text = io.StringIO()
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    for ident, frame in sys._current_frames().items():  # noqa: SLF001 -- the documented way, in spite of its name
        text.write(f"thread {ident} [{names.get(ident, 'unknown')}]:\n")
        text.writelines(traceback.format_stack(frame))
        text.write("\n")
    for task in asyncio.all_tasks():
        text.write(f"task {task.get_name()}:\n")
        task.print_stack(file=text)
        text.write("\n")
    return text.getvalue()


def _seconds(query: bytes) -> int:
    """How long to sample: what is asked for within bounds."""
    asked = next(iter(values_of(query, b"seconds")), b"")
    if len(asked) > 6 or not asked.isdigit() or not int(asked):
        return _SECONDS
    return min(int(asked), _SECONDS_MAX)


def _begin_profile(seconds: int, exchange: Exchange) -> Answer | None:
    if not _busy.acquire(blocking=False):
        return errors.text_error(500, b"Could not enable CPU profiling: cpu profiling already in use")
    over = threading.Event()
    exchange.on_gone = over.set

    def show(ended: asyncio.Future[bytes]) -> None:
        _busy.release()
        error = ended.exception()
        if error is not None:
            log.error("a profile failed", error=repr(error))
            exchange.answer(errors.text_error(500, b"Could not sample: see the log"))
        else:
            exchange.answer(Answer(200, _HEADERS, ended.result()))

    in_a_thread("profile", lambda: _sampled(seconds, over)).add_done_callback(show)
    return None


def _sampled(seconds: int, over: threading.Event) -> bytes:
    """Stacks as `thread;outer;inner count`, the most frequent first."""
    own = threading.get_ident()
    counts: Counter[str] = Counter()
    end_ns = clock.monotonic_ns() + seconds * 1_000_000_000
    while clock.monotonic_ns() < end_ns and not over.wait(_PERIOD_S):
        names = {thread.ident: thread.name for thread in threading.enumerate()}
        for ident, frame in sys._current_frames().items():  # noqa: SLF001 -- see _stacks
            if ident != own:
                counts[f"{names.get(ident, 'unknown')};{_folded(frame)}"] += 1
    return "".join(f"{stack} {count}\n" for stack, count in counts.most_common()).encode("utf-8", "backslashreplace")


def _folded(frame: FrameType | None) -> str:
    parts = []
    while frame is not None:
        code = frame.f_code
        parts.append(f"{code.co_qualname} ({code.co_filename.rpartition('/')[2]}:{frame.f_lineno})")
        frame = frame.f_back
    return ";".join(reversed(parts))
