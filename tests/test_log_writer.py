import contextlib
import fcntl
import os
import pathlib
import re
import threading
from collections.abc import Iterator

import pytest

from kvraft import clock
from kvraft.log_forms import TextForm
from kvraft.log_writer import LineWriter, Repeats, TextLines

PIPE_BYTES = 4096


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """The smallest pipe there is: its read and its write end."""
    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    yield reader, writer
    for descriptor in (reader, writer):
        with contextlib.suppress(OSError):
            os.close(descriptor)


def writer_to(descriptor: int) -> LineWriter:
    """A writer with a constant time."""
    return LineWriter(descriptor, TextForm(lambda: "T"), clock.monotonic_ms)


def read_until(descriptor: int, end: bytes) -> str:
    """What comes out, up to this end."""
    read = b""
    while not read.endswith(end):
        read += os.read(descriptor, 1 << 16)
    return read.decode()


def accounted(text: str) -> int:
    """Lines that came out, and those that were told to be lost."""
    lost = re.findall(r"^T WARNING log_writer: log lines were lost lines=(\d+)$", text, re.MULTILINE)
    return text.count("\n") - len(lost) + sum(map(int, lost))


def test_reader_that_stops_reading_holds_nobody_up_and_hears_what_was_lost(pipe: tuple[int, int]) -> None:
    """Every line is there, in order, or counted where it is missing; an error has room when others have none."""
    reader, writing = pipe
    log = writer_to(writing)
    filler = "x" * 200
    for number in range(20_000):
        log.put(f"INFO test: line {number} {filler}")
    log.put("ERROR test: the member stops", is_urgent=True)
    log.put_last("why it stops")
    assert log.lost_lines > 10_000
    text = read_until(reader, b"kvraft: why it stops\n")
    numbers = [int(number) for number in re.findall(r"line (\d+)", text)]
    assert numbers == list(range(len(numbers)))
    assert text.splitlines()[-3:] == [
        f"T WARNING log_writer: log lines were lost lines={log.lost_lines}",
        "T ERROR test: the member stops",
        "kvraft: why it stops",
    ]
    assert accounted(text) == 20_002
    assert log.close()


def test_end_does_not_wait_for_a_reader_that_does_not_read(pipe: tuple[int, int]) -> None:
    """For the bounded while only."""
    reader, writing = pipe
    log = writer_to(writing)
    for number in range(100):
        log.put(f"INFO test: line {number} {'x' * 100}")
    begun_ms = clock.monotonic_ms()
    assert not log.close(within_s=0.05)
    assert clock.monotonic_ms() - begun_ms < 5_000
    os.set_blocking(reader, False)  # the last line may be read and its writer not be through yet
    while not log.close(within_s=0.01):
        with contextlib.suppress(BlockingIOError):
            os.read(reader, 1 << 16)


def test_pipe_that_somebody_made_non_blocking_gets_every_line(pipe: tuple[int, int]) -> None:
    """The flag belongs to the open file, which a parent shares with us."""
    reader, writing = pipe
    os.set_blocking(writing, False)
    log = writer_to(writing)
    for number in range(500):
        log.put(f"INFO test: line {number} {'x' * 100}")
    log.put_as_it_is("end")
    assert accounted(read_until(reader, b"end\n")) == 501
    assert log.lost_lines == 0
    assert log.close()


def test_full_disk_loses_lines_and_counts_them() -> None:
    """`2>/dev/full`: nothing raises, nothing is tried again and again."""
    full = os.open("/dev/full", os.O_WRONLY)
    log = writer_to(full)
    for number in range(10):
        log.put(f"INFO test: line {number}")
    assert not log.close()
    assert log.lost_lines == 10
    os.close(full)


