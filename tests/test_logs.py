import io
import logging
import re
from collections.abc import Iterator

import pytest

from kvraft import logs


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
    assert logs.render({"path": value}) == f"path={written}"


def test_long_value_is_cut() -> None:
    """A request line of 2 MiB does not fill the log."""
    assert len(logs.render({"target": "x" * 2_000_000})) < 2_100


def test_debug_lines_cost_nothing_until_they_are_asked_for(output: io.StringIO) -> None:
    """INFO is the default."""
    log = logs.get("kvraft.transport")
    log.debug("frame received", peer="n2")
    assert output.getvalue() == ""
    logs.configure(logging.DEBUG, output)
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
