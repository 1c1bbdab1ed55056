"""The judges of the workloads, the schedule and the page of results: what they accept and what they find."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from tests.jepsen_like import failover, history, nemesis, report, shapes
from tests.jepsen_like.check import Verdict
from tests.jepsen_like.history import Fault, Record
from tests.jepsen_like.index_order import check_order
from tests.jepsen_like.workloads import WORKLOADS

MEMBERS: Final = ("n1", "n2", "n3")
SECOND: Final = 1_000_000_000


def record(action: str, key: str, value: str | None, start: int, **more: Any) -> Record:
    known: dict[str, Any] = {"outcome": "ok", "end": start + 5} | more
    if "index" in known and "etcd_index" not in known:
        known["etcd_index"] = known["index"]
    return Record(0, "n1", action, f"/jepsen/{key}", value, start, **known)


@dataclasses.dataclass(slots=True)
class Run:
    """The records of a small run, to be spoiled."""

    workload: str
    records: list[Record]
    events: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    """Of each member, with when they came."""
    missed: dict[str, list[int]] = dataclasses.field(default_factory=dict)
    """The places of the events that a member did not show."""
    final: dict[str, Any] = dataclasses.field(default_factory=dict)

    def judge(self, directory: Path) -> list[str]:
        history.write(directory / "operations-0.jsonl", self.records)
        for name in MEMBERS:
            missed = self.missed.get(name, [])
            lines = "".join(json.dumps(event) + "\n" for at, event in enumerate(self.events) if at not in missed)
            (directory / f"events-{name}.jsonl").write_text(lines)
        (directory / "final.json").write_text(json.dumps(self.final))
        return WORKLOADS[self.workload].judge(directory, quorum=True).problems


def registers() -> Run:
    records = [
        record("write", "r", "a", 10, index=4),
        record("read", "r", "a", 20, index=4, etcd_index=4),
        record("cas", "r", "b", 30, index=5, compared="a"),
        record("write", "other", "x", 32, index=6),
        record("read", "r", "b", 40, index=5, etcd_index=6),
        record("delete", "r", None, 50, index=7),
        record("read", "r", None, 60, etcd_index=7),
    ]
    return Run("register", records)


def stale_read(run: Run) -> None:
    run.records[4] = record("read", "r", "a", 40, index=4, etcd_index=5)


def resurrected(run: Run) -> None:
    run.records[6] = record("read", "r", "b", 60, index=5, etcd_index=7)


def same_index_twice(run: Run) -> None:
    run.records[3].index = run.records[3].etcd_index = 5


def another_value(run: Run) -> None:
    run.records[4].value = "c"


def absent(run: Run) -> None:
    run.records[4] = record("read", "r", None, 40, etcd_index=6)


def from_the_future(run: Run) -> None:
    run.records[4] = record("read", "r", "z", 40, index=99, etcd_index=6)


def swapped_twice(run: Run) -> None:
    run.records.append(record("cas", "r", "c", 31, index=7, compared="a"))
    run.records[5].index = run.records[5].etcd_index = run.records[6].etcd_index = 8


def refused_value(run: Run) -> None:
    run.records[2] = record("cas", "r", "b", 30, outcome="failed", compared="c", etcd_index=4, why="101")


def without_index(run: Run) -> None:
    run.records[6].etcd_index = None


ANOMALIES: Final = [stale_read, resurrected, same_index_twice, another_value, absent, swapped_twice, refused_value]


def sets() -> Run:
    nodes = [{"key": f"/jepsen/s0/{number}", "value": f"e{number}"} for number in (0, 1)]
    tree = {"nodes": [{"key": "/jepsen/s0", "nodes": nodes}]}
    records = [
        record("add", "s0", "e0", 10, index=4),
        record("read", "s0", None, 20, index=4, details=["e0"]),
        record("add", "s0", "e1", 30, index=5),
        record("add", "s0", "e2", 40, outcome="unknown"),
    ]
    return Run("set", records, final={name: [5, tree] for name in MEMBERS})


def lost_element(run: Run) -> None:
    del run.final["n1"][1]["nodes"][0]["nodes"][0]


def element_twice(run: Run) -> None:
    run.final["n1"][1]["nodes"][0]["nodes"].append({"key": "/jepsen/s0/2", "value": "e1"})


def element_of_nobody(run: Run) -> None:
    run.final["n1"][1]["nodes"][0]["nodes"].append({"key": "/jepsen/s0/2", "value": "e9"})


def refused_element(run: Run) -> None:
    run.records[2].outcome = "failed"


def short_listing(run: Run) -> None:
    run.records[1].details = []


def locks() -> Run:
    records = [
        record("acquire", "lock0", "t0", 10, index=4),
        record("release", "lock0", None, 20, index=5, compared="t0"),
        record("acquire", "lock0", "t1", 12, outcome="failed"),
        record("acquire", "lock0", "t2", 22, outcome="unknown"),
        record("settle", "lock0", "t2", 30, index=7, compared="t2"),
        record("release", "lock0", None, 40, index=8, compared="t2"),
    ]
    return Run("lock", records)


def two_holders_in_time(run: Run) -> None:
    run.records[2] = record("acquire", "lock0", "t1", 12, index=9)


def two_holders_by_index(run: Run) -> None:
    run.records[4].index = 5


def expiries() -> Run:
    records = [
        record("write", "t0", "v", 10, index=4, details=1),
        record("write", "t1", "v", 10, index=5, details=1),
        record("refresh", "t1", None, SECOND // 2, index=6, details=2),
    ]
    events = [
        {"at": SECOND + SECOND // 5, "event": {"action": "expire", "node": {"key": "/jepsen/t0", "modifiedIndex": 7}}},
        {"at": 3 * SECOND, "event": {"action": "expire", "node": {"key": "/jepsen/t1", "modifiedIndex": 8}}},
    ]
    return Run("ttl", records, events)


def early_expiry(run: Run) -> None:
    run.events[1]["at"] = 2 * SECOND


def late_expiry(run: Run) -> None:
    run.events[1]["at"] = 30 * SECOND


def no_expiry(run: Run) -> None:
    del run.events[1]


def expiry_not_on_one_member(run: Run) -> None:
    run.missed["n3"] = [0]


def no_expiry_at_all_on_one_member(run: Run) -> None:
    run.missed["n3"] = [0, 1]


def unanswered_expiry_not_on_one_member(run: Run) -> None:
    run.records[0] = record("write", "t0", "v", 10, outcome="unknown", details=1)
    run.missed["n1"] = [0]


def expiry_twice(run: Run) -> None:
    event = {"action": "expire", "node": {"key": "/jepsen/t0", "modifiedIndex": 9}}
    run.events.append({"at": 4 * SECOND, "event": event})


def unanswered_refresh_takes_effect(run: Run) -> None:
    """Of one second, half a second after one of two seconds was answered."""
    run.records.append(record("refresh", "t1", None, SECOND, outcome="unknown", details=1))
    run.events[1]["at"] = 2 * SECOND


def earlier_than_an_unanswered_refresh_would(run: Run) -> None:
    unanswered_refresh_takes_effect(run)
    run.events[1]["at"] = 2 * SECOND - 1


def directories() -> Run:
    def event(action: str, key: str, index: int, **node: Any) -> dict[str, Any]:
        return {"at": index, "event": {"action": action, "node": {"key": key, "modifiedIndex": index, **node}}}

    events = [
        event("create", "/jepsen/a", 4, dir=True),
        event("set", "/jepsen/a/b/c", 5, value="d1"),
        event("delete", "/jepsen/a/b", 6, dir=True),
    ]
    listed = {"/jepsen/a": None, "/jepsen/a/b": None, "/jepsen/a/b/c": "d1"}
    records = [
        record("mkdir", "a", None, 10, index=4),
        record("set", "a/b/c", "d1", 20, index=5),
        record("read", "", None, 30, index=3, etcd_index=5, details=listed),
        record("delete", "a/b", None, 40, index=6),
        record("read", "", None, 50, index=3, etcd_index=6, details={"/jepsen/a": None}),
    ]
    return Run("directory", records, events)


def file_outlives_its_directory(run: Run) -> None:
    run.records[4].details["/jepsen/a/b/c"] = "d1"


def lost_directory(run: Run) -> None:
    del run.events[0]


def event_of_nobody(run: Run) -> None:
    run.events[1]["event"]["node"]["value"] = "d9"


@pytest.mark.parametrize("build", [registers, sets, locks, expiries, directories])
def test_good_run_is_accepted(build: Callable[[], Run], tmp_path: Path) -> None:
    """Unknown and refused operations are no problems."""
    assert build().judge(tmp_path) == []


def test_expiry_by_an_unanswered_refresh_is_accepted(tmp_path: Path) -> None:
    """It may have made the time shorter than the last answered one had."""
    run = expiries()
    unanswered_refresh_takes_effect(run)
    assert run.judge(tmp_path) == []


@pytest.mark.parametrize(
    ("build", "spoil"),
    [
        *((registers, spoil) for spoil in ANOMALIES),
        (registers, from_the_future),
        (registers, without_index),
        (sets, lost_element),
        (sets, element_twice),
        (sets, element_of_nobody),
        (sets, refused_element),
        (sets, short_listing),
        (locks, two_holders_in_time),
        (locks, two_holders_by_index),
        (expiries, early_expiry),
        (expiries, earlier_than_an_unanswered_refresh_would),
        (expiries, late_expiry),
        (expiries, no_expiry),
        (expiries, expiry_not_on_one_member),
        (expiries, no_expiry_at_all_on_one_member),
        (expiries, unanswered_expiry_not_on_one_member),
        (expiries, expiry_twice),
        (directories, file_outlives_its_directory),
        (directories, lost_directory),
        (directories, event_of_nobody),
    ],
)
def test_spoiled_run_is_found(build: Callable[[], Run], spoil: Callable[[Run], None], tmp_path: Path) -> None:
    """Each kind of lie of a cluster is seen."""
    run = build()
    spoil(run)
    assert run.judge(tmp_path) != []


@pytest.mark.parametrize("spoil", [*ANOMALIES, from_the_future, without_index])
def test_order_of_indices_finds_each_anomaly_alone(spoil: Callable[[Run], None]) -> None:
    """Without the search for another order."""
    run, verdict = registers(), Verdict()
    spoil(run)
    check_order(run.records, verdict)
    assert verdict.problems != []


@pytest.mark.parametrize("build", [registers, sets, locks, expiries, directories])
@pytest.mark.parametrize(
    ("status", "error_code", "found"), [(500, 300, False), (500, None, True), (502, 300, True), (404, 100, False)]
)
def test_failure_that_is_none_of_etcds_is_a_problem(
    build: Callable[[], Run], status: int, error_code: int | None, found: bool, tmp_path: Path
) -> None:
    """Of answers from 500 on only etcd's own, with errorCode 300, makes an operation merely unknown."""
    run = build()
    action = "add" if run.workload == "set" else "write" if run.workload in {"register", "ttl"} else "acquire"
    outcome = "failed" if status < 500 else "unknown"
    run.records.append(
        record(action, "another", "q", 70, outcome=outcome, status=status, error_code=error_code, details=1)
    )
    assert any("errorCode" in problem for problem in run.judge(tmp_path)) is found