def test_reader_that_died_is_followed_by_one_who_is_told_what_is_missing(tmp_path: pathlib.Path) -> None:
    """Lines are whole for the new reader too, though the last one was cut in its middle; and the count is right."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    first = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    writing = os.open(fifo, os.O_WRONLY)
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    log = writer_to(writing)
    log.put_as_it_is("x" * (2 * PIPE_BYTES))
    os.set_blocking(first, True)
    begun = os.read(first, 10)
    os.close(first)  # the rest of the long line has nobody to go to
    while not log.lost_lines:
        log.put_as_it_is("lost")
    second = os.open(fifo, os.O_RDONLY)
    log.put_as_it_is("end")
    text = begun.decode() + read_until(second, b"end\n")
    torn, told, *others, end = text.splitlines()
    assert torn == "x" * len(torn)
    assert told.startswith("T WARNING log_writer: log lines were lost lines=")
    assert (set(others) <= {"lost"}, end) == (True, "end")
    assert accounted("\n".join([told, *others, end, ""])) == log.lost_lines + len(others) + 1
    assert log.close()
    os.close(second)
    os.close(writing)


def test_many_equal_lines_are_few_with_their_number(pipe: tuple[int, int]) -> None:
    """200 watchers that are cut off at once: an operator reads it once. Other lines pass between."""
    reader, writing = pipe
    log = writer_to(writing)
    for _ in range(200):
        log.put("INFO watches: watching client cut off reason=slow")
    log.put("INFO test: another")
    log.put_last("why it stops")
    assert log.close()
    assert os.read(reader, 1 << 16).decode().splitlines() == [
        *["T INFO watches: watching client cut off reason=slow"] * 3,
        "T INFO test: another",
        "T INFO watches: watching client cut off reason=slow more_times=197",
        "kvraft: why it stops",
    ]


def test_storm_of_equal_lines_gives_one_line_a_second() -> None:
    """As long as it lasts, and with the right sum; afterwards the line is written as ever."""
    repeats = Repeats()
    written, told = 0, []
    for now_ms in range(5_000):
        told += [times for _, times in repeats.due(now_ms)]
        written += repeats.is_written("storm", now_ms)
    assert (written, len(told)) == (3, 4)
    told += [times for _, times in repeats.due(10_000)]
    assert written + sum(told) == 5_000
    assert list(repeats.due(20_000)) == []
    assert repeats.wait_s(20_000) is None
    assert repeats.is_written("storm", 20_000)


@pytest.mark.slow
def test_storm_is_told_while_nobody_logs_anything_else(pipe: tuple[int, int]) -> None:
    """The thread wakes up for it."""
    reader, writing = pipe
    log = writer_to(writing)
    for _ in range(5):
        log.put("INFO test: again")
    assert read_until(reader, b"more_times=2\n").count("\n") == 4
    assert log.close()


def test_different_lines_are_all_written_however_many(pipe: tuple[int, int]) -> None:
    """What is remembered of them has a limit."""
    repeats = Repeats()
    assert all(repeats.is_written(f"line {number}", 0) for number in range(1_000))
    assert len(repeats._seen) == Repeats.TEXTS_MAX


def test_what_python_writes_to_stderr_goes_the_same_way(pipe: tuple[int, int]) -> None:
    """Line by line, whatever the pieces; what has no end is cut."""
    reader, writing = pipe
    log = writer_to(writing)
    stream = TextLines([log], writing)
    print("Exception ignored in:", "f", file=stream)
    stream.write("Trace")
    stream.write("back\nValueError\n")
    stream.write("y" * (TextLines.LINE_CHARACTERS_MAX + 1))
    text = read_until(reader, b"y\n")
    assert text.splitlines()[:3] == ["Exception ignored in: f", "Traceback", "ValueError"]
    assert stream.fileno() == writing
    assert log.close()


def test_line_from_a_finalizer_that_runs_inside_the_writer_does_not_hang(pipe: tuple[int, int]) -> None:
    """Python may collect garbage wherever it asks for memory, and what is collected may log."""
    reader, writing = pipe
    inner: list[LineWriter] = []

    def stamp() -> str:
        if inner:
            inner.pop().put_as_it_is("from within")
        return "T"

    log = LineWriter(writing, TextForm(stamp), clock.monotonic_ms)
    inner.append(log)
    log.put("INFO test: outer")
    assert log.close()
    assert os.read(reader, 1 << 16) == b"from within\nT INFO test: outer\n"


def test_writer_outlives_a_failure_that_nobody_expected(pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """What it had in hand is lost and told with the next line; the thread that writes is the only one."""
    reader, writing = pipe
    write, failed = os.write, threading.Event()

    def fail_once(descriptor: int, data: bytes) -> int:
        if descriptor == writing and not failed.is_set():
            failed.set()
            raise MemoryError
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", fail_once)
    log = writer_to(writing)
    log.put("INFO test: one")
    assert failed.wait(20)
    log.put("INFO test: two")
    text = read_until(reader, b"INFO test: two\n")
    assert text == "T WARNING log_writer: log lines were lost lines=1\nT INFO test: two\n"
    assert log.close()
