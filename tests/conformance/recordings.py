"""Recorded traffic of real clients: reading it, and putting it into the order in which etcd did it.

Requests overlapped when they were recorded. A write belongs where its index says, a read where its `X-Etcd-Index`
says; what one index saw may be replayed at the same time, as it was. Indices that no recorded request got are expiries,
or writes that went past the recorder and left an event.
"""

import json
import lzma
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, final
from urllib.parse import quote

from tests.conformance.wire import FORM, Answer, Head, Request, keys_request

DATA: Final = Path(__file__).resolve().parents[1] / "data" / "recordings"
NAMES: Final = ("flannel-0.7.1", "flannel-0.7.1-renewals", "etcdctl-3.4.23", "kube-apiserver-1.2.4")
LAST_EXPIRY_WITHIN_S: Final = 1.5
"""After the last write of a recording a node may still be seen to expire, not later than this."""
_WRITES: Final = frozenset({"PUT", "POST", "DELETE"})
_TTL: Final = re.compile(r"(?:^|&)ttl=(\d+)")
_EVENT_INDEX: Final = re.compile(r'"modifiedIndex":(\d+)')


@final
@dataclass(frozen=True, slots=True)
class Exchange:
    """One recorded request and what came of it."""

    seq: int
    method: str
    target: str
    form: str | None
    status: int | None
    """None when the client was gone before the answer began."""
    index: int | None
    """`X-Etcd-Index`; None for answers that have none."""
    headers: tuple[tuple[str, str], ...]
    """Of the answer, in order."""
    body: str
    """Of the answer; of a watch its event."""
    started: float
    """Seconds, by the recorder's clock."""
    ended: float
    was_cut: bool
    """A watch that its client gave up."""

    @property
    def request(self) -> Request:
        """The request as recorded."""
        return Request(
            self.method, self.target.encode(), self.form.encode() if self.form else None, FORM if self.form else None
        )

    @property
    def answer(self) -> Answer:
        """The answer as recorded."""
        return Answer(Head(self.status or 0, "", self.headers), self.body.encode())

    @property
    def is_deterministic(self) -> bool:
        """Whether the answer depends on the recording alone.

        Members and health describe another cluster; the root has nodes that nobody in the recording made.
        """
        return self.target.startswith("/v2/keys/") and not self.target.startswith("/v2/keys/?")

    @property
    def is_watch(self) -> bool:
        """Whether it waits for an event."""
        return "wait=true" in self.target

    @property
    def is_write(self) -> bool:
        """Whether it changed something."""
        return self.method in _WRITES and self.status in (200, 201)

    @property
    def ttl(self) -> int | None:
        """Seconds, if it writes a node that expires."""
        found = _TTL.search(self.form or "")
        return int(found[1]) if found else None

    @property
    def event_index(self) -> int | None:
        """Of a watch that was answered: the index of its event."""
        found = _EVENT_INDEX.search(self.body)
        return int(found[1]) if found and self.is_watch else None


@final
@dataclass(slots=True)
class Round:
    """What belongs to one index: the change that made it, then everything that saw it."""

    index: int
    change: Exchange | Request | None = None
    """The recorded write, or one that went past the recorder; None for an expiry."""
    others: list[Exchange] = field(default_factory=list)
    """Reads, failed writes and watches, in the order of the recording."""

    @property
    def is_expiry(self) -> bool:
        """Whether a node expired here."""
        return self.change is None


@final
@dataclass(frozen=True, slots=True)
class Plan:
    """A recording ready for replay."""

    seeds: tuple[tuple[int, Request], ...]
    """Writes that restore what was there before, with the recorded indices of their nodes; 0 for none."""
    base: int
    """The store's index when the recording began."""
    opening: Round
    """What saw the store as it was at `base`."""
    rounds: tuple[Round, ...]
    """By ascending index, from `base` + 1 on without a gap."""
    doomed: frozenset[int]
    """Indices of writes whose nodes expired before the end, not written again."""