def test_order_of_indices_lets_unanswered_changes_explain_what_they_can() -> None:
    """One delete explains one disappearance, one write one swap, and neither what was shown afterwards."""
    gone = record("read", "r", None, 40, etcd_index=7)
    lost_delete = record("delete", "r", None, 33, outcome="unknown")
    lost_write = record("write", "r", "u", 33, outcome="unknown")
    swap = record("cas", "r", "w", 41, index=9, compared="u")
    first = [record("write", "r", "a", 10, index=4), record("read", "r", "a", 20, index=4, etcd_index=5)]
    again = [record("write", "r", "b", 50, index=10), record("read", "r", None, 60, etcd_index=12)]
    shown = record("read", "r", "a", 46, index=4, etcd_index=8)

    def problems(*records: Record) -> list[str]:
        verdict = Verdict()
        check_order([*first, *records], verdict)
        return verdict.problems

    assert problems(gone) != []
    assert problems(gone, lost_delete) == []
    assert problems(gone, lost_delete, shown) != []
    assert problems(gone, lost_delete, *again) != []
    assert problems(swap) != []
    assert problems(swap, lost_write) == []
    assert problems(swap, lost_write, record("cas", "r", "x", 50, index=10, compared="u")) != []
    assert problems(record("create", "r", "c", 34, index=7)) != []
    assert problems(record("create", "r", "c", 34, index=7), lost_delete) == []
    assert problems(record("create", "r", "c", 34, index=6), lost_delete) != []
    assert problems(record("create", "r", "c", 34, outcome="failed", etcd_index=6, why="105")) == []
    assert problems(record("delete", "r", None, 34, outcome="failed", etcd_index=6, why="100")) != []


