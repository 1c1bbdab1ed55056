"""Histories of one register, good and bad, with the indices that a store gives: for the tests of both checkers.

The good ones are what clients of a correct register see. The bad ones are good ones that end in one anomaly; every
second time the store that lies keeps the index of the state that it shows, else it shows that of the present.
"""

import dataclasses
import random
from typing import Final, final

from tests.jepsen_like.history import Record
from tests.jepsen_like.linearizability import Action, Operation, Outcome, State, apply

ACTIONS: Final[tuple[Action, ...]] = ("read", "read", "write", "cas", "create", "delete")
CODES: Final = {"cas": "101", "create": "105", "delete": "101"}
"""Of a condition that does not hold."""


@final
@dataclasses.dataclass(slots=True, frozen=True)
class Placed:
    """An operation with the indices of its answer."""

    operation: Operation
    index: int | None
    """`modifiedIndex` of what was written or read."""
    etcd_index: int | None
    """The store's when it was done."""


@final
@dataclasses.dataclass(slots=True)
class Story:
    """A history in which nothing is going on any more, and how it can go on."""

    seed: int
    history: list[Placed]
    at: int
    """Later than everything."""
    index: int
    """Of the last change."""

    def add(
        self,
        action: Action,
        value: State,
        start: int,
        end: int | None,
        index: int | None,
        etcd_index: int | None = None,
    ) -> None:
        """Go on with an answered operation; times count from the end of the story."""
        operation = Operation(action, value, self.at + start, None if end is None else self.at + end)
        self.history.append(Placed(operation, index, etcd_index or index))

    def change_last(self, outcome: Outcome, compared: State = None) -> None:
        """The last operation was another one."""
        last = self.history[-1]
        operation = dataclasses.replace(last.operation, outcome=outcome, compared=compared)
        self.history[-1] = dataclasses.replace(last, operation=operation)

    @property
    def lies_twice(self) -> bool:
        """Whether what is wrongly shown has an index to suit."""
        return self.seed % 2 == 1


def without_indices(history: list[Placed]) -> list[Operation]:
    """What the search is given."""
    return [placed.operation for placed in history]


def records(history: list[Placed]) -> list[Record]:
    """As a workload notes them down."""
    return [_record(placed) for placed in history]


def _record(placed: Placed) -> Record:
    done = placed.operation
    known = done.outcome != "unknown"
    return Record(
        client=0,
        member="n1",
        action=done.action,
        key="/jepsen/r",
        value=done.value,
        start=done.start,
        end=done.start + 1 if done.end is None else done.end,
        outcome=done.outcome,
        compared=done.compared,
        index=placed.index if done.outcome == "ok" else None,
        etcd_index=placed.etcd_index if known else None,
        why=CODES[done.action] if done.outcome == "failed" else None,
    )


def good(seed: int, clients: int = 6, count: int = 40) -> Story:
    """What clients of a correct register see: each operation takes effect at one moment of its interval."""
    chance = random.Random(seed)
    busy_until = [0] * clients
    plans = []
    for number in range(count):
        client = number % clients
        start = busy_until[client] + chance.randint(1, 20)
        end = start + chance.randint(2, 40)
        busy_until[client] = end
        plans.append((chance.randint(start + 1, end - 1), number, start, end))
    state: State = None
    last = 3  # a store is not new when a test begins
    modified: int | None = None
    history = []
    for _, number, start, end in sorted(plans):
        action: Action = chance.choice(ACTIONS)
        compared = chance.choice((state, "never")) if action in {"cas", "delete"} else None
        value = state if action == "read" else None if action == "delete" else f"v{number}"
        planned = Operation(action, value, start, end, compared=compared)
        possible, after = apply(state, planned)
        if possible:
            state = after
            if action != "read":
                last += 1
                modified = None if action == "delete" else last
        lost_answer = action != "read" and chance.random() < 0.03
        outcome: Outcome = "unknown" if lost_answer else "ok" if possible else "failed"
        done = dataclasses.replace(planned, outcome=outcome, end=None if lost_answer else end)
        history.append(Placed(done, last if action == "delete" else modified, last))
    return Story(seed, history, max(busy_until) + 1, last)


