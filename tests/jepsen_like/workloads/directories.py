"""A tree in which files and directories are made and removed by all clients at once."""

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, TypeAlias, final

from tests.jepsen_like import event_log, history
from tests.jepsen_like.check import Verdict
from tests.jepsen_like.session import Session
from tests.jepsen_like.workloads import base
from tests.jepsen_like.workloads.base import ROOT_KEY, Arena

NAMES: Final = ("a", "b", "c")
WATCHED_WITHIN_S: Final = 60.0
Tree: TypeAlias = dict[str, str | None]
"""By path, a file's value; None for a directory. The root key is left out."""


@final
class Directories:
    """Few names, so that requests meet."""

    about = "every linearizable listing is what the events up to its index add up to"

    async def run(self, arena: Arena) -> None:
        """Work until told to stop, then wait until the watchers have seen the end."""
        values = itertools.count()

        async def step(session: Session) -> None:
            depth = session.chance.choice((1, 2, 2, 3))
            key = "/".join([ROOT_KEY, *(session.chance.choice(NAMES) for _ in range(depth))])
            value = f"d{next(values)}"
            (action,) = session.chance.choices(("set", "mkdir", "delete", "rmdir", "list"), (6, 3, 2, 1, 3))
            if action == "set":
                await session.ask("set", key, "PUT", value=value, form={"value": value})
            elif action == "mkdir":
                await session.ask("mkdir", key, "PUT", "?dir=true&prevExist=false", form={})
            elif action == "delete":
                await session.ask("delete", key, "DELETE", "?recursive=true")
            elif action == "rmdir":
                await session.ask("rmdir", key, "DELETE", "?dir=true")
            else:
                record, answer = await session.ask("read", ROOT_KEY, "GET", "?recursive=true&quorum=true")
                if record.outcome == "ok":
                    record.details = dict(leaves(answer.get("node", {})))

        async with base.event_logs(arena) as logs:
            await base.run_clients(arena, step)
            trees = await base.final_trees(arena)
            await base.until_watched(logs, max(index for index, _ in trees.values()), WATCHED_WITHIN_S)

    async def finish(self, arena: Arena) -> None:
        """Nothing: the end was waited for while the watchers still ran."""

    def judge(self, directory: Path, *, quorum: bool) -> Verdict:
        """Replay the events, and compare every listing and every acknowledged change with them."""
        verdict = Verdict()
        records = history.read(directory)
        base.count_outcomes(records, verdict)
        events = read_events(directory, verdict)
        changes = {record.index: record for record in records if record.outcome == "ok" and record.action != "read"}
        for index, record in changes.items():
            event = events.get(index or 0)
            verdict.require(
                event is not None and event["node"]["key"] == record.key, f"{record} is lost; at its index is {event}"
            )
        asked = {record.value for record in records}
        listings = sorted(
            (record for record in records if record.action == "read" and record.outcome == "ok"),
            key=lambda record: record.etcd_index or 0,
        )
        tree: Tree = {}
        indices = iter(sorted(events))
        upcoming = next(indices, None)
        for listing in listings:
            while upcoming is not None and upcoming <= (listing.etcd_index or 0):
                replay(tree, events[upcoming])
                value = events[upcoming]["node"].get("value")
                verdict.require(value is None or value in asked, f"nobody asked for {events[upcoming]}")
                upcoming = next(indices, None)
            differences = set(tree.items()) ^ set(listing.details.items())
            verdict.require(
                not differences, f"{listing.member} listed at {listing.etcd_index} otherwise: {sorted(differences)[:4]}"
            )
        verdict.counts["events"] = len(events)
        return verdict


def read_events(directory: Path, verdict: Verdict) -> dict[int, dict[str, Any]]:
    """By index, the events, which every watcher was sent alike, once and in order."""
    events: dict[int, dict[str, Any]] = {}
    seen: dict[str, set[int]] = {}
    for name, lines in event_log.read(directory).items():
        indices = [line["event"]["node"]["modifiedIndex"] for line in lines if "event" in line]
        verdict.require(len(indices) == len(lines), f"the watcher of {name} was refused")
        verdict.require(indices == sorted(set(indices)), f"{name} was sent events out of order or twice")
        seen[name] = set(indices)
        for line in lines:
            event = line.get("event")
            if event is not None:
                known = events.setdefault(event["node"]["modifiedIndex"], event)
                verdict.require(known == event, f"{name} was sent {event}, another member {known}")
    for name, indices_seen in seen.items():
        missed = sorted(set(events) - indices_seen)
        verdict.require(not missed, f"{name} was not sent {missed[:5]}")
    return events


def replay(tree: Tree, event: dict[str, Any]) -> None:
    """What an event does to the tree: directories on the way are made, and everything below goes with a directory."""
    node = event["node"]
    key = node["key"]
    if event["action"] in {"delete", "expire"}:
        for path in [path for path in tree if path == key or path.startswith(f"{key}/")]:
            del tree[path]
        return
    parts = key.removeprefix(f"{ROOT_KEY}/").split("/")
    for depth in range(1, len(parts)):
        tree["/".join([ROOT_KEY, *parts[:depth]])] = None
    tree[key] = None if node.get("dir") else node["value"]


def leaves(root: dict[str, Any]) -> Iterator[tuple[str, str | None]]:
    """The paths below a listed directory."""
    for node in root.get("nodes", []):
        yield node["key"], None if node.get("dir") else node["value"]
        yield from leaves(node)
