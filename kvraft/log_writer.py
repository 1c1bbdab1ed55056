"""Lines to a descriptor, from a thread of its own: whoever writes a line never waits for whoever reads it.

What the other end of stderr does is not ours to decide: it may stop reading, be full, or die (etcd#22326 hung for it).
So a line is put into a queue with a limit. What does not fit, or cannot be written, is lost, counted, and told in a
line at its place once writing works again. A line that comes again and again is written a few times a second and
counted beyond, as a thousand equal lines tell nothing and cost the others their room.
"""

import collections
import io
import itertools
import os
import select
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Final, final

from kvraft.log_forms import Form

QUEUE_BYTES_MAX: Final = 1 << 20
"""Some 8,000 lines: a burst at a reader that pauses for a moment."""
URGENT_BYTES_MAX: Final = 1 << 16
"""Room beyond that for errors and last words: they are few, and what the others are read for."""
CLOSE_WITHIN_S: Final = 1.0
"""How long a process that ends waits for the reader of its last lines."""
_BATCH_BYTES: Final = 1 << 16
"""Written at once. What a failed write loses is no more than that."""


@final
class Repeats:
    """Which lines are written: a line like one before only `LINES_MAX` times in a span; the others are counted."""

    SPAN_MS: Final = 1000
    LINES_MAX: Final = 3
    TEXTS_MAX: Final = 256
    """Different lines that are looked at in a span. Beyond, every line is written."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[int, int]] = {}
        """By text: when its span ends, and how often it came in it. In the order of the ends."""

    def is_written(self, text: str, now_ms: int) -> bool:
        """Whether to write this line, which comes now. `due` has been asked before."""
        end_ms, times = self._seen.get(text, (now_ms + self.SPAN_MS, 0))
        if times or len(self._seen) < self.TEXTS_MAX:
            self._seen[text] = end_ms, times + 1
        return times < self.LINES_MAX

    def due(self, now_ms: int | None) -> Iterator[tuple[str, int]]:
        """Lines whose span is over, each with how often it was left out; of all spans if `now_ms` is None."""
        is_over = itertools.takewhile(lambda seen: now_ms is None or seen[1][0] <= now_ms, self._seen.items())
        for text, _ in list(is_over):
            _, times = self._seen.pop(text)
            if times > self.LINES_MAX:
                if now_ms is not None:  # it may go on: then it gets one line a span
                    self._seen[text] = now_ms + self.SPAN_MS, self.LINES_MAX
                yield text, times - self.LINES_MAX

    def wait_s(self, now_ms: int) -> float | None:
        """How long until a span ends; None if none is open."""
        first = next(iter(self._seen.values()), None)
        return None if first is None else max(0, first[0] - now_ms) / 1000


@final
class LineWriter:
    """Writes lines in the order in which they came, or counts them. Any thread may put; `put` never blocks."""

    def __init__(self, descriptor: int, form: Form, now_ms: Callable[[], int]) -> None:
        """Start writing.

        Args:
            descriptor: where to. It is never closed.
            form: what lines look like.
            now_ms: a clock that never goes back.
        """
        self._descriptor = descriptor
        self._form = form
        self._now_ms = now_ms
        # Its lock can be taken again by the thread that holds it, as a finalizer may log wherever memory is asked for.
        self._changed = threading.Condition()
        self._queue: collections.deque[bytes | int] = collections.deque()
        """Lines; a number stands for so many that were lost there."""
        self._queued_bytes = 0
        self._batch: list[tuple[bytes, bytes | int]] = []
        """What the thread has in hand: each line with what it was in the queue."""
        self._repeats = Repeats()
        self._is_writing = False
        self._is_broken = False
        """The last write failed: what is lost is told with the next line, and not tried for its own sake."""
        self._is_torn = False
        """What was written last ends in the middle of a line."""
        self._is_closing = False
        self.lost_lines = 0
        """In all."""
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def put(self, body: str, *, is_urgent: bool = False) -> None:
        """Write a line with the time in it, unless it is one of many equal ones. It may have indented lines."""
        with self._changed:
            now_ms = self._now_ms()
            self._tell_repeats(now_ms)
            if self._repeats.is_written(body, now_ms):
                self.put_as_it_is(self._form.stamped(body), is_urgent=is_urgent)

    def put_foreign(self, line: str) -> None:
        """Write what somebody else meant for stderr."""
        self.put_as_it_is(self._form.foreign(line))

    def put_last(self, text: str) -> None:
        """Write a program's last words, after everything else."""
        with self._changed:
            self._tell_repeats(None)
            self.put_as_it_is(self._form.last_words(text), is_urgent=True)

    def put_as_it_is(self, line: str, *, is_urgent: bool = False) -> None:
        """Write a line without the time, however often."""
        encoded = line.encode("utf-8", "backslashreplace") + b"\n"
        with self._changed:
            room = QUEUE_BYTES_MAX + (URGENT_BYTES_MAX if is_urgent else 0)
            if self._queued_bytes + len(encoded) > room:
                self.lost_lines += 1
                self._mark_lost(1, at_end=True)
                return
            self._queue.append(encoded)
            self._queued_bytes += len(encoded)
            self._changed.notify_all()

    def close(self, within_s: float = CLOSE_WITHIN_S) -> bool:
        """Write what is left, for at most so long. Whether it was all written."""
        with self._changed:
            self._tell_repeats(None)
            self._is_closing = True
            self._changed.notify_all()
        self._thread.join(within_s)
        return not self._thread.is_alive() and not self._is_broken

    def _tell_repeats(self, now_ms: int | None) -> None:
        for body, times in self._repeats.due(now_ms):
            self.put_as_it_is(self._form.stamped(self._form.repeated(body, times)))

    def _mark_lost(self, lines: int, *, at_end: bool) -> None:
        place = -1 if at_end else 0
        if self._queue:
            marked = self._queue[place]
            if isinstance(marked, int):
                self._queue[place] = marked + lines
                return
        (self._queue.append if at_end else self._queue.appendleft)(lines)

    def _run(self) -> None:
        """In the thread, which must live: no other writes, and what it raises would be told to itself alone."""
        while True:
            try:
                self._write_until_closed()
            except Exception:  # noqa: BLE001 -- out of memory, say: what it had in hand is lost, and told of later
                with self._changed:
                    self._account(self._batch, 0)
            else:
                return

    def _write_until_closed(self) -> None:
        while True:
            with self._changed:
                while not self._has_work():
                    if self._is_closing:
                        return
                    self._changed.wait(self._repeats.wait_s(self._now_ms()))
                    self._tell_repeats(self._now_ms())
                self._take()
            written = self._write(b"".join(line for line, _ in self._batch))
            with self._changed:
                self._account(self._batch, written)

    def _has_work(self) -> bool:
        return len(self._queue) > 1 or (bool(self._queue) and not (self._is_broken and isinstance(self._queue[0], int)))

    def _take(self) -> None:
        """What to write next."""
        batch = self._batch
        if self._is_torn:
            batch.append((b"\n", 0))
        size = 0
        while self._queue and size < _BATCH_BYTES:
            item = self._queue.popleft()
            if isinstance(item, int):
                line = f"{self._form.stamped(self._form.lost(item))}\n".encode()
            else:
                line = item
                self._queued_bytes -= len(item)
            batch.append((line, item))
            size += len(line)

    def _write(self, data: bytes) -> int:
        """Write, for as long as it takes; how much of it was written before it failed."""
        written = 0
        while written < len(data):
            try:
                written += os.write(self._descriptor, data[written:])
            except BlockingIOError:  # whoever shares the pipe made it so
                poll = select.poll()
                poll.register(self._descriptor, select.POLLOUT)
                poll.poll()
            except OSError:
                break  # counted by the caller, and told once there is somebody to tell
        return written

    def _account(self, batch: list[tuple[bytes, bytes | int]], written: int) -> None:
        """Count what was not written to its end, and remember it for the next attempt; nothing is in hand then."""
        end = lost = told_again = 0
        is_torn = self._is_torn and not written
        for line, item in batch:
            start, end = end, end + len(line)
            if end <= written:
                continue
            is_torn = is_torn or start < written
            if isinstance(item, int):
                told_again += item
            else:
                lost += 1
        batch.clear()
        self._is_torn = is_torn
        self._is_broken = end > written
        self.lost_lines += lost
        if lost + told_again:
            self._mark_lost(lost + told_again, at_end=False)


@final
class TextLines(io.TextIOBase):
    """What Python itself and its libraries write to `sys.stderr`: warnings, exceptions in finalizers and threads."""

    LINE_CHARACTERS_MAX: Final = 1 << 14

    def __init__(self, writers: Sequence[LineWriter], descriptor: int) -> None:
        self._writers = writers
        self._descriptor = descriptor
        self._begun = ""

    def fileno(self) -> int:
        """Where it ends up."""
        return self._descriptor

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, text: str) -> int:
        """Each line as soon as it is whole."""
        *lines, self._begun = (self._begun + text).split("\n")
        if len(self._begun) > self.LINE_CHARACTERS_MAX:
            lines, self._begun = [*lines, self._begun], ""
        for line in lines:
            for writer in self._writers:
                writer.put_foreign(line)
        return len(text)
