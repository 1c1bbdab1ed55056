"""One client of one member at a time, that notes down whatever it does."""

import asyncio
import http.client
import random
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, final

from kvraft.testing import raw_http
from kvraft.testing.cluster import Member
from tests.jepsen_like import history
from tests.jepsen_like.history import Record
from tests.jepsen_like.secure import ANYBODY, Way

TIMEOUT_S: Final = 2.0
"""Shorter than the 7 s after which a member gives up: a client that waits long sees little of a fault."""
PAUSE_S: Final = 0.05
"""After a connection or a member that failed: some refuse at once, and a client should not spin on that."""


@final
class Session:
    """A connection to a member; kept while it works, opened again when not. Roaming ones then go to another member."""

    def __init__(
        self,
        number: int,
        members: Sequence[Member],
        chance: random.Random,
        directory: Path,
        *,
        roams: bool,
        way: Way = ANYBODY,
    ) -> None:
        self.number: Final = number
        self.chance: Final = chance
        self._members = members
        self._at = number % len(members)
        self._roams = roams
        self._way: Final = way
        self._connection: raw_http.Connection | None = None
        self._path = directory / f"operations-{number}.jsonl"
        self._records: list[Record] = []

    @property
    def member(self) -> Member:
        """Whom it asks."""
        return self._members[self._at]

    async def ask(
        self,
        action: str,
        key: str,
        method: str = "GET",
        query: str = "",
        *,
        value: str | None = None,
        form: Mapping[str, str] | None = None,
        compared: str | None = None,
    ) -> tuple[Record, Any]:
        """Send one request about a key. Returns its record, already noted, and the JSON that was answered."""
        record = Record(self.number, self.member.name, action, key, value, time.monotonic_ns(), 0, "unknown", compared)
        answer: Any = None
        try:
            async with asyncio.timeout(TIMEOUT_S):
                reply = await self._exchange(method, f"/v2/keys{key}{query}", form)
            record.status = reply.status
            answer = reply.json()
            _note(record, reply, answer)
        except ConnectionRefusedError:
            record.outcome, record.why = "not sent", "refused"
        except (OSError, asyncio.IncompleteReadError, TimeoutError, ValueError) as error:
            record.why = type(error).__name__
        record.end = time.monotonic_ns()
        self._records.append(record)
        if record.outcome not in {"ok", "failed"}:
            self.disconnect()
            if self._roams:
                self._at = self.chance.randrange(len(self._members))
            await asyncio.sleep(PAUSE_S)
        return record, answer

    def disconnect(self) -> None:
        """Drop the connection, whatever is on its way."""
        if self._connection is not None:
            self._connection.writer.transport.abort()
            self._connection = None

    def close(self) -> None:
        """Disconnect and write the records."""
        self.disconnect()
        history.write(self._path, self._records)
        self._records = []

    async def _exchange(self, method: str, target: str, form: Mapping[str, str] | None) -> raw_http.Answer:
        if self._connection is None:
            self._connection = await raw_http.Connection.open(self.member.client_url, tls=self._way.tls)
        reply = await self._connection.request(method, target, form=form, headers=self._way.headers)
        if reply.header("Connection") == "close":
            self.disconnect()
        return reply


def _note(record: Record, reply: raw_http.Answer, answer: Any) -> None:
    """What an answer says of an operation."""
    index = reply.header("X-Etcd-Index")
    record.etcd_index = None if index is None else int(index)  # 0 before the very first write
    if reply.status in {200, 201}:
        record.outcome = "ok"
        record.index = answer["node"].get("modifiedIndex")
        if record.action == "read":
            record.value = answer["node"].get("value")
    elif reply.status < 500:
        record.outcome, record.why = "failed", str(answer.get("errorCode"))
        if record.action == "read" and reply.status == 404:
            record.outcome, record.why = "ok", None
        record.error_code = answer.get("errorCode")
    else:
        record.error_code = answer.get("errorCode")
        record.why = answer.get("cause") or answer.get("message")


def ask_until_answered(member: Member, target: str, within_s: float) -> raw_http.Answer:
    """A blocking read that a quorum confirms, asked again until it is answered."""

    def answered() -> raw_http.Answer | None:
        try:
            answer = member.http("GET", target, timeout_s=within_s)
        except (OSError, http.client.HTTPException):
            return None
        return answer if answer.status in {200, 404} else None

    return member.wait_for(f"answer to {target}", answered, within_s)