def test_schedule_follows_from_its_seed() -> None:
    """The same seed gives the same faults; in ten minutes every kind comes; processes are spoiled one at a time."""
    kinds = nemesis.NEMESES["mixed"]
    planned = nemesis.schedule(kinds, 600, 1)
    assert planned == nemesis.schedule(kinds, 600, 1)
    assert planned != nemesis.schedule(kinds, 600, 2)
    assert {plan.kind for plan in planned} == set(kinds)
    ends_s = 0.0
    for plan in sorted(planned, key=lambda plan: plan.at_s):
        if plan.kind in nemesis.ONE_AT_A_TIME:
            assert plan.at_s >= ends_s, plan
            ends_s = plan.at_s + plan.for_s


@pytest.mark.parametrize("shape", shapes.SHAPES + shapes.DIALS)
@pytest.mark.parametrize("size", [3, 5])
def test_partition_cuts_some_ways_between_members(shape: shapes.Shape, size: int) -> None:
    """At least one and not all of the directed ways, each once, none from a member to itself."""
    names = [f"n{number}" for number in range(1, size + 1)]
    _, cuts = shape(names[0], names[1:])
    assert 0 < len(cuts) < size * (size - 1)
    assert len(set(cuts)) == len(cuts)
    assert all(one != other and {one, other} <= set(names) for one, other in cuts)


