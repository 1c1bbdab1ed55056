"""Log lines: an event in few words, then fields. A thin adapter over the standard library's logging.

    _log = logs.get(__name__)
    _log.info("became leader", term=5, last_index=9)

writes `2026-11-21T02:10:33.965Z INFO raft_loop: became leader term=5 last_index=9` to stderr, or a JSON object, or to
files (`kvraft/log_forms.py`, `kvraft/log_outputs.py`), and never waits for a reader (`kvraft/log_writer.py`). INFO
tells an operator's story in a few lines an election; what happens for every message or request is DEBUG. The core does
not log.

Field names mean the same everywhere: `member` and `peer` are names or ids of members, `term`, `index` and `etcd_index`
are the design's, `duration_ms` and other units come last, `error` is an exception or its text, `url`, `path` and
`directory` are places.
"""

import atexit
import contextlib
import dataclasses
import functools
import logging
import os
import sys
from typing import Final, TextIO, final

from kvraft import clock
from kvraft.log_forms import FIELDS, Form, JsonForm, TextForm
from kvraft.log_outputs import STDERR, Output, identity
from kvraft.log_writer import TextLines

Level = int
LEVELS: Final = {"debug": logging.DEBUG, "info": logging.INFO, "warn": logging.WARNING, "error": logging.ERROR}
"""The levels by etcd's names for them (`--log-level`)."""

CAPNSLOG_LEVELS: Final = {
    name: level
    for names, level in (
        (("CRITICAL", "C"), logging.CRITICAL),
        (("ERROR", "0", "E"), logging.ERROR),
        (("WARNING", "1", "W"), logging.WARNING),
        (("NOTICE", "2", "N", "INFO", "3", "I"), logging.INFO),
        (("DEBUG", "4", "D", "TRACE", "5", "T"), logging.DEBUG),
    )
    for name in names
}
"""What capnslog, the logging of etcd 2, calls its levels: `--log-package-levels`, `PUT /config/local/log`."""

_ROOT: Final = "kvraft"
_outputs: list[Output] = []


@final
@dataclasses.dataclass(slots=True, frozen=True)
class LogSettings:
    """What is written, where, and what it looks like."""

    level: Level = logging.INFO
    """From which up kvraft's lines are written."""
    room_levels: tuple[tuple[str, Level], ...] = ()
    """Other levels for some rooms: `("transport", logging.DEBUG)`."""
    unread_levels: tuple[str, ...] = ()
    """Levels that were given for rooms that are not there, or that are none."""
    as_json: bool = False
    """One JSON object a line, with etcd's names for what it has too."""
    outputs: tuple[str, ...] = ("default",)
    """`default`, `stderr`, `stdout`, or paths of files."""


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
            # The third frame from here is that of whoever logs.
            self._logger.log(level, "%s", event, extra={FIELDS: fields}, exc_info=exc_info, stacklevel=3)


def get(module: str) -> Log:
    """The log of a module; give it `__name__`."""
    return Log(logging.getLogger(module))


def configure(settings: LogSettings = LogSettings(), stream: TextIO | None = None) -> None:
    """Write kvraft's lines from the wanted level up, and warnings of the libraries.

    They go to the outputs by way of a thread each, and so does from now on whatever else is written to `sys.stderr`:
    nobody waits for a reader, but the end of the process for a moment. With a `stream`, to that one and at once.

    Called once, by the composition root. Called again, it sets the levels anew, and the outputs if they were a stream.

    Raises:
        OSError: an output cannot be opened; its `filename` says which.
    """
    root = logging.getLogger()
    if stream is not None:
        root.handlers[:] = [_StreamHandler(stream, _form(as_json=settings.as_json, for_journal=False))]
    else:
        if not _outputs:
            _open(settings)
        root.handlers[:] = [_QueueHandler(output) for output in _outputs]
    root.setLevel(logging.WARNING)
    logging.getLogger(_ROOT).setLevel(settings.level)
    for room, level in settings.room_levels:
        logging.getLogger(f"{_ROOT}.{room}").setLevel(level)


def _form(*, as_json: bool, for_journal: bool) -> Form:
    return (JsonForm if as_json else TextForm)(_timestamp, for_journal=for_journal)


def _open(settings: LogSettings) -> None:
    atexit.register(_close)
    names = {identity(name): name for name in settings.outputs}.values()
    make_form = functools.partial(_form, as_json=settings.as_json)
    _outputs.extend(Output(name, lambda for_journal: make_form(for_journal=for_journal)) for name in names)
    sys.stderr = TextLines([output.writer for output in _outputs], STDERR)


def reopen() -> None:
    """Write to files by their names anew, as after logrotate(8) has moved them away."""
    for output in _outputs:
        try:
            output.reopen()
        except OSError as error:
            get(__name__).error("log file cannot be opened again: the old one is used", path=output.path, error=error)


def _close() -> None:
    """The last thing that the process does, but for what finalizers write: to stderr itself, if somebody reads it."""
    is_written = [output.writer.close() for output in _outputs]
    if all(is_written):
        sys.stderr = sys.__stderr__


def last_words(text: str) -> None:
    """Say why the program ends, also on stderr if that is no output, whether or not `configure` was called."""
    for output in _outputs:
        output.writer.put_last(text)
    if all(output.descriptor != STDERR for output in _outputs):
        line = TextForm(_timestamp).last_words(text)
        with contextlib.suppress(OSError):  # there is nobody else to tell; the exit code tells it too
            os.write(STDERR, f"{line}\n".encode("utf-8", "backslashreplace"))


def lost_lines() -> int:
    """How many lines were lost, as an output did not take them."""
    return sum(output.writer.lost_lines for output in _outputs)


@final
class _QueueHandler(logging.Handler):
    """Hands lines to the writer, which sets the time into them."""

    def __init__(self, output: Output) -> None:
        super().__init__()
        self._form = output.form
        self._writer = output.writer

    def emit(self, record: logging.LogRecord) -> None:
        self._writer.put(self._form.body(record), is_urgent=record.levelno >= logging.ERROR)


@final
class _StreamHandler(logging.Handler):
    """Writes lines at once."""

    def __init__(self, stream: TextIO, form: Form) -> None:
        super().__init__()
        self._stream = stream
        self._form = form

    def emit(self, record: logging.LogRecord) -> None:
        self._stream.write(f"{self._form.stamped(self._form.body(record))}\n")


def _timestamp() -> str:
    """Now, UTC, in RFC 3339 with milliseconds."""
    milliseconds = clock.wall_ns() // 1_000_000
    return f"{clock.utc_text(milliseconds // 1000)}.{milliseconds % 1000:03}Z"
