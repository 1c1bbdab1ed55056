"""Replaying a recording against etcd and a subject at once; what both answer is compared, and with what was recorded.

Indices differ between the recording and each of the two, and an expiry comes when it comes, not where it was recorded.
So each side keeps its own map of indices, and answers are compared with every live index replaced by the recorded one
of the newest write that it does not precede.
"""

import re
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from time import monotonic
from typing import Final, final

from kvraft.testing.member import ClusterError
from tests.conformance.comparison import Comparable, comparable, difference
from tests.conformance.differential.pair import removals
from tests.conformance.recordings import Exchange, Plan, Round
from tests.conformance.systems import System
from tests.conformance.wire import Answer, Connection, Head, NothingCameError, Request, keys_request

LANES: Final = 12
"""Requests under way at once on each side, through all members in turn: kube-apiserver had about as many."""
ANSWER_WITHIN_S: Final = 15.0
EXPIRY_WITHIN_S: Final = 30.0
"""Longer than the longest TTL that runs out in a recording (12 s)."""
NOTED: Final = 10
"""Differences that an expiry which does not come is told with."""
_DONE: Final = frozenset({200, 201})
_QUORUM: Final = keys_request("GET", "/", query="quorum=true")
_CONDITION: Final = re.compile(rb"(prevIndex|waitIndex)=([1-9][0-9]*)")
_FIELD: Final = re.compile(rb'"(modifiedIndex|createdIndex|index)":(\d+)')
_OWN_INDEX: Final = re.compile(rb'^([^}]*"modifiedIndex":)\d+')
_FRAMING: Final = frozenset({"Connection", "Content-Length", "Transfer-Encoding"})
_IN_ORDER_KEY: Final = re.compile(rb"/(0{10}\d{10})")
_COMPARED: Final = re.compile(rb'\[(\d+) != (\d+)\](?=",)')
_CLEARED: Final = re.compile(rb'\[\d+/\d+\](?=",)')


def with_indices(answer: Answer, index_of: Callable[[int], int]) -> Answer:
    """An answer with every index replaced; of an expiry, which comes when it comes, its own is masked."""
    body = _FIELD.sub(lambda found: b'"%s":%d' % (found[1], index_of(int(found[2]))), answer.body)
    if body.startswith(b'{"action":"expire"'):
        body = _OWN_INDEX.sub(rb"\1<when it expired>", body)
    body = _IN_ORDER_KEY.sub(lambda found: b"/%020d" % index_of(int(found[1])), body)
    if answer.status == 412:
        body = _COMPARED.sub(lambda found: b"[%d != %d]" % (index_of(int(found[1])), index_of(int(found[2]))), body)
    if answer.status == 400:
        body = _CLEARED.sub(b"[<oldest>/<asked>]", body)
    headers = tuple(
        (name, str(index_of(int(value))) if name == "X-Etcd-Index" else value) for name, value in answer.head.headers
    )
    return Answer(Head(answer.status, answer.head.reason, headers), body)


@final
class Side:
    """One system in a replay."""

    def __init__(self, system: System) -> None:
        self.system: Final = system
        self.lanes: Final = [Connection(self.url(lane), timeout=ANSWER_WITHIN_S) for lane in range(LANES)]
        for lane in self.lanes:
            # etcd takes a long request line only when it is not the first on its connection.
            lane.ask(keys_request("HEAD", "/"))
        self.base = self.lanes[0].ask(_QUORUM).etcd_index
        self._recorded: list[int] = [0]
        self._live: list[int] = [0]
        self._changes = 0
        self._current: set[int] = set()

    def __repr__(self) -> str:
        return f"{self.system}: index {self.base} at the beginning, {self._changes} changes since"

    def url(self, lane: int) -> str:
        """Client URL of the member of a lane."""
        return self.system.client_urls[lane % len(self.system.client_urls)]

    def begin(self, recorded_base: int) -> None:
        """From here on the recorded index `recorded_base` stands for the store's index now."""
        index = self.lanes[0].ask(_QUORUM).etcd_index
        self.base = index
        self.learn(recorded_base, index)

    def learn(self, recorded: int, live: int) -> None:
        """A write got this index."""
        if recorded > self._recorded[-1]:
            self._recorded.append(recorded)
            self._live.append(live)

    def has_changed(self, answer: Answer) -> None:
        """A write has been made: what members know may be old, and if it was done one index more is not an expiry."""
        self._changes += answer.status in _DONE
        self.forget()

    def forget(self) -> None:
        """What members know may be old."""
        self._current.clear()

    def catch_up(self, lane: int) -> None:
        """Let the member of a lane apply everything, for a local read or a watch through it."""
        member = lane % len(self.system.client_urls)
        if member not in self._current:
            self.lanes[lane].ask(_QUORUM)
            self._current.add(member)

    def wait_for_expiries(self, count: int) -> None:
        """Wait until this many nodes have expired since `begin`."""
        self.forget()
        self.system.cluster.wait_for(
            f"{count} expiries",
            lambda: self.lanes[0].ask(_QUORUM).etcd_index - self.base - self._changes >= count,
            EXPIRY_WITHIN_S,
        )

    def translated(self, request: Request) -> Request:
        """A recorded request with its indices replaced by this side's."""
        target = _CONDITION.sub(lambda found: b"%s=%d" % (found[1], self._live_of(int(found[2]))), request.target)
        target = _IN_ORDER_KEY.sub(lambda found: b"/%020d" % self._live_of(int(found[1])), target)
        return replace(request, target=target)

    def canonical(self, answer: Answer) -> Answer:
        """An answer of this side with its indices replaced by the recorded ones."""
        return with_indices(answer, self._recorded_of)

    def canonical_recorded(self, answer: Answer) -> Answer:
        """A recorded answer in the same form: indices of expiries, too, become those of the writes before."""
        return with_indices(answer, lambda index: self._recorded[bisect_right(self._recorded, index) - 1])

    def close(self) -> None:
        """Hang up."""
        for lane in self.lanes:
            lane.close()

    def _live_of(self, recorded: int) -> int:
        known = bisect_right(self._recorded, recorded) - 1
        if not known:
            # Before the recording: as far back from its beginning.
            return max(1, self._live[1] - (self._recorded[1] - recorded))
        return self._live[known] + recorded - self._recorded[known]

    def _recorded_of(self, live: int) -> int:
        return self._recorded[bisect_right(self._live, live) - 1]