def test_cloudflare_cut_is_between_a_follower_and_the_leader_only() -> None:
    """Both directions of one link; the third member sees both."""
    assert set(shapes.cloudflare("n3", ["n1", "n2"])[1]) == {("n1", "n3"), ("n3", "n1")}


def test_page_shows_problems_and_faults(tmp_path: Path) -> None:
    """In words and as a picture, with every unknown operation in it."""
    history.write(tmp_path / "operations-0.jsonl", registers().records)
    fault = Fault("kill", "kill leader <n1>", 15, 35)
    (tmp_path / "faults.jsonl").write_text(json.dumps(dataclasses.asdict(fault)) + "\n")
    report.write(tmp_path, "the command", "the claim", Verdict(problems=["a & b"]))
    page, words = (tmp_path / "report.html").read_text(), (tmp_path / "report.txt").read_text()
    assert "1 problems, 1 faults" in words
    assert "PROBLEM a & b" in words
    assert "a &amp; b" in page
    assert page.count("<circle") == len(registers().records)
    assert page.count("kill leader &lt;n1&gt;") == 2


def test_failover_that_is_worse_than_asked_for_is_named() -> None:
    """By etcd's median, by election timeouts, and by the longest."""
    assert failover.failures({"etcd": [1.5, 1.5, 1.6], "kvraft": [0.1, 0.1, 0.5]}, 1.0) == []
    assert failover.failures({"kvraft": [0.1, 0.1, 0.5]}, 1.0) == []
    worse = failover.failures({"etcd": [1.0, 1.0, 1.0], "kvraft": [0.1, 1.4, 3.1]}, 1.0)
    assert len(worse) == 3
