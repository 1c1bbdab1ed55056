"""Linearizability by etcd's indices, in O(n log n), independent of the search of `linearizability.py`.

Every change has a `modifiedIndex` of its own, and every other answer says in `X-Etcd-Index` which changes it includes.
So the order is given, and it has only to be right: it keeps real time over the whole store; what is read is what the
last change at or before that index left; and each condition holds, or not, as the answer says. A change without an
answer has one index at most: the one at which it is seen. What nobody saw may have happened between any two changes.

Not seen here, but by the search: that several such unseen changes together cannot explain what they explain one by one.
"""

import bisect
import dataclasses
import itertools
from collections import defaultdict
from typing import Final, final

from tests.jepsen_like.check import Verdict
from tests.jepsen_like.history import Record

CHANGES: Final = frozenset({"write", "cas", "create", "delete"})
CONDITION_CODES: Final = frozenset({"100", "101", "105"})
"""Of answers that say that a condition did not hold: key not found, compare failed, key already exists."""
FOREVER: Final = 1 << 62


@final
@dataclasses.dataclass(slots=True)
class Change:
    """Something that happened to a key."""

    index: int
    value: str | None
    record: Record
    known_by: int
    """When somebody was told of it: it happened before."""
    last_shown: int
    """The highest index at which it was certainly there."""


NOTHING: Final = Change(0, None, Record(0, "", "", "", None, 0, 0, "ok"), 0, 0)


def check_order(records: list[Record], verdict: Verdict) -> None:
    """Judge the changes and the linearizable reads of a history of registers."""
    done = [record for record in records if record.outcome == "ok" or _says_that_a_condition_failed(record)]
    without = [record for record in done if place_of(record) is None]
    verdict.require(not without, f"{len(without)} answers without an index, the first {without[:1]}")
    done = [record for record in done if place_of(record) is not None]
    for record in done:
        sound = record.index is None or record.index <= (record.etcd_index or 0)
        verdict.require(sound, f"from the future of the store that answered: {record}")
    unknown = [record for record in records if record.outcome == "unknown" and record.action in CHANGES]
    floors = check_real_time(done, unknown, verdict)
    owners = {record.index: record.key for record in done if _is_change(record)}
    by_key: dict[str, tuple[list[Record], list[Record]]] = defaultdict(lambda: ([], []))
    for number, group in enumerate((done, unknown)):
        for record in group:
            by_key[record.key][number].append(record)
    for answered, unanswered in by_key.values():
        _Key(answered, unanswered, floors, owners, verdict).check()


def check_real_time(done: list[Record], unknown: list[Record], verdict: Verdict) -> dict[int, int]:
    """What starts after an answer has the higher index, or if it changes nothing at least the same.

    Returns by the id of each record of unknown outcome what its index must exceed.
    """
    moments = sorted(
        [(record.end, 1, number) for number, record in enumerate(done)]
        + [(record.start, 0, number) for number, record in enumerate(done + unknown)]
    )
    highest = 0
    owner: dict[int, Record] = {}
    floors: dict[int, int] = {}
    for _, ended, number in moments:
        if number >= len(done):
            floors[id(unknown[number - len(done)])] = highest
            continue
        record = done[number]
        place = place_of(record)
        assert place is not None, "sorted out before"
        if ended:
            highest = max(highest, place)
            continue
        late = place > highest or (place == highest and not _is_change(record))
        verdict.require(late, f"at {place}, though {highest} was answered before it began: {record}")
        if _is_change(record):
            verdict.require(place not in owner, f"index {place} was given twice: {record} and {owner.get(place)}")
            owner[place] = record
    return floors