@final
@dataclass(slots=True)
class OpenWatch:
    """A watch of the recording, open on both sides."""

    exchange: Exchange
    connections: tuple[Connection, Connection]

    def close(self) -> None:
        """Hang up."""
        for connection in self.connections:
            connection.close()


@final
@dataclass(slots=True)
class Replay:
    """One recording on both sides."""

    oracle: Side
    subject: Side
    differences: list[str] = field(default_factory=list)
    compared: int = 0
    events: int = 0
    witnessed: int = 0
    """Answers and events that were compared with the recorded ones, too."""
    _expiries: int = 0
    _turn: int = 0
    _doomed_at: tuple[float, float] | None = None
    """When the last node was written that expires: by the recorder's clock, and by ours."""
    _watches: list[OpenWatch] = field(default_factory=list)

    @property
    def sides(self) -> tuple[Side, Side]:
        """The oracle first."""
        return self.oracle, self.subject

    def run(self, plan: Plan) -> None:
        """Seed, replay every round, hang up."""
        for recorded, request in plan.seeds:
            for side in self.sides:
                side.learn(recorded, side.lanes[0].ask(request).etcd_index)
        for side in self.sides:
            side.begin(plan.base)
        self._see(plan.opening)
        for each in plan.rounds:
            if isinstance(each.change, Exchange):
                self._pace(each.change, is_doomed=each.index in plan.doomed)
            self._change(each)
            self._see(each)
        for watch in self._watches:
            self._give_up(watch)

    def compare_trees(self) -> None:
        """Everything that is left, on every member of both."""
        request = keys_request("GET", "/", query="recursive=true&sorted=true")
        for side in self.sides:
            side.forget()
        for lane in range(max(len(side.system.client_urls) for side in self.sides)):
            for side in self.sides:
                side.catch_up(lane)
            self._compare("tree sorted=true", [side.lanes[lane].ask(request) for side in self.sides])

    def _pace(self, write: Exchange, *, is_doomed: bool) -> None:
        """Keep the recorded time between a node left to expire and a node that is kept alive beside it.

        Everything else is replayed as fast as it goes; here the second would expire with the first.
        """
        if write.ttl is None or write.ttl > EXPIRY_WITHIN_S:
            return
        if is_doomed:
            self._doomed_at = write.started, monotonic()
        elif self._doomed_at is not None:
            recorded, ours = self._doomed_at
            due = ours + write.started - recorded
            self.oracle.system.cluster.wait_for("its time", lambda: monotonic() >= due, EXPIRY_WITHIN_S)

    def _change(self, each: Round) -> None:
        """Make the change of a round: a write on both sides at once, or the wait for an expiry."""
        change = each.change
        if change is None:
            self._expiries += 1
            for side in self.sides:
                try:
                    side.wait_for_expiries(self._expiries)
                except ClusterError as error:
                    # Without these nobody knows whether a write was refused before, or a node lives too long.
                    error.add_note("\n".join(["found before:", *self.differences[:NOTED], repr(side)]))
                    raise
            return
        if isinstance(change, Exchange):
            for watch in [watch for watch in self._watches if watch.exchange.was_cut]:
                if watch.exchange.ended < change.started:
                    self._watches.remove(watch)
                    self._give_up(watch)
        request = change.request if isinstance(change, Exchange) else change
        self._turn += 1
        lane = self._turn % LANES
        for side in self.sides:
            side.lanes[lane].send(side.translated(request))
        answers = [side.lanes[lane].receive(request.method) for side in self.sides]
        for side, answer in zip(self.sides, answers, strict=True):
            side.learn(each.index, answer.etcd_index)
            side.has_changed(answer)
        self._compare(str(request), answers, change if isinstance(change, Exchange) else None)

    def _see(self, each: Round) -> None:
        """Everything that saw this index: plain requests at the same time, watches opened, their events collected."""
        plain = [exchange for exchange in each.others if not exchange.is_watch]
        for start in range(0, len(plain), LANES):
            self._ask_at_once(plain[start : start + LANES])
        for exchange in each.others:
            if exchange.is_watch:
                self._open(exchange)
        for watch in list(self._watches):
            due = watch.exchange.event_index
            if due is not None and due <= each.index:
                self._watches.remove(watch)
                self._collect(watch)

    def _ask_at_once(self, exchanges: Sequence[Exchange]) -> None:
        lanes = []
        for exchange in exchanges:
            self._turn += 1
            lane = self._turn % LANES
            lanes.append(lane)
            for side in self.sides:
                if "quorum=true" not in exchange.target and exchange.method == "GET":
                    side.catch_up(lane)
        for lane, exchange in zip(lanes, exchanges, strict=True):
            for side in self.sides:
                side.lanes[lane].send(side.translated(exchange.request))
        for lane, exchange in zip(lanes, exchanges, strict=True):
            answers = [side.lanes[lane].receive(exchange.method) for side in self.sides]
            self._compare(f"seq {exchange.seq} {exchange.request}", answers, exchange)

    def _open(self, exchange: Exchange) -> None:
        self._turn += 1
        lane = self._turn % LANES
        connections = []
        for side in self.sides:
            side.catch_up(lane)
            connection = Connection(side.url(lane), timeout=ANSWER_WITHIN_S)
            connection.send(side.translated(exchange.request))
            connections.append(connection)
        heads = [connection.receive_head() for connection in connections]
        answers, opened = [Answer(head, b"") for head in heads], replace(exchange, body="")
        if not all(head.chunked for head in heads):
            answers = [connection.complete(head, "GET") for connection, head in zip(connections, heads, strict=True)]
            opened = exchange
        self._compare(f"seq {exchange.seq} {exchange.request}", answers, opened)
        watch = OpenWatch(exchange, (connections[0], connections[1]))
        if all(head.chunked for head in heads):
            self._watches.append(watch)
        else:
            watch.close()

    def _collect(self, watch: OpenWatch) -> None:
        """The event of a watch, which has happened on both sides."""
        answers = []
        for connection in watch.connections:
            came = connection.receive_chunk()
            assert came is None or connection.receive_chunk() is None, "a second event"
            answers.append(Answer(Head(200, "", ()), came or b""))
        self.events += 1
        event = replace(watch.exchange, headers=())
        self._compare(f"event of seq {event.seq} {event.request}", answers, event)
        watch.close()

    def _give_up(self, watch: OpenWatch) -> None:
        """Hang up where the client did; nothing had come."""
        for side, connection in zip(self.sides, watch.connections, strict=True):
            try:
                event = connection.receive_chunk(0.0)
            except NothingCameError:
                continue
            self.differences.append(f"{side.system}: {watch.exchange.request} got {event!r}")
        watch.close()

    def _compare(self, what: str, answers: Sequence[Answer], recorded: Exchange | None = None) -> None:
        """The same from both, and the same as recorded."""
        self.compared += 1
        unsorted = "sorted=true" not in what
        expected, actual = (
            comparable(side.canonical(answer), unsorted=unsorted)
            for side, answer in zip(self.sides, answers, strict=True)
        )
        if "/v2/members" in what:
            expected, actual = (replace(each, body=b"", head_length=0) for each in (expected, actual))
        words = difference(expected, actual)
        if words is None and recorded is not None:
            words = self._recorded_difference(recorded, actual, unsorted=unsorted)
        if words is not None:
            self.differences.append(f"{what[:400]}: {words}")

    def _recorded_difference(self, recorded: Exchange, actual: Comparable, *, unsorted: bool) -> str | None:
        if not recorded.is_deterministic:
            return None if recorded.status == actual.status else f"status {actual.status}, recorded {recorded.status}"
        self.witnessed += 1
        witness = comparable(self.subject.canonical_recorded(recorded.answer), unsorted=unsorted)
        if len(witness.ttls) == len(actual.ttls):
            # Leases were as old as they were.
            witness = replace(witness, ttls=actual.ttls)
        words = difference(_unframed(witness), _unframed(actual))
        return words and f"not as recorded: {words}"


def _unframed(answer: Comparable) -> Comparable:
    """Without what depends on the connection: three of the recorded requests asked for it to be closed."""
    return replace(answer, headers=tuple(header for header in answer.headers if header[0] not in _FRAMING))


def replayed(plan: Plan, oracle: System, subject: System, report: Callable[[str], None]) -> list[str]:
    """Replay a plan on both; what differed, in words."""
    sides = Side(oracle), Side(subject)
    try:
        replay = Replay(*sides)
        replay.run(plan)
        replay.compare_trees()
        report(
            f"{replay.compared} answers compared, {replay.events} of them events, {replay.witnessed} with what was "
            f"recorded; {len(replay.differences)} differ"
        )
        for side in sides:
            # What is left would expire in the middle of the next recording.
            for request in removals(side.lanes[0].ask(_QUORUM)):
                side.lanes[0].ask(request)
        return replay.differences
    finally:
        for side in sides:
            side.close()
