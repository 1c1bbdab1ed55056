"""Linearizability by etcd's indices, in O(n log n), independent of the search of `linearizability.py`.

Every change has a `modifiedIndex` of its own, and a linearizable read says in `X-Etcd-Index` which changes it includes.
So the order is given, and it has only to be right: it keeps real time over the whole store, and every read found what
the last change at or before its index left.
"""

import bisect
from collections import defaultdict
from typing import Final

from tests.jepsen_like.check import Verdict
from tests.jepsen_like.history import Record

CHANGES: Final = frozenset({"write", "cas", "create", "delete"})


def check_order(records: list[Record], verdict: Verdict) -> None:
    """Judge the changes and the linearizable reads of a history of registers."""
    done = [record for record in records if record.outcome == "ok" and record.etcd_index is not None]
    check_real_time(done, verdict)
    check_reads(done, verdict)


def check_real_time(done: list[Record], verdict: Verdict) -> None:
    """What starts after an answer has the higher index, or for a read at least the same."""
    moments = sorted(
        [(record.end, 1, number) for number, record in enumerate(done)]
        + [(record.start, 0, number) for number, record in enumerate(done)]
    )
    highest = 0
    owner: dict[int, Record] = {}
    for _, ended, number in moments:
        record = done[number]
        place = place_of(record)
        if ended:
            highest = max(highest, place)
            continue
        late = place > highest or (place == highest and record.action == "read")
        verdict.require(late, f"at {place}, though {highest} was answered before it began: {record}")
        if record.action in CHANGES:
            verdict.require(place not in owner, f"index {place} was given twice: {record} and {owner.get(place)}")
            owner[place] = record


def check_reads(done: list[Record], verdict: Verdict) -> None:
    """A read found the value of the last known change of its key at or before its index, or of an unknown later one."""
    changes: dict[str, list[tuple[int, str | None]]] = defaultdict(list)
    for record in done:
        if record.action in CHANGES and record.index is not None:
            changes[record.key].append((record.index, record.value))
    for known in changes.values():
        known.sort(key=lambda change: change[0])
    for record in done:
        if record.action != "read":
            continue
        known = changes[record.key]
        at = bisect.bisect_right(known, place_of(record), key=lambda change: change[0])
        last, value = known[at - 1] if at else (0, None)
        if record.index is None:
            # Only a delete of unknown outcome can have come between.
            verdict.counts["reads of nothing"] += 1
        elif record.index == last:
            verdict.require(record.value == value, f"found another value than {value!r} of {last}: {record}")
        else:
            verdict.require(record.index > last, f"found what {last} had replaced: {record}")


def place_of(record: Record) -> int:
    """The index at which an operation stands in the order."""
    place = record.etcd_index if record.action == "read" else record.index
    assert place is not None, f"an answer without an index: {record}"
    return place
