"""The recorded vectors of etcd 3.4.23: loading, and translating the indices of the recording into those of a replay.

All of them, in `tests/data/conformance/golden_v2.jsonl`, are answered by kvraft, too.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, final

from tests.conformance.wire import Answer, Head, Request

DATA: Final = Path(__file__).resolve().parents[1] / "data" / "conformance"
RECORDED_BASE: Final = 3
"""`X-Etcd-Index` of the recorded server before the first vector."""
RECORDED_ID: Final = "cc4ac920d46ff089"
RECORDED_NAME: Final = '"name":"g"'
RECORDED_PEER_URL: Final = "http://127.0.0.1:33801"
RECORDED_CLIENT_URL: Final = "http://127.0.0.1:33791"
_BODY_WITH_NAMES_BYTES_MAX: Final = 1000
_SHORTENED: Final = re.compile(r"\.\.\.<(\d+) chars>$")
_FIELD: Final = re.compile(rb'"(modifiedIndex|createdIndex|index)":(\d+)')
_IN_ORDER_KEY: Final = re.compile(rb"/(0{10}\d{10})")
_CONDITION: Final = re.compile(rb"prevIndex=(\d+)")
_COMPARE_CAUSE: Final = re.compile(rb" != (\d+)\]")


@final
@dataclass(frozen=True, slots=True)
class Vector:
    """One recorded request and its answer."""

    number: int
    """Position in its file, from 0."""
    note: str
    request: Request
    answer: Answer
    body_length: int | None
    """Length of the answer's body where the recording was shortened, otherwise None."""


def load(name: str) -> list[Vector]:
    """The vectors of one file, in the order in which they were recorded."""
    with (DATA / name).open(encoding="utf-8") as lines:
        return [_vector(number, json.loads(line)) for number, line in enumerate(lines)]


def _vector(number: int, record: dict[str, Any]) -> Vector:
    headers = dict(record["req_headers"])
    content_type = headers.pop("Content-Type", None)
    body = None if record["body"] is None else _lengthened(record["body"])
    request = Request(record["method"], record["path"].encode(), body, content_type, tuple(headers.items()))
    answer_body = record["resp"].encode()
    shortened = _SHORTENED.search(record["resp"])
    head = Head(record["status"], "", tuple(record["headers"].items()))
    return Vector(number, record["note"], request, Answer(head, answer_body), int(shortened[1]) if shortened else None)


def _lengthened(text: str) -> bytes:
    """A request body as it was before the recorder shortened it: the only long ones are `value=xxxx...`."""
    shortened = _SHORTENED.search(text)
    if shortened is None:
        return text.encode()
    return b"value=" + b"x" * (int(shortened[1]) - len("value="))


@final
@dataclass(slots=True)
class Replay:
    """What stands in a replay for the indices and names of the recording."""

    names: Mapping[str, str]
    """Recorded id, name and URLs of the one member, and those of the member that is asked."""
    live: dict[int, int] = field(default_factory=dict)
    """Recorded indices and the live ones, learnt from each write."""

    def learn(self, recorded: Answer, live: Answer) -> None:
        """Note the index that a write got."""
        if recorded.etcd_index and live.status == recorded.status:
            self.live[recorded.etcd_index] = live.etcd_index

    def translated(self, answer: Answer) -> Answer:
        """The recorded answer as this replay should have given it."""
        headers = tuple(
            (name, str(self._of(int(value))) if name == "X-Etcd-Index" else value)
            for name, value in answer.head.headers
        )
        body = _FIELD.sub(lambda found: b'"%s":%d' % (found[1], self._of(int(found[2]))), answer.body)
        body = _IN_ORDER_KEY.sub(lambda found: b"/%020d" % self._of(int(found[1])), body)
        body = _COMPARE_CAUSE.sub(lambda found: b" != %d]" % self._of(int(found[1])), body)
        body = self._renamed(body)
        return Answer(Head(answer.head.status, answer.head.reason, headers), body)

    def translated_request(self, request: Request) -> Request:
        """A recorded request, its conditions on indices and the member's names translated."""
        target = _CONDITION.sub(lambda found: b"prevIndex=%d" % self._of(int(found[1])), request.target)
        body = request.body
        if body is not None and len(body) < _BODY_WITH_NAMES_BYTES_MAX:
            body = self._renamed(body)
        return replace(request, target=self._renamed(target), body=body)

    def _renamed(self, text: bytes) -> bytes:
        for recorded, live in self.names.items():
            text = text.replace(recorded.encode(), live.encode())
        return text

    def _of(self, recorded: int) -> int:
        return self.live.get(recorded, recorded)