def settled(seed: int) -> Story:
    """A good history that ends, with nothing going on any more, in two writes and a read of the second."""
    story = good(seed)
    story.add("write", "first", 0, 1, story.index + 1)
    story.add("write", "second", 2, 3, story.index + 2)
    story.add("read", "second", 4, 5, story.index + 2)
    return dataclasses.replace(story, at=story.at + 6, index=story.index + 2)


def stale_read(seed: int) -> list[Placed]:
    """The last value but one."""
    story = settled(seed)
    story.add("read", "first", 0, 1, story.index - 1, story.index - 1 if story.lies_twice else story.index)
    return story.history


def lost_update(seed: int) -> list[Placed]:
    """Two swaps of one value both succeed."""
    story = settled(seed)
    story.add("cas", "mine", 0, 5, story.index + 1)
    story.change_last("ok", "second")
    story.add("cas", "yours", 1, 4, story.index + (1 if story.lies_twice else 2))
    story.change_last("ok", "second")
    return story.history


def lost_write(seed: int) -> list[Placed]:
    """A write is acknowledged and what stood before it is read."""
    story = settled(seed)
    story.add("write", "lost", 0, 1, story.index + 1)
    story.add("read", "second", 2, 3, story.index, story.index if story.lies_twice else story.index + 1)
    return story.history


def dirty_read(seed: int) -> list[Placed]:
    """A value is read whose swap was refused."""
    story = settled(seed)
    story.add("cas", "refused", 0, 1, None, story.index)
    story.change_last("failed", "no such value")
    story.add("read", "refused", 2, 3, story.index + 1 if story.lies_twice else story.index)
    return story.history


def resurrected_value(seed: int) -> list[Placed]:
    """A deleted key is back though nobody wrote it."""
    story = settled(seed)
    story.add("delete", None, 0, 1, story.index + 1)
    story.add("read", None, 2, 3, None, story.index + 1)
    if story.lies_twice:
        story.add("read", "second", 4, 5, story.index + 2)
    else:
        story.add("read", "second", 4, 5, story.index, story.index + 1)
    return story.history


def read_goes_back(seed: int) -> list[Placed]:
    """While a write goes on, one client reads its value and a later one does not."""
    story = settled(seed)
    story.add("write", "third", 0, 9, story.index + 1)
    story.add("read", "third", 1, 2, story.index + 1)
    story.add("read", "second", 3, 4, story.index, story.index if story.lies_twice else story.index + 1)
    return story.history


def unknown_write_happens_twice(seed: int) -> list[Placed]:
    """Once before and once after another write."""
    story = settled(seed)
    story.add("write", "twice", 0, None, None)
    story.change_last("unknown")
    story.add("read", "twice", 1, 2, story.index + 1)
    story.add("write", "third", 3, 4, story.index + 2)
    story.add("read", "third", 5, 6, story.index + 2)
    if story.lies_twice:
        story.add("read", "twice", 7, 8, story.index + 3)
    else:
        story.add("read", "twice", 7, 8, story.index + 1, story.index + 2)
    return story.history


def vanished_value(seed: int) -> list[Placed]:
    """An acknowledged key is read as absent, and is there again, so that no delete without an answer explains it."""
    story = settled(seed)
    story.add("write", "gone", 0, 1, story.index + 1)
    seen_at = story.index + (2 if story.lies_twice else 1)
    story.add("read", None, 2, 3, None, seen_at)
    story.add("read", "gone", 4, 5, story.index + 1, seen_at)
    return story.history


def refused_though_it_held(seed: int) -> list[Placed]:
    """A swap is refused though the value is the one that it compares with, before and after."""
    story = settled(seed)
    story.add("cas", "other", 0, 1, None, story.index)
    story.change_last("failed", "second")
    story.add("read", "second", 2, 3, story.index)
    return story.history


ANOMALIES: Final = (
    stale_read,
    lost_update,
    lost_write,
    dirty_read,
    resurrected_value,
    read_goes_back,
    unknown_write_happens_twice,
    vanished_value,
    refused_though_it_held,
)
