"""Log lines: an event in few words, then fields. A thin adapter over the standard library's logging.

    _log = logs.get(__name__)
    _log.info("became leader", term=5, last_index=9)

writes `2026-11-21T02:10:33.965Z INFO raft_loop: became leader term=5 last_index=9` to stderr. INFO tells an operator's
story in a few lines an election; what happens for every message or request is DEBUG. The core does not log.

Field names mean the same everywhere: `member` and `peer` are names or ids of members, `term`, `index` and `etcd_index`
are the design's, `duration_ms` and other units come last, `error` is an exception or its text, `url`, `path` and
`directory` are places. Values that a stranger may have chosen cannot forge a line: control characters, quotes and
whatever is not printable are escaped.
"""

import logging
import sys
from typing import Final, TextIO, final

from kvraft import clock

Level = int
LEVELS: Final = {"debug": logging.DEBUG, "info": logging.INFO, "warn": logging.WARNING, "error": logging.ERROR}
"""The levels by etcd's names for them (`--log-level`)."""

_ROOT: Final = "kvraft"
_VALUE_CHARACTERS_MAX: Final = 2_000
"""A request target may be 2 MiB long; a log line may not."""
_FIELDS: Final = "kvraft_fields"


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
    """Write kvraft's lines from `level` up, and warnings of the libraries, to `stream` (stderr by default).

    Called once, by the composition root. Called again, it replaces what the first call set.
    """
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(_Formatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger(_ROOT).setLevel(level)


def render(fields: dict[str, object]) -> str:
    """`term=5 error="no such file"`: fields in the order in which they were given."""
    return " ".join(f"{name}={_value(value)}" for name, value in fields.items())


@final
class _Formatter(logging.Formatter):
    """The line format. A traceback follows, its lines indented, so that none of them looks like one of ours."""

    def format(self, record: logging.LogRecord) -> str:
        fields = getattr(record, _FIELDS, None)
        event = _escape(record.getMessage())
        line = f"{_timestamp()} {record.levelname} {record.name.rpartition('.')[2]}: {event}"
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
