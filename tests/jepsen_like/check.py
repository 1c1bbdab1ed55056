"""Judges a run of `kill_rounds` by what clients, watchers and dumps have written down.

    python -m tests.jepsen_like.check DIRECTORY

It shares no code with the writers. All facts hang on etcd's `modifiedIndex`, which is unique to an event, so every
check is a sort or a pass (O(n log n)):

- watchers of all members were sent the same events, each once, in order of index;
- every acknowledged write is that event: same index, key, value and action; a swap replaced the value it compared with;
- a write of unknown outcome happened at most once, a failed one never, and nothing happened that nobody asked for;
- a write that began after another was acknowledged has the higher index (real-time order);
- no member failed but by saying so as etcd does, 500 with errorCode 300;
- the trees of all members are equal, and equal to what the events add up to; each event's `prevNode` is what was there;
- every key with a TTL that is gone expired by an event of its own.
"""

import argparse
import dataclasses
import itertools
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any, Final, final

PROBLEMS_SHOWN: Final = 20


@final
@dataclasses.dataclass(slots=True)
class Verdict:
    """What was counted, and what is wrong."""

    counts: Counter[str] = dataclasses.field(default_factory=Counter)
    problems: list[str] = dataclasses.field(default_factory=list)

    def require(self, fact: bool, problem: str) -> None:
        """Note a problem unless the fact holds."""
        if not fact:
            self.problems.append(problem)


def check_directory(directory: Path) -> Verdict:
    """Read and judge a whole run."""
    verdict = Verdict()
    operations = [record for path in sorted(directory.glob("history-*.jsonl")) for record in _records(path)]
    watches = {path.stem: _records(path) for path in sorted(directory.glob("watch-*.jsonl"))}
    dumps = {path.stem: json.loads(path.read_text()) for path in sorted(directory.glob("dump-*.json"))}
    verdict.require(bool(operations), "no operations were recorded")
    verdict.require(len(watches) > 1 and len(dumps) > 1, "fewer than two members were watched and dumped")
    for outcome, count in Counter(operation["outcome"] for operation in operations).items():
        verdict.counts[f"writes {outcome}"] = count
    events = check_watches(watches, dumps, verdict)
    check_writes(operations, events, verdict)
    check_real_time_order(operations, verdict)
    check_dumps(dumps, events, verdict)
    return verdict


def _records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def check_watches(
    watches: dict[str, list[dict[str, Any]]], dumps: dict[str, dict[str, Any]], verdict: Verdict
) -> dict[int, dict[str, Any]]:
    """Every watcher was sent the same events in the order of their indices. Returns them by index."""
    end = max((dump["etcd_index"] for dump in dumps.values()), default=0)
    by_watch: dict[str, list[int]] = {}
    events: dict[int, dict[str, Any]] = {}
    for name, lines in watches.items():
        refused = [line for line in lines if "refused" in line]
        verdict.require(not refused, f"{name} was refused: {refused[:1]}")
        sent = [event for event in lines if "refused" not in event and event["node"]["modifiedIndex"] <= end]
        indices = [event["node"]["modifiedIndex"] for event in sent]
        by_watch[name] = indices
        for before, after in itertools.pairwise(indices):
            verdict.require(before < after, f"{name}: event {after} came after event {before}")
        for event in sent:
            index = event["node"]["modifiedIndex"]
            known = events.setdefault(index, event)
            verdict.require(known == event, f"{name}: event {index} differs from another member's: {event} != {known}")
        verdict.counts[f"{name} events"] = len(indices)
    for name, indices in by_watch.items():
        missed = sorted(set(events) - set(indices))
        verdict.require(not missed, f"{name} missed {len(missed)} events, the first {missed[:5]}")
    return events


def check_writes(operations: list[dict[str, Any]], events: dict[int, dict[str, Any]], verdict: Verdict) -> None:
    """Acknowledged writes are events; failed ones are not; unknown ones are at most one; nothing else is an event."""
    by_value: dict[str, list[int]] = {}
    for index, event in events.items():
        if event["action"] != "expire":
            by_value.setdefault(event["node"].get("value", ""), []).append(index)
    for operation in operations:
        indices = by_value.pop(operation["value"], [])
        outcome = operation["outcome"]
        name = f"{operation['action']} {operation['value']}"
        verdict.require(len(indices) <= 1, f"{name} ({outcome}) happened {len(indices)} times, at {indices}")
        status = operation.get("status", 0)
        broken = status >= 500 and (status, operation.get("error_code")) != (500, 300)
        verdict.require(not broken, f"{name} was answered {status}: {operation}")
        if outcome == "failed":
            verdict.require(not indices, f"{name} failed but happened at {indices}")
        if outcome == "unknown" and indices:
            verdict.counts["unknown writes that happened"] += 1
        if outcome == "ok":
            check_acknowledged(operation, indices, events, verdict)
    verdict.require(not by_value, f"events that nobody asked for: {sorted(by_value.items())[:5]}")


