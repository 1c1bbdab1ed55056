"""What a log line looks like: text for people, or one JSON object a line for log systems.

A body is a line without its time, so that equal events are seen to be equal; `stamped` sets the time into it. Values
that a stranger may have chosen cannot forge a line: what is not printable is escaped, in JSON also what is not ASCII.

For journald each line begins with its priority, `<3>` to `<7>` (sd-daemon(3)), which journald takes off.
"""

import json
import logging
from collections.abc import Callable
from typing import Final, Protocol, final

FIELDS: Final = "kvraft_fields"
"""The attribute of a `logging.LogRecord` that holds an event's fields."""
_VALUE_CHARACTERS_MAX: Final = 2_000
"""A request target may be 2 MiB long; a log line may not."""
_RESERVED: Final = frozenset({"level", "ts", "caller", "msg", "stacktrace", "more_times"})
"""Field names of a JSON line that are etcd's (zap's), or the writer's."""
_LOST: Final = "log lines were lost"
_TRACEBACKS: Final = logging.Formatter()
_PACKAGE: Final = "/kvraft/"


class Form(Protocol):
    """How one output writes its lines."""

    def body(self, record: logging.LogRecord) -> str:
        """An event, without its time. A traceback may follow in lines of its own."""

    def stamped(self, body: str) -> str:
        """A body with the time now."""

    def repeated(self, body: str, times: int) -> str:
        """The body that says how often another one came and was left out."""

    def lost(self, lines: int) -> str:
        """The body that says how many lines are missing at its place."""

    def foreign(self, line: str) -> str:
        """A whole line that Python or a library wrote to stderr."""

    def last_words(self, text: str) -> str:
        """A whole line that says why the program ends."""


@final
class TextForm:
    """`2026-11-21T02:10:33.965Z INFO raft_loop: became leader term=5 last_index=9`."""

    def __init__(self, now: Callable[[], str], *, for_journal: bool = False) -> None:
        self._now = now
        self._for_journal = for_journal

    def body(self, record: logging.LogRecord) -> str:
        """The lines of a traceback are indented, so that none of them looks like one of ours."""
        line = f"{record.levelname} {record.name.rpartition('.')[2]}: {escape(record.getMessage())}"
        if fields := _fields(record):
            line = f"{line} {render(fields)}"
        if record.exc_info:
            lines = _TRACEBACKS.formatException(record.exc_info).splitlines()
            line += "".join(f"\n    {escape(text)}" for text in lines)
        return self._marked(line, record.levelno)

    def stamped(self, body: str) -> str:
        """The time comes first, behind the priority."""
        if self._for_journal:
            return f"{body[:3]}{self._now()} {body[3:]}"
        return f"{self._now()} {body}"

    def repeated(self, body: str, times: int) -> str:
        """Its first line, with the number."""
        return f"{body.partition(chr(10))[0]} more_times={times}"

    def lost(self, lines: int) -> str:
        """As an event of the writer's."""
        return self._marked(f"WARNING log_writer: {_LOST} lines={lines}", logging.WARNING)

    def foreign(self, line: str) -> str:
        """As it is."""
        return self._marked(line, logging.WARNING)

    def last_words(self, text: str) -> str:
        """Without time or level: it stands below everything else, or alone."""
        return self._marked(f"kvraft: {text}", logging.ERROR)

    def _marked(self, text: str, level: int) -> str:
        """With the priority before each line, if they are for the journal."""
        if not self._for_journal:
            return text
        mark = _priority(level)
        return mark + text.replace("\n", f"\n{mark}")


@final
class JsonForm:
    """`{"level":"info","ts":"2026-11-21T02:10:33.965Z","caller":"member/raft_loop.py:214","msg":"became leader",...}`.

    Names and values of the first four are those of etcd's lines under `--logger=zap`; an event's own fields follow.
    """

    def __init__(self, now: Callable[[], str], *, for_journal: bool = False) -> None:
        self._now = now
        self._for_journal = for_journal

    def body(self, record: logging.LogRecord) -> str:
        """One line, the traceback in a field of its own."""
        line: dict[str, object] = {"caller": _caller(record), "msg": record.getMessage()}
        for name, value in _fields(record).items():
            line[f"{name}_" if name in _RESERVED else name] = _json_value(value)
        if record.exc_info:
            line["stacktrace"] = _TRACEBACKS.formatException(record.exc_info)
        return self._marked(record.levelno, line)

    def stamped(self, body: str) -> str:
        """The time stands behind the level, as in etcd's."""
        level, comma, rest = body.partition(",")
        return f'{level},"ts":"{self._now()}"{comma}{rest}'

    def repeated(self, body: str, times: int) -> str:
        """With the number as its last field."""
        return f'{body[:-1]},"more_times":{times}}}'

    def lost(self, lines: int) -> str:
        """As an event of the writer's."""
        return self._marked(logging.WARNING, {"caller": "log_writer.py", "msg": _LOST, "lines": lines})

    def foreign(self, line: str) -> str:
        """As an event, or a log system could not read it."""
        return self.stamped(self._marked(logging.WARNING, {"caller": "stderr", "msg": line}))

    def last_words(self, text: str) -> str:
        """With zap's level for what ends a program."""
        return self.stamped(self._marked(logging.ERROR, {"msg": text}, "fatal"))

    def _marked(self, level: int, line: dict[str, object], name: str = "") -> str:
        text = json.dumps({"level": name or _zap_level(level), **line}, separators=(",", ":"))
        return _priority(level) + text if self._for_journal else text


def render(fields: dict[str, object]) -> str:
    """`term=5 error="no such file"`: fields in the order in which they were given."""
    return " ".join(f"{name}={_value(value)}" for name, value in fields.items())


def escape(text: str) -> str:
    """The text with every character that is not printable written as Python would (newline, escape, U+202E, ...)."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def _fields(record: logging.LogRecord) -> dict[str, object]:
    fields: dict[str, object] = getattr(record, FIELDS, None) or {}
    return fields


def _text(value: object) -> str:
    text = value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)
    if len(text) > _VALUE_CHARACTERS_MAX:
        text = f"{text[:_VALUE_CHARACTERS_MAX]}... ({len(text)} characters)"
    return text


def _value(value: object) -> str:
    text = _text(value)
    if text and text.isprintable() and not any(character in text for character in ' "=\\'):
        return text
    quoted = escape(text.replace("\\", "\\\\").replace('"', '\\"'))
    return f'"{quoted}"'


def _json_value(value: object) -> object:
    """Numbers and truth values as such, but for what JSON has no form for."""
    if value is None or isinstance(value, bool | int) or (isinstance(value, float) and value - value == 0):
        return value
    return _text(value)


def _caller(record: logging.LogRecord) -> str:
    """`member/raft_loop.py:214`: below the package, for others the last two parts, as zap has it."""
    path = record.pathname
    below = path.rpartition(_PACKAGE)[2] if _PACKAGE in path else "/".join(path.split("/")[-2:])
    return f"{below}:{record.lineno}"


def _zap_level(level: int) -> str:
    if level >= logging.ERROR:
        return "error"
    if level >= logging.WARNING:
        return "warn"
    return "info" if level >= logging.INFO else "debug"


def _priority(level: int) -> str:
    """Of syslog(3)."""
    if level >= logging.ERROR:
        return "<3>"
    if level >= logging.WARNING:
        return "<4>"
    return "<6>" if level >= logging.INFO else "<7>"
