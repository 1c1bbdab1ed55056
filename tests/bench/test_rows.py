"""How figures are compared, kept and drawn; and that load which is not answered well gives no figure."""

import asyncio
import contextlib
import json
import pathlib
import xml.etree.ElementTree as ET
from collections.abc import AsyncIterator, Callable
from typing import Final

import pytest

from bench.chart import x_of
from bench.fill import fill, is_whole
from bench.growth import Line
from bench.load import load, read
from bench.measured import Measured
from bench.results import draw, keep, of_lines, of_rows
from bench.rows import Row, result_of
from bench.table import WORKLOADS
from bench.watching import waiting
from kvraft.testing import ports
from kvraft.testing.cluster import Program
from kvraft.testing.member import Member

MORE: Final = Row("rate", "per s", True, 2.0, 1.3, words="a rate")
LESS: Final = Row("memory", "MB", False, 0.5, 0.65, words="memory")
OWN: Final = Row("beside", "times", False, 1.2, 1.5, by_itself=True, words="beside")


@pytest.mark.parametrize(
    ("row", "etcd", "kvraft", "multiple", "verdict"),
    [
        (MORE, 100, 200, 2.0, "goal"),
        (MORE, 100, 130, 1.3, "enough"),
        (MORE, 100, 129, 1.29, "missed"),
        (LESS, 100, 50, 0.5, "goal"),
        (LESS, 100, 65, 0.65, "enough"),
        (LESS, 100, 66, 0.66, "missed"),
        (OWN, 9, 1.2, 1.2, "goal"),
        (OWN, 9, 1.6, 1.6, "missed"),
        (Row("none", "ms", False), 1, 9, 9, ""),
        (Row("alone", "ms", False, 1.0), 1, 1.1, 1.1, "missed"),
    ],
)
def test_verdict_is_of_kvrafts_figure_as_a_multiple(
    row: Row, etcd: float, kvraft: float, multiple: float, verdict: str
) -> None:
    """No less than asked where more is better, and otherwise no more."""
    result = result_of(row, {"etcd": [Measured(etcd, "")], "kvraft": [Measured(kvraft, "")]})
    assert result.multiple == pytest.approx(multiple)
    assert result.verdict == verdict


def test_result_is_the_median_of_the_rounds() -> None:
    """Of figures and of CPU; what is counted in no operations has none."""
    rounds = [Measured(value, str(value), value / 2) for value in (1.0, 9.0, 2.0)]
    result = result_of(MORE, {"etcd": rounds, "kvraft": [Measured(4.0, "")]})
    assert (result.medians, result.cpu_us) == ({"etcd": 2.0, "kvraft": 4.0}, {"etcd": 1.0})
    assert result.details["etcd"] == "2.0"


def test_names_are_unique_and_what_must_be_reached_is_less_than_the_goal() -> None:
    """`--only` finds one row by its name."""
    rows = [row for workload in WORKLOADS for row in workload.rows]
    assert len({row.name for row in rows}) == len(rows)
    for row in rows:
        if row.at_least is not None and row.goal is not None:
            assert row.verdict(row.goal) == "goal"
            assert row.verdict(row.at_least) in {"enough", "goal"}, row


def test_kept_runs_stay_by_form_and_are_drawn(tmp_path: pathlib.Path) -> None:
    """A row takes the place of the last one of its form; the charts name every row, in XML that can be read."""
    result = result_of(LESS, {"etcd": [Measured(100, "")], "kvraft": [Measured(40, "")]})
    line = Line("PUT", "us of CPU", "keys", (1000, 1_000_000), (10.0, 14.0))
    run = {"measured_on": "a <machine>", "rows": of_rows([result], "a <machine>"), "growth": of_lines([line])}
    path = tmp_path / "results.json"
    keep(path, "pure", {"measured_on": "old", "rows": [{**of_rows([result], "old")[0], "kvraft": 39.0}]})
    keep(path, "compiled", run)
    kept = keep(path, "pure", run)
    as_kept = json.loads(json.dumps({"pure": run, "compiled": run}))
    assert json.loads(path.read_text()) == json.loads(json.dumps(kept)) == as_kept
    assert not line.is_flat
    beside, grown = ("".join(ET.fromstring(drawn).itertext()) for drawn in draw(kept))
    assert "memory" in beside
    assert "2.50 x" in beside
    assert "a <machine>" in beside
    assert "PUT, by keys" in grown
    assert "1.40 x" in grown