def check_acknowledged(
    operation: dict[str, Any], indices: list[int], events: dict[int, dict[str, Any]], verdict: Verdict
) -> None:
    """One acknowledged write against its event."""
    name = f"{operation['action']} {operation['value']}"
    verdict.require(
        operation["index"] in indices, f"{name} was acknowledged at {operation['index']} and is lost (found: {indices})"
    )
    event = events.get(operation["index"])
    if event is None:
        return
    verdict.require(event["action"] == operation["action"], f"{name} was answered as another action than {event}")
    verdict.require(event["node"]["key"] == operation["node_key"], f"{name} was answered with another key than {event}")
    if "compared" in operation:
        replaced = event.get("prevNode", {}).get("value")
        verdict.require(
            replaced == operation["compared"], f"{name} compared {operation['compared']}, replaced {replaced}"
        )


def check_real_time_order(operations: list[dict[str, Any]], verdict: Verdict) -> None:
    """A write that began after another one's answer has the higher index."""
    done = [operation for operation in operations if operation["outcome"] == "ok"]
    moments = sorted(
        [(operation["end"], 1, operation) for operation in done]
        + [(operation["start"], 0, operation) for operation in done],
        key=lambda moment: moment[:2],
    )
    highest = 0
    for _, ended, operation in moments:
        if ended:
            highest = max(highest, operation["index"])
            continue
        operation["floor"] = highest
    for operation in done:
        verdict.require(
            operation["index"] > operation["floor"],
            f"{operation['value']} got index {operation['index']} though {operation['floor']} was acknowledged before",
        )


def replay(
    events: dict[int, dict[str, Any]], verdict: Verdict, held: dict[str, tuple[str, int, int]] | None = None
) -> dict[str, tuple[str, int, int]]:
    """What the events add up to, by key; what an event says to have replaced is what the events before it left.

    `held` is what those add up to that were replayed already; it becomes the result.
    """
    held = {} if held is None else held
    for index in sorted(events):
        event = events[index]
        node, before = event["node"], event.get("prevNode")
        key = node["key"]
        named = None if before is None else (before.get("value", ""), before["modifiedIndex"], before["createdIndex"])
        verdict.require(
            named == held.get(key) and (before is None or before["key"] == key),
            f"event {index} says that it replaced {before}, but {key} was {held.get(key)}",
        )
        verdict.counts["events with a prevNode"] += before is not None
        if event["action"] in {"delete", "expire", "compareAndDelete"}:
            verdict.require(key in held, f"event {index} removed {key}, which did not exist")
            held.pop(key, None)
        else:
            held[key] = (node.get("value", ""), node["modifiedIndex"], node["createdIndex"])
    return held


def check_dumps(dumps: dict[str, dict[str, Any]], events: dict[int, dict[str, Any]], verdict: Verdict) -> None:
    """All members hold the same tree at the same indices, and it is what the events add up to."""
    expected = replay(events, verdict)
    first_name, first = next(iter(dumps.items()), ("none", {}))
    for name, dump in dumps.items():
        for fact in ("etcd_index", "raft_index", "state_hash"):
            verdict.require(
                dump[fact] == first[fact], f"{name} has {fact} {dump[fact]}, {first_name} has {first[fact]}"
            )
        held = dict(_files(dump["node"]))
        missing = sorted(set(expected) - set(held))
        extra = sorted(set(held) - set(expected))
        verdict.require(not missing, f"{name} lacks {len(missing)} keys, the first {missing[:5]}")
        verdict.require(not extra, f"{name} has {len(extra)} keys too many, the first {extra[:5]}")
        for key in set(held) & set(expected):
            verdict.require(held[key] == expected[key], f"{name}: {key} is {held[key]}, not {expected[key]}")
        verdict.counts[f"{name} keys"] = len(held)


def _files(root: dict[str, Any]) -> list[tuple[str, tuple[str, int, int]]]:
    found, open_nodes = [], [root]
    while open_nodes:
        node = open_nodes.pop()
        if node.get("dir"):
            open_nodes.extend(node.get("nodes", []))
        else:
            found.append((node["key"], (node["value"], node["modifiedIndex"], node["createdIndex"])))
    return found


def main() -> int:
    """Exit code 0 if nothing is wrong."""
    parser = argparse.ArgumentParser(description="Judge a run of kill_rounds.")
    parser.add_argument("directory", type=Path)
    verdict = check_directory(parser.parse_args().directory)
    for what, count in verdict.counts.items():
        print(f"{what}: {count}")
    for problem in verdict.problems[:PROBLEMS_SHOWN]:
        print(f"PROBLEM {problem}")
    print(f"{len(verdict.problems)} problems")
    return 1 if verdict.problems else 0


if __name__ == "__main__":
    sys.exit(main())