@final
class _Key:
    """One key: first every change that somebody saw gets its place, then each answer is held against the places."""

    def __init__(
        self,
        answered: list[Record],
        unanswered: list[Record],
        floors: dict[int, int],
        owners: dict[int | None, str],
        verdict: Verdict,
    ) -> None:
        self._answered = answered
        self._floors = floors
        self._owners = owners
        self._verdict = verdict
        self._open = {record.value: record for record in unanswered if record.action != "delete"}
        """Written values of which nobody was answered; each is written once."""
        self._open_deletes = sorted(record.start for record in unanswered if record.action == "delete")
        self._gaps: dict[int, int] = {}
        """Where an unanswered delete must have come: after which change, and before which moment."""
        self._unseen: dict[str | None, tuple[int, int]] = {}
        """Between which indices an unanswered value must stand that only a swap saw."""
        self._changes = [
            Change(index, record.value if record.action != "delete" else None, record, record.end, index)
            for record in answered
            if _is_change(record) and (index := record.index) is not None
        ]

    def check(self) -> None:
        """All of it."""
        self._place_what_reads_saw()
        self._changes.sort(key=lambda change: change.index)
        reads = [record for record in self._answered if record.action == "read"]
        for record in sorted(reads, key=lambda record: record.index is None):
            self._check_read(record)
        for before, change in itertools.pairwise([NOTHING, *self._changes]):
            self._check_condition(before, change)
        for record in self._answered:
            if record.outcome == "failed":
                self._check_refusal(record)
        for count, needed_by in enumerate(sorted(self._gaps.values()), start=1):
            enough = bisect.bisect_right(self._open_deletes, needed_by) >= count
            self._require(
                enough, f"gone {count} times without a delete, see after {sorted(self._gaps)}", self._answered[0]
            )

    def _place_what_reads_saw(self) -> None:
        """An unanswered change has the index under which its value was read."""
        known = {change.index for change in self._changes}
        placed: dict[str | None, Change] = {}
        for record in self._answered:
            if record.action != "read" or record.index is None or record.index in known:
                continue
            before = placed.get(record.value)
            if before is not None:
                self._require(before.index == record.index, f"written once, found at {before.index} too", record)
                before.known_by = min(before.known_by, record.end)
                continue
            source = self._open.pop(record.value, None)
            if source is None or source.start > record.end:
                self._require(False, "nobody wrote this, or not at this index", record)
                continue
            other = self._owners.setdefault(record.index, record.key)
            self._require(other == record.key, f"the index of a change of {other}", record)
            self._require(record.index > self._floors[id(source)], f"before what it follows: {source}", record)
            placed[record.value] = Change(record.index, record.value, source, record.end, record.index)
        self._changes += placed.values()
        for before, after in itertools.pairwise(sorted(placed.values(), key=lambda change: change.index)):
            self._require(before.index < after.index, f"the index of {before.record}", after.record)

    def _check_read(self, record: Record) -> None:
        last = self._last_at(record.etcd_index or 0)
        if record.index is None:
            if last.value is not None:
                self._gone_after(last, record, record.etcd_index or 0, record.end)
            return
        last.last_shown = max(last.last_shown, record.etcd_index or 0)
        self._require(record.index == last.index, f"found what {last.index} had replaced", record)
        self._require(record.value == last.value, f"found another value than {last.value!r} of {last.index}", record)

    def _check_condition(self, before: Change, change: Change) -> None:
        """A change that was done found what it asked for."""
        record = change.record
        if record.action == "create" and before.value is not None:
            self._gone_after(before, record, change.index - 1, change.known_by)
        if record.action == "cas" or (record.action == "delete" and record.compared is not None):
            if before.value != record.compared:
                self._swapped_unseen(before, change)
        elif record.action == "delete" and before.value is None:
            explained = any(source.start <= change.known_by for source in self._open.values())
            self._require(explained, f"removed at {change.index} what {before.index} had removed", record)

    def _swapped_unseen(self, before: Change, change: Change) -> None:
        """Only an unanswered write can have put there what a swap found; and only once."""
        record = change.record
        source = self._open.get(record.compared)
        found = f"compared with {record.compared!r} at {change.index}, after {before.value!r} of {before.index}"
        if source is None or source.start > change.known_by:
            self._require(False, found, record)
            return
        low, high = self._unseen.get(record.compared, (self._floors[id(source)], FOREVER))
        low, high = max(low, before.index), min(high, change.index)
        self._require(low + 1 < high, f"{found}, which was written once", record)
        self._unseen[record.compared] = low, high

    def _check_refusal(self, record: Record) -> None:
        """A condition that was refused did not hold."""
        last = self._last_at(record.etcd_index or 0)
        if record.action == "create":
            held = last.value is None
        elif record.action == "cas" or record.compared is not None:
            held = last.value is not None and last.value == record.compared
        else:
            held = last.value is not None
        if not held:
            return
        still_shown = last is not NOTHING and last.last_shown >= (record.etcd_index or 0)
        unseen = any(source.start <= record.end for source in self._open.values())
        deleted = any(start <= record.end for start in self._open_deletes)
        explained = (unseen or (deleted and record.action != "create")) and not still_shown
        self._require(explained, f"refused though {last.index} had left {last.value!r}", record)

    def _gone_after(self, last: Change, record: Record, index: int, moment: int) -> None:
        """An unanswered delete took this change away, at or before an index and before a moment."""
        self._require(
            last.last_shown < index, f"gone by {index}, though {last.index} was there at {last.last_shown}", record
        )
        self._gaps[last.index] = min(moment, self._gaps.get(last.index, FOREVER))

    def _last_at(self, index: int) -> Change:
        at = bisect.bisect_right(self._changes, index, key=lambda change: change.index)
        return self._changes[at - 1] if at else NOTHING

    def _require(self, fact: bool, problem: str, record: Record) -> None:
        self._verdict.require(fact, f"{problem}: {record}")


def _is_change(record: Record) -> bool:
    return record.outcome == "ok" and record.action in CHANGES


def _says_that_a_condition_failed(record: Record) -> bool:
    return record.outcome == "failed" and record.action in CHANGES and record.why in CONDITION_CODES


def place_of(record: Record) -> int | None:
    """The index at which an operation stands in the order."""
    return record.index if _is_change(record) else record.etcd_index
