"""The judge itself: it accepts a good run and names each kind of bad one."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from tests.jepsen_like import check

MEMBERS = ("n1", "n2", "n3")


def event(index: int, action: str, key: str, value: str | None, prev: dict[str, Any] | None = None) -> dict[str, Any]:
    node: dict[str, Any] = {"key": key, "modifiedIndex": index, "createdIndex": index}
    if value is not None:
        node["value"] = value
    return {"action": action, "node": node} | ({"prevNode": prev} if prev else {})


def write(index: int, action: str, key: str, value: str, **more: Any) -> dict[str, Any]:
    times = {"start": index * 10, "end": index * 10 + 5}
    return (
        {"action": action, "key": key, "node_key": key, "value": value, "index": index, "outcome": "ok"} | times | more
    )


class Run:
    """A small run without faults, to be spoiled."""

    def __init__(self) -> None:
        counter = {"key": "/kill/cas/0", "value": "b", "modifiedIndex": 11, "createdIndex": 11}
        lock = {"key": "/kill/ttl/d", "value": "d", "modifiedIndex": 13, "createdIndex": 13}
        events = [
            event(10, "set", "/kill/set/0", "a"),
            event(11, "create", "/kill/cas/0", "b"),
            event(12, "compareAndSwap", "/kill/cas/0", "c", counter),
            event(13, "set", "/kill/ttl/d", "d"),
            event(14, "expire", "/kill/ttl/d", None, lock),
        ]
        self.history = [
            write(10, "set", "/kill/set/0", "a"),
            write(11, "create", "/kill/cas/0", "b"),
            write(12, "compareAndSwap", "/kill/cas/0", "c", compared="b"),
            write(13, "set", "/kill/ttl/d", "d"),
            {
                "action": "set",
                "key": "/kill/set/1",
                "value": "lost",
                "outcome": "unknown",
                "start": 1,
                "end": 2,
                "status": 500,
                "error_code": 300,
            },
            {
                "action": "compareAndSwap",
                "key": "/kill/cas/0",
                "value": "no",
                "outcome": "failed",
                "start": 1,
                "end": 2,
            },
        ]
        self.watches = {name: copy.deepcopy(events) for name in MEMBERS}
        nodes = [
            {"key": "/kill/set/0", "value": "a", "modifiedIndex": 10, "createdIndex": 10},
            {"key": "/kill/cas/0", "value": "c", "modifiedIndex": 12, "createdIndex": 12},
        ]
        dump = {"node": {"dir": True, "nodes": nodes}, "etcd_index": 14, "raft_index": 20, "state_hash": "aa"}
        self.dumps: dict[str, dict[str, Any]] = {name: copy.deepcopy(dump) for name in MEMBERS}

    def judge(self, directory: Path) -> list[str]:
        (directory / "history-0.jsonl").write_text("".join(json.dumps(line) + "\n" for line in self.history))
        for name in MEMBERS:
            lines = "".join(json.dumps(line) + "\n" for line in self.watches[name])
            (directory / f"watch-{name}.jsonl").write_text(lines)
            (directory / f"dump-{name}.json").write_text(json.dumps(self.dumps[name]))
        return check.check_directory(directory).problems


def test_good_run_has_no_problems(tmp_path: Path) -> None:
    """An unknown write that did not happen and a failed one are no problems."""
    assert Run().judge(tmp_path) == []


def lose_acknowledged_write(run: Run) -> None:
    for name in MEMBERS:
        del run.watches[name][0]
        del run.dumps[name]["node"]["nodes"][0]


def lose_write_on_one_member(run: Run) -> None:
    del run.dumps["n2"]["node"]["nodes"][0]


def watcher_misses_event(run: Run) -> None:
    del run.watches["n3"][2]


def watcher_sees_event_twice(run: Run) -> None:
    run.watches["n3"].insert(2, run.watches["n3"][1])


def watcher_sees_events_swapped(run: Run) -> None:
    run.watches["n1"][0:2] = run.watches["n1"][1::-1]


def watchers_are_sent_different_events(run: Run) -> None:
    run.watches["n1"][0]["node"]["value"] = "other"


def unknown_write_happens_twice(run: Run) -> None:
    for name in MEMBERS:
        first = event(15, "set", "/kill/set/1", "lost")
        run.watches[name] += [first, event(16, "set", "/kill/set/1", "lost", first["node"])]
        run.dumps[name]["etcd_index"] = 16
        node = {"key": "/kill/set/1", "value": "lost", "modifiedIndex": 16, "createdIndex": 16}
        run.dumps[name]["node"]["nodes"].append(node)


def failed_write_happens(run: Run) -> None:
    run.history[0]["outcome"] = "failed"


def event_without_a_request(run: Run) -> None:
    del run.history[0]


def swap_compares_another_value(run: Run) -> None:
    run.history[2]["compared"] = "z"


def later_write_has_lower_index(run: Run) -> None:
    run.history[0]["start"] = 1000
    run.history[0]["end"] = 1001


def state_hashes_differ(run: Run) -> None:
    run.dumps["n3"]["state_hash"] = "bb"


def key_outlives_its_expiry(run: Run) -> None:
    node = {"key": "/kill/ttl/d", "value": "d", "modifiedIndex": 13, "createdIndex": 13}
    run.dumps["n1"]["node"]["nodes"].append(node)


def expiry_of_another_value(run: Run) -> None:
    for name in MEMBERS:
        run.watches[name][4]["prevNode"]["value"] = "other"


def member_fails_without_a_word(run: Run) -> None:
    run.history[4]["error_code"] = None


def swap_replaces_another_write_of_the_value(run: Run) -> None:
    for name in MEMBERS:
        run.watches[name][2]["prevNode"]["modifiedIndex"] = 10


def write_replaces_what_was_not_there(run: Run) -> None:
    for name in MEMBERS:
        run.watches[name][0]["prevNode"] = run.watches[name][2]["prevNode"] | {"key": "/kill/set/0"}


@pytest.mark.parametrize(
    "spoil",
    [
        lose_acknowledged_write,
        lose_write_on_one_member,
        watcher_misses_event,
        watcher_sees_event_twice,
        watcher_sees_events_swapped,
        watchers_are_sent_different_events,
        unknown_write_happens_twice,
        failed_write_happens,
        event_without_a_request,
        swap_compares_another_value,
        later_write_has_lower_index,
        state_hashes_differ,
        key_outlives_its_expiry,
        expiry_of_another_value,
        member_fails_without_a_word,
        swap_replaces_another_write_of_the_value,
        write_replaces_what_was_not_there,
    ],
)
def test_spoiled_run_has_problems(spoil: Any, tmp_path: Path) -> None:
    """Each kind of lie of a cluster is seen."""
    run = Run()
    spoil(run)
    assert run.judge(tmp_path) != []


def history_of_one_key() -> dict[int, dict[str, Any]]:
    """Every kind of event that replaces or removes something."""
    actions = {4: "set", 5: "set", 6: "compareAndSwap", 7: "delete", 8: "create", 9: "expire", 10: "create"}
    events: dict[int, dict[str, Any]] = {}
    before = None
    for index, action in actions.items():
        gone = action in {"delete", "expire"}
        events[index] = event(index, action, "/kill/k", None if gone else f"v{index}", before)
        before = None if gone else copy.deepcopy(events[index]["node"])
    return events


def test_replay_accepts_what_each_event_says_to_have_replaced() -> None:
    """Nothing before a creation, and the node before it otherwise."""
    verdict = check.Verdict()
    assert check.replay(history_of_one_key(), verdict) == {"/kill/k": ("v10", 10, 10)}
    assert verdict.problems == []


@pytest.mark.parametrize("index", [5, 6, 7, 9])
@pytest.mark.parametrize("field", ["value", "modifiedIndex", "createdIndex", "key", "all"])
def test_replay_finds_a_wrong_prev_node(index: int, field: str) -> None:
    """Of a set, a swap, a delete and an expiry: another value, index or key, or none."""
    events, verdict = history_of_one_key(), check.Verdict()
    if field == "all":
        del events[index]["prevNode"]
    else:
        events[index]["prevNode"][field] = 3 if field.endswith("Index") else "other"
    check.replay(events, verdict)
    assert len(verdict.problems) == 1


def test_replay_finds_a_prev_node_where_nothing_was() -> None:
    """After a delete there is nothing to replace."""
    events, verdict = history_of_one_key(), check.Verdict()
    events[8]["prevNode"] = events[6]["node"]
    check.replay(events, verdict)
    assert len(verdict.problems) == 1
