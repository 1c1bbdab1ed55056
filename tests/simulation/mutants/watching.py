"""Planted bugs of watches: M44 to M48."""

import dataclasses
from typing import Any

from kvraft.keyspace.chronicle import Chronicle
from kvraft.keyspace.event_history import EventHistory
from kvraft.keyspace.events import Event
from kvraft.keyspace.watchers import Watcher, WatcherHub
from tests.simulation.machine import KeyspaceMachine
from tests.simulation.mutants.planting import Mutant, with_options, wrapped


def _from_the_next(watch: Any, machine: KeyspaceMachine, path: bytes, since_index: int, *others: Any) -> Any:
    return watch(machine, path, since_index + 1, *others)


def _lose_while_scanning(scan: Any, watcher: Watcher, events: list[Event]) -> Any:
    going_on = scan(watcher, events[:-1]) if len(events) > 1 else scan(watcher, events)
    watcher._next_index = max(watcher._next_index, events[-1].etcd_index + 1)
    return going_on


def _twice_at_the_boundary(go_live: Any, hub: WatcherHub, watcher: Watcher, since_index: int) -> None:
    last = hub.history.last_index
    if since_index == last + 1 and last > hub.history.floor:
        for event in hub.history.read(last, 1):
            if watcher.matches(event):
                watcher.on_event(event)
    go_live(hub, watcher, since_index)


def _without_gap_closed(_resume: Any, hub: WatcherHub, history: EventHistory) -> None:
    hub.history = history


def _drop_some(deliver: Any, hub: WatcherHub, watcher: Watcher, event: Event, size: int) -> None:
    if event.etcd_index % 64:
        deliver(hub, watcher, event, size)


def _previous_is_new(record: Any, chronicle: Chronicle, event: Event, *others: Any) -> Any:
    if event.prev_node is not None and event.etcd_index % 16 == 0:
        event = dataclasses.replace(event, prev_node=event.node)
    return record(chronicle, event, *others)


_AWAY = ("crash", "crash_at", "isolate", "cut", "compact", "burst", "pause")
_MOVING = with_options(fault_kinds=_AWAY, snapshot_entries=1, flush_ms=50, history_events_max=1000)

MUTANTS = (
    Mutant(
        "M44",
        "a watch begins one index late",
        ("I10",),
        wrapped(KeyspaceMachine, "watch", _from_the_next),
        _MOVING,
    ),
    Mutant(
        "M45",
        "an event is lost between the history and going live",
        ("I10", "stop"),
        wrapped(Watcher, "_scan", _lose_while_scanning),
        _MOVING,
    ),
    Mutant(
        "M46",
        "an event comes twice where history ends and live begins",
        ("I10",),
        wrapped(WatcherHub, "go_live", _twice_at_the_boundary),
        _MOVING,
    ),
    Mutant(
        "M47",
        "an event is dropped instead of closing the watch",
        ("I10",),
        wrapped(WatcherHub, "deliver", _drop_some),
        _MOVING,
    ),
    Mutant(
        "M48",
        "a watch survives a snapshot with a gap",
        ("I10",),
        wrapped(WatcherHub, "resume_after_install", _without_gap_closed),
        _MOVING,
    ),
    Mutant(
        "M48b",
        "an event shows a wrong previous node",
        ("I10", "I7"),
        wrapped(Chronicle, "record", _previous_is_new),
    ),
)
