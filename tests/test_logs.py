import io
import json
import logging
import re
import sys
from collections.abc import Iterator

import pytest

from kvraft import log_forms, logs


@pytest.fixture
def output() -> Iterator[io.StringIO]:
    """Lines of the root logger as `configure` makes them, and the former set-up back afterwards."""
    root, ours = logging.getLogger(), logging.getLogger("kvraft")
    handlers, level, our_level = root.handlers[:], root.level, ours.level
    stream = io.StringIO()
    logs.configure(stream=stream)
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)
    ours.setLevel(our_level)


def test_line_has_time_level_room_event_and_fields(output: io.StringIO) -> None:
    """One line an event, fields in the order in which they were given."""
    logs.get("kvraft.member.raft_loop").info("became leader", term=5, last_index=9)
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z INFO raft_loop: became leader term=5 last_index=9\n", output.getvalue()
    )


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("plain/path-1", "plain/path-1"),
        ("two words", '"two words"'),
        ("", '""'),
        ('say "x"', r'"say \"x\""'),
        ("a\nERROR forged: line", r'"a\nERROR forged: line"'),
        ("\x1b[31mred", r'"\x1b[31mred"'),
        ("\u202eabc", r'"\u202eabc"'),
        (b"\xff\x00", r'"\\xff\x00"'),
        ("C:\\n", r'"C:\\n"'),
        ("key=value", '"key=value"'),
        (None, "None"),
    ],
)
def test_value_cannot_forge_a_line_or_a_field(value: object, written: str) -> None:
    """Whatever a stranger sends stays inside its field and is printable."""
    assert log_forms.render({"path": value}) == f"path={written}"


def test_long_value_is_cut() -> None:
    """A request line of 2 MiB does not fill the log."""
    assert len(log_forms.render({"target": "x" * 2_000_000})) < 2_100


def test_debug_lines_cost_nothing_until_they_are_asked_for(output: io.StringIO) -> None:
    """INFO is the default."""
    log = logs.get("kvraft.transport")
    log.debug("frame received", peer="n2")
    assert output.getvalue() == ""
    logs.configure(logs.LogSettings(logging.DEBUG), output)
    log.debug("frame received", peer="n2")
    assert "DEBUG transport: frame received peer=n2" in output.getvalue()


def test_traceback_lines_are_indented_under_their_event(output: io.StringIO) -> None:
    """A traceback belongs to its line, and its message cannot begin a line of its own."""
    try:
        raise ValueError("bad\n2026-11-21T00:00:00.000Z INFO forged: line")
    except ValueError:
        logs.get("kvraft.api_v2").exception("request failed", path="/a")
    first, *rest = output.getvalue().splitlines()
    assert first.endswith("ERROR api_v2: request failed path=/a")
    assert rest
    assert all(line.startswith("    ") for line in rest)


def test_warnings_of_libraries_are_shown_and_their_chatter_is_not(output: io.StringIO) -> None:
    """Other loggers speak from WARNING up, in the same form."""
    logging.getLogger("aiohttp.server").info("chatter")
    logging.getLogger("aiohttp.server").warning("odd %s", "thing")
    assert output.getvalue().endswith("WARNING server: odd thing\n")
    assert "chatter" not in output.getvalue()


def test_json_line_has_etcds_names_and_the_fields_as_they_are(output: io.StringIO) -> None:
    """`level`, `ts`, `caller`, `msg` as zap has them, in its order; numbers stay numbers; one line whatever happens."""
    logs.configure(logs.LogSettings(as_json=True), output)
    logs.get("kvraft.member.raft_loop").warning("odd\n", term=5, ok=True, lead=None, rate=0.5, nan=float("nan"))
    line = output.getvalue()
    number = test_json_line_has_etcds_names_and_the_fields_as_they_are.__code__.co_firstlineno + 3
    assert re.fullmatch(
        r'\{"level":"warn","ts":"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z",'
        rf'"caller":"tests/test_logs\.py:{number}","msg":"odd\\n",'
        r'"term":5,"ok":true,"lead":null,"rate":0\.5,"nan":"nan"\}\n',
        line,
    )


def test_json_line_takes_a_traceback_and_hostile_values(output: io.StringIO) -> None:
    """No value ends the line or the object, hides on a terminal, or takes the name of a field of etcd's."""
    logs.configure(logs.LogSettings(as_json=True), output)
    try:
        raise ValueError('bad\n{"level":"info"}')
    except ValueError as error:
        logs.get("kvraft.api_v2").exception("failed", path=b'\xff"}\n', error=error, msg="\u202ex", target="x" * 5000)
    line = output.getvalue()
    assert line.count("\n") == 1
    assert line.isascii()
    read = json.loads(line)
    assert read["level"] == "error"
    assert read["msg"] == "failed"
    assert read["msg_"] == "\u202ex"
    assert read["path"] == '\\xff"}\n'
    assert read["stacktrace"].startswith("Traceback")
    assert len(read["target"]) < 2_100


def test_caller_is_the_file_below_the_package(output: io.StringIO) -> None:
    """As etcd's is below its repository."""
    record = logging.LogRecord("kvraft.member.x", logging.INFO, "/lib/kvraft/member/x.py", 7, "m", None, None)
    assert json.loads(log_forms.JsonForm(lambda: "T").body(record))["caller"] == "member/x.py:7"


@pytest.mark.parametrize("form", [log_forms.TextForm, log_forms.JsonForm])
def test_each_line_for_the_journal_begins_with_its_priority(
    form: type[log_forms.TextForm] | type[log_forms.JsonForm],
) -> None:
    """Also the lines of a traceback, a repetition, a loss, a library's line and the last words."""
    plain, marked = form(lambda: "T"), form(lambda: "T", for_journal=True)
    try:
        raise ValueError("bad\nworse")
    except ValueError:
        failure = sys.exc_info()
    for level, priority in ((10, "<7>"), (20, "<6>"), (30, "<4>"), (40, "<3>"), (50, "<3>")):
        record = logging.LogRecord("kvraft.x", level, "x.py", 1, "event", None, failure)
        for line in marked.stamped(marked.body(record)).splitlines():
            assert line.startswith(priority)
        assert marked.stamped(marked.body(record)).replace(priority, "") == plain.stamped(plain.body(record))
        repeated = marked.stamped(marked.repeated(marked.body(record), 3))
        assert repeated == priority + plain.stamped(plain.repeated(plain.body(record), 3))
    assert marked.stamped(marked.lost(2)) == "<4>" + plain.stamped(plain.lost(2))
    assert marked.foreign("x") == "<4>" + plain.foreign("x")
    assert marked.last_words("x") == "<3>" + plain.last_words("x")
