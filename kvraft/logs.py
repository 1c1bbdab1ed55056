"""Log lines: an event in few words, then fields. A thin adapter over the standard library's logging.

    _log = logs.get(__name__)
    _log.info("became leader", term=5, last_index=9)

writes `2026-11-21T02:10:33.965Z INFO raft_loop: became leader term=5 last_index=9` to stderr, and never waits for its
reader (`kvraft/log_writer.py`). INFO tells an operator's story in a few lines an election; what happens for every
message or request is DEBUG. The core does not log.

Field names mean the same everywhere: `member` and `peer` are names or ids of members, `term`, `index` and `etcd_index`
are the design's, `duration_ms` and other units come last, `error` is an exception or its text, `url`, `path` and
`directory` are places. Values that a stranger may have chosen cannot forge a line: control characters, quotes and
whatever is not printable are escaped.
"""

import atexit
import contextlib
import logging
import os
import sys
from typing import Final, TextIO, final

from kvraft import clock
from kvraft.log_writer import LineWriter, TextLines

Level = int
LEVELS: Final = {"debug": logging.DEBUG, "info": logging.INFO, "warn": logging.WARNING, "error": logging.ERROR}
"""The levels by etcd's names for them (`--log-level`)."""

_ROOT: Final = "kvraft"
_VALUE_CHARACTERS_MAX: Final = 2_000
"""A request target may be 2 MiB long; a log line may not."""
_FIELDS: Final = "kvraft_fields"
_STDERR: Final = 2
_writer: LineWriter | None = None


@final
class Log:
    """Where one module logs. Made by `get`."""

    __slots__ = ("_logger",)

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger

    def debug(self, event: str, /, **fields: object) -> None:
        """What happens for every message or request."""
        self._write(logging.DEBUG, event, fields)

    def info(self, event: str, /, **fields: object) -> None:
        """What an operator's story consists of."""
        self._write(logging.INFO, event, fields)

    def warning(self, event: str, /, **fields: object) -> None:
        """Something an operator should look at; the member goes on."""
        self._write(logging.WARNING, event, fields)

    def error(self, event: str, /, **fields: object) -> None:
        """Something is lost or refused for good, or the member stops. Says what to do if it can."""
        self._write(logging.ERROR, event, fields)

    def exception(self, event: str, /, **fields: object) -> None:
        """An ERROR with the traceback of the exception being handled: only for what is our bug."""
        self._write(logging.ERROR, event, fields, exc_info=True)

    def _write(self, level: Level, event: str, fields: dict[str, object], *, exc_info: bool = False) -> None:
        if self._logger.isEnabledFor(level):
            self._logger.log(level, "%s", event, extra={_FIELDS: fields}, exc_info=exc_info)


def get(module: str) -> Log:
    """The log of a module; give it `__name__`."""
    return Log(logging.getLogger(module))


def configure(level: Level = logging.INFO, stream: TextIO | None = None) -> None:
    """Write kvraft's lines from `level` up, and warnings of the libraries.

    They go to stderr by way of a thread, and so does from now on whatever else is written to `sys.stderr`: nobody waits
    for the reader, but the end of the process for a moment. With a `stream`, to that one and at once.

    Called once, by the composition root. Called again, it replaces what the first call set.
    """
    global _writer  # noqa: PLW0603 -- a process has one stderr
    handler: logging.Handler
    if stream is not None:
        handler = logging.StreamHandler(stream)
    else:
        if _writer is None:
            _writer = LineWriter(_STDERR, _timestamp, clock.monotonic_ms)
            sys.stderr = TextLines(_writer, _STDERR)
            atexit.register(_close, _writer)
        handler = _QueueHandler(_writer)
    handler.setFormatter(_Formatter(with_time=stream is not None))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger(_ROOT).setLevel(level)


def _close(writer: LineWriter) -> None:
    """The last thing that the process does, but for what finalizers write: to stderr itself, if somebody reads it."""
    if writer.close():
        sys.stderr = sys.__stderr__


def last_words(text: str) -> None:
    """Say why the program ends, in a line without time or level, whether or not `configure` was called."""
    line = f"kvraft: {text}"
    if _writer is not None:
        _writer.put_last(line)
        return
    with contextlib.suppress(OSError):  # there is nobody else to tell; the exit code tells it too
        os.write(_STDERR, f"{line}\n".encode("utf-8", "backslashreplace"))


def lost_lines() -> int:
    """How many lines were lost, as stderr did not take them."""
    return 0 if _writer is None else _writer.lost_lines


def render(fields: dict[str, object]) -> str:
    """`term=5 error="no such file"`: fields in the order in which they were given."""
    return " ".join(f"{name}={_value(value)}" for name, value in fields.items())


@final
class _QueueHandler(logging.Handler):
    """Hands lines to the writer, which sets the time before them."""

    def __init__(self, writer: LineWriter) -> None:
        super().__init__()
        self._writer = writer

    def emit(self, record: logging.LogRecord) -> None:
        self._writer.put(self.format(record), is_urgent=record.levelno >= logging.ERROR)


@final
class _Formatter(logging.Formatter):
    """The line format. A traceback follows, its lines indented, so that none of them looks like one of ours."""

    def __init__(self, *, with_time: bool) -> None:
        super().__init__()
        self._with_time = with_time

    def format(self, record: logging.LogRecord) -> str:
        fields = getattr(record, _FIELDS, None)
        event = _escape(record.getMessage())
        line = f"{record.levelname} {record.name.rpartition('.')[2]}: {event}"
        if self._with_time:
            line = f"{_timestamp()} {line}"
        if fields:
            line = f"{line} {render(fields)}"
        if record.exc_info:
            line += "".join(f"\n    {_escape(text)}" for text in self.formatException(record.exc_info).splitlines())
        return line


def _timestamp() -> str:
    """Now, UTC, in RFC 3339 with milliseconds."""
    milliseconds = clock.wall_ns() // 1_000_000
    return f"{clock.utc_text(milliseconds // 1000)}.{milliseconds % 1000:03}Z"


def _value(value: object) -> str:
    if isinstance(value, bytes):
        value = value.decode("utf-8", "backslashreplace")
    text = str(value)
    if len(text) > _VALUE_CHARACTERS_MAX:
        text = f"{text[:_VALUE_CHARACTERS_MAX]}... ({len(text)} characters)"
    if text and text.isprintable() and not any(character in text for character in ' "=\\'):
        return text
    quoted = _escape(text.replace("\\", "\\\\").replace('"', '\\"'))
    return f'"{quoted}"'


def _escape(text: str) -> str:
    """The text with every character that is not printable written as Python would (newline, escape, U+202E, ...)."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