def test_rows_of_another_run_stay_until_they_are_measured_again(tmp_path: pathlib.Path) -> None:
    """A run that was broken off keeps what it has, and one with `--only` adds to it."""
    figures = {"etcd": [Measured(100, "")], "kvraft": [Measured(40, "")]}
    first, second = result_of(MORE, figures), result_of(LESS, figures)
    path = tmp_path / "results.json"
    keep(path, "pure", {"measured_on": "here", "rows": of_rows([first], "here"), "growth": []})
    kept = keep(path, "pure", {"measured_on": "there", "rows": of_rows([second], "there")})["pure"]
    assert [(row["row"], row["measured_on"]) for row in kept["rows"]] == [("rate", "here"), ("memory", "there")]
    assert (kept["measured_on"], kept["growth"]) == ("there", [])


def test_axis_is_logarithmic_and_ends() -> None:
    """Twice as good is as far from 1 as half as good, and what is beyond the axis stands at its end."""
    assert x_of(2) - x_of(1) == pytest.approx(x_of(1) - x_of(0.5), abs=0.2)
    assert x_of(1000) == x_of(64)
    assert x_of(0) == x_of(0.125)


@pytest.mark.parametrize(
    ("answer", "whole"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no", False),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n", False),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n", False),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", True),
    ],
)
def test_answer_is_whole_at_its_end(answer: bytes, whole: bool) -> None:
    """By its length, or by its last chunk."""
    assert is_whole(answer) == whole


def test_wrks_figures_are_in_milliseconds_whatever_its_units(tmp_path: pathlib.Path) -> None:
    """As it prints them: a unit of one letter has a space behind it."""
    shown = "  Latency Distribution\n     50%  812.00us\n     75%    1.10ms\n     90%    1.50ms\n     99%    2.03s \n"
    shown += "  9876 requests in 4.00s, 1.00MB read\nRequests/sec:   2469.00\n"
    found = read(Member("n1", Program(), tmp_path, 1, 2), shown, 4)
    assert (found.answered, found.per_s) == (9876, 2469.0)
    assert [found.p50_ms, found.p99_ms] == pytest.approx([0.812, 2030])


@contextlib.asynccontextmanager
async def refusing(tmp_path: pathlib.Path) -> AsyncIterator[Member]:
    """What answers every request with an error."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    reservation = ports.reserve(1)
    (port,) = reservation.ports
    async with await asyncio.start_server(answer, ports.LOOPBACK, port):
        yield Member("n1", Program(), tmp_path, port, port)
    reservation.release()


def wait_a_while(member: Member) -> None:
    with waiting(member, "/v2/keys/x?wait=true", 1):
        pass


@pytest.mark.slow
@pytest.mark.parametrize(
    "run",
    [
        lambda member: load(member, "put.lua", 1, 1),
        lambda member: load(member, "get.lua", 1, 1),
        lambda member: load(member, "mixed.lua", 1, 1),
        lambda member: load(member, "refresh.lua", 1, 1, "30"),
        lambda member: load(member, "list.lua", 1, 1, "/v2/keys/x"),
        lambda member: fill(member, 2, 1),
        wait_a_while,
    ],
    ids=["put", "get", "mixed", "refresh", "list", "fill", "watch"],
)
@pytest.mark.landing
async def test_load_that_is_refused_gives_no_figure(run: Callable[[Member], object], tmp_path: pathlib.Path) -> None:
    """A row that cannot fail is no row."""
    async with refusing(tmp_path) as member:
        with pytest.raises(SystemExit, match="bench: "):
            await asyncio.to_thread(run, member)