def load(name: str) -> list[Exchange]:
    """One recording, in order of completion."""
    with lzma.open(DATA / f"{name}.jsonl.xz", "rt", encoding="utf-8") as lines:
        return [_exchange(json.loads(line)) for line in lines]


def _exchange(record: dict[str, Any]) -> Exchange:
    headers = dict(record.get("resp_headers") or [])
    started = record["t0"] if "t0" in record else record["t"]
    ended = record["t_end"] if "t_end" in record else record["t"] + record["dur_s"]
    index = headers.get("X-Etcd-Index")
    return Exchange(
        record["seq"],
        record["method"],
        record["url"],
        record["req_body"] or None,
        record.get("status"),
        None if index is None else int(index),
        tuple((name, value) for name, value in record.get("resp_headers") or ()),
        record.get("resp_body") or "",
        started,
        ended,
        record["end"] != "complete",
    )


def plan(exchanges: Sequence[Exchange]) -> Plan:
    """Put a recording into etcd's order."""
    writes = {exchange.index: exchange for exchange in exchanges if exchange.is_write and exchange.index is not None}
    indices = [exchange.index for exchange in exchanges if exchange.index]
    base = min(*indices, min(writes) - 1)
    rounds = {index: Round(index) for index in range(base, max(indices) + 1)}
    for index, exchange in writes.items():
        rounds[index].change = exchange
    for index, request in _unseen_writes(exchanges).items():
        if index > base and rounds[index].change is None:
            rounds[index].change = request
    latest = base
    for exchange in exchanges:
        if exchange.status is None or exchange.is_write:
            continue
        latest = exchange.index if exchange.index is not None else latest
        rounds[latest].others.append(exchange)
    opening = rounds.pop(base)
    return Plan(tuple(_seeds(exchanges, base)), base, opening, tuple(rounds.values()), _doomed(writes))


def _doomed(writes: Mapping[int, Exchange]) -> frozenset[int]:
    last_write = {exchange.target.partition("?")[0]: index for index, exchange in sorted(writes.items())}
    end = max(exchange.ended for exchange in writes.values())
    return frozenset(
        index
        for index, exchange in writes.items()
        if exchange.ttl is not None
        and last_write[exchange.target.partition("?")[0]] == index
        and exchange.started + exchange.ttl <= end + LAST_EXPIRY_WITHIN_S
    )


def _unseen_writes(exchanges: Sequence[Exchange]) -> dict[int, Request]:
    """Writes that only watchers saw, by index. The recordings have removals of leases of this kind, nothing else."""
    found = {}
    for exchange in exchanges:
        if exchange.is_watch and exchange.status == 200 and exchange.body:
            event = json.loads(exchange.body)
            if event["action"] == "delete":
                found[event["node"]["modifiedIndex"]] = keys_request("DELETE", event["node"]["key"])
    return found


def _seeds(exchanges: Sequence[Exchange], base: int) -> Iterator[tuple[int, Request]]:
    """What must be written first, by index: every file that was seen in the form it had before the recording."""
    writes: dict[int, Request] = {}
    for exchange in exchanges:
        for node in _nodes(exchange):
            if node.get("modifiedIndex", 0) > base or node.get("createdIndex", 0) > base or "value" not in node:
                continue
            form = "value=" + quote(node["value"])
            writes[node["createdIndex"]] = keys_request("PUT", node["key"], form)
            if node["modifiedIndex"] != node["createdIndex"]:
                writes[node["modifiedIndex"]] = keys_request("PUT", node["key"], form, query="prevExist=true")
    yield from sorted(writes.items())


def _nodes(exchange: Exchange) -> Iterator[dict[str, Any]]:
    """Every node that an answer shows."""
    if not exchange.target.startswith("/v2/keys") or not exchange.body or exchange.status not in (200, 201):
        return
    shown = json.loads(exchange.body)
    waiting = [shown[name] for name in ("node", "prevNode") if name in shown]
    while waiting:
        node = waiting.pop()
        yield node
        waiting.extend(node.get("nodes", ()))
