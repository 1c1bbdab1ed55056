"""The client port: whatever is sent, HTTP comes back, soon, and the log of the member stays free of tracebacks.

A conversation whose requests can all be framed is answered whole and in order, and ends with the sentinel's answer. One
that is in doubt gets answers to some of its requests, then at most one refusal, and an end.
"""

import contextlib
import json
import re
import socket
from collections.abc import Iterator
from time import monotonic
from typing import Final, final

from kvraft.testing.cluster import Member
from tests.conformance import systems
from tests.fuzz.engine import Check, Target
from tests.fuzz.http_grammar import CONVERSATIONS, SENTINEL, Conversation

ANSWER_S: Final = 1.0
"""No answer may take longer."""
TRIES: Final = 4
"""A machine under load stalls now and then; a hang comes again every time."""
QUIET_S: Final = 0.06
"""So long nothing must come before the sending side is closed: then the server knows that a body was cut off. Only for
conversations in doubt: aiohttp drops answers that it owes to a client that has closed."""
EACH_READ_BYTES: Final = 1 << 20
MEMORY_BYTES_MAX: Final = 600 << 20
_HEAD: Final = re.compile(
    rb"HTTP/1\.[01] (\d{3}) ([\x20-\x7e]*)\r\n((?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[^\r\n\0]*\r\n)*)\r\n"
)
_WAITS: Final = re.compile(rb"wait=(true|1|T)\b")
_REFUSED_TARGET: Final = re.compile(rb"[^?]*%(?![0-9A-Fa-f]{2})")
"""Go refuses a path with a broken escape before any handler."""
_BODILESS: Final = frozenset({204, 304})
REACHED: Final = frozenset(
    {
        "answered, first 200",
        "answered, first 404",
        "answered, first 405",
        "ended by the first",
        "doubt, last 200",
        "doubt, last 400",
    }
)
"""Whole conversations and such as are in doubt, with requests that are served and others that are refused."""


class HangError(AssertionError):
    """No answer in time, or a connection that stays open."""


class BrokenAnswerError(AssertionError):
    """What came back is not what HTTP, JSON or the contract allow."""


@final
class Fuzzed:
    """The member under test."""

    def __init__(self, member: Member) -> None:
        self._member = member
        self._address = ("127.0.0.1", member.client_port)
        self._logged = 0

    def check(self, conversation: Conversation) -> str:
        """Send it, read everything, look at the answers, the log and the memory."""
        received, ended = self._exchange(conversation)
        for _ in range(TRIES - 1):
            if ended:
                break
            received, ended = self._exchange(conversation)
        statuses, rest = self._answers(conversation, received)
        self._look_around()
        if not ended:
            raise HangError(f"still open after {ANSWER_S} s, with answers {statuses} and {rest[:200]!r}")
        expected = len(conversation.requests) + 1
        if conversation.last:
            if rest or len(statuses) > expected + conversation.last.count(b"HTTP/"):
                raise BrokenAnswerError(f"{len(statuses)} answers {statuses} and {rest[:200]!r}")
            return f"doubt, last {statuses[-1] if statuses else 'closed'}"
        if self._may_end_early(conversation):
            return "ended by the first"
        if rest or len(statuses) != expected or statuses[-1] != 200:
            raise BrokenAnswerError(f"answers {statuses} to {expected} requests, then {rest[:200]!r}")
        return f"answered, first {statuses[0]}"

    def _exchange(self, conversation: Conversation) -> tuple[bytes, bool]:
        """(everything received, whether the server ended the connection in time)."""
        data = b"".join(request.encode() for request in conversation.requests) + conversation.last + SENTINEL.encode()
        received = bytearray()
        in_doubt = bool(conversation.last) or _WAITS.search(data) is not None
        started = monotonic()
        closed = False
        with socket.create_connection(self._address, timeout=ANSWER_S) as connection:
            connection.setblocking(False)
            unsent = memoryview(data)
            while monotonic() - started < ANSWER_S + len(data) / 1e7:
                try:
                    if unsent:
                        unsent = unsent[connection.send(unsent[: 1 << 16]) :]
                    piece = connection.recv(EACH_READ_BYTES)
                except BlockingIOError:
                    if in_doubt and not unsent and not closed and not _readable(connection, QUIET_S):
                        connection.shutdown(socket.SHUT_WR)
                        closed = True
                    else:
                        _readable(connection, 0.005)
                    continue
                except ConnectionError:
                    return bytes(received), True
                if not piece:
                    return bytes(received), True
                received += piece
        return bytes(received), _WAITS.search(data) is not None

    def _answers(self, conversation: Conversation, data: bytes) -> tuple[list[int], bytes]:
        """(status of each final answer, bytes after the last whole one)."""
        methods = [request.method for request in conversation.requests]
        methods.append(conversation.last.partition(b" ")[0])
        statuses: list[int] = []
        at = 0
        while match := _HEAD.match(data, at):
            status = int(match[1])
            if status == 100:
                at = match.end()
                continue
            headers = {
                name.lower(): value.strip()
                for name, _, value in (line.partition(b":") for line in match[3].split(b"\r\n") if line)
            }
            method = methods[len(statuses)] if len(statuses) < len(methods) else b""
            # A refusal may be the answer to all that came in one packet; then it has a body.
            refused = status in {400, 431} and headers.get(b"connection") == b"close" and data[match.end() :] != b""
            bodiless = (method == b"HEAD" and not refused) or status in _BODILESS
            body, at = (b"", match.end()) if bodiless else _body(headers, data, match.end())
            if at < 0:
                return statuses, data[match.start() :] if not _WAITS.search(repr(conversation).encode()) else b""
            statuses.append(status)
            if not bodiless:
                _judge(status, headers, body)
        return statuses, data[at:]

    def _may_end_early(self, conversation: Conversation) -> bool:
        """Whether a request before the sentinel asks for the end, or for a stream of events."""
        return any(
            b"Connection: close" in request.headers
            or any(header.startswith(b"Expect") for header in request.headers)
            or _WAITS.search(request.target)
            or _WAITS.search(request.body)
            or _REFUSED_TARGET.match(request.target)
            for request in conversation.requests
        )

    def _look_around(self) -> None:
        """No traceback in what was logged since, the process there, its memory within bounds."""
        with self._member.log_path.open("rb") as log:
            log.seek(self._logged)
            written = log.read()
            self._logged = log.tell()
        if b"Traceback" in written or b"rror occurred" in written:
            raise BrokenAnswerError("in the log: " + written.decode(errors="replace")[-3000:])
        if not self._member.is_running:
            raise BrokenAnswerError(f"the member ended with {self._member.exit_code}")
        with open(f"/proc/{self._member.pid}/statm", "rb") as statm:  # noqa: PTH123 -- one read a case
            resident = int(statm.read().split()[1]) * 4096
        if resident > MEMORY_BYTES_MAX:
            raise BrokenAnswerError(f"{resident >> 20} MiB of memory")


def _readable(connection: socket.socket, seconds: float) -> bool:
    connection.settimeout(seconds)
    try:
        return connection.recv(1, socket.MSG_PEEK) is not None
    except TimeoutError:
        return False
    except ConnectionError:
        return True
    finally:
        connection.setblocking(False)


def _body(headers: dict[bytes, bytes], data: bytes, at: int) -> tuple[bytes, int]:
    """(body, where the next answer begins); -1 if the body is not whole."""
    if headers.get(b"transfer-encoding") == b"chunked":
        if b"content-length" in headers:
            raise BrokenAnswerError("an answer framed in two ways")
        pieces = []
        while True:
            line, found, _ = data[at : at + 20].partition(b"\r\n")
            if not found:
                return b"", -1
            size = int(line, 16)
            at += len(line) + 2
            if len(data) < at + size + 2:
                return b"", -1
            pieces.append(data[at : at + size])
            if data[at + size : at + size + 2] != b"\r\n":
                raise BrokenAnswerError("a chunk that does not end where it says")
            at += size + 2
            if size == 0:
                return b"".join(pieces), at
    if b"content-length" not in headers:
        return data[at:], len(data)
    end = at + int(headers[b"content-length"])
    return (data[at:end], end) if end <= len(data) else (b"", -1)


_STRING: Final = re.compile(r'"(?:[^"\\]|\\.)*"')
_INNERMOST: Final = re.compile(r"\[[^\[\]{}]*\]|\{[^\[\]{}]*\}")


def _judge(status: int, headers: dict[bytes, bytes], body: bytes) -> None:
    """What one answer must be, whatever was asked."""
    shown = f"{status} {headers} {body[:300]!r}"
    if b"Traceback" in body or b"aiohttp" in body.lower() or b"aiohttp" in headers.get(b"server", b"").lower():
        raise BrokenAnswerError(f"an answer that shows our insides: {shown}")
    # etcd's own for users and roles, where a query is malformed; an error that nobody handled is plain text here.
    is_etcds = b'"errorCode":300' in body or body == b'{"message":"Internal Server Error"}'
    by_design = status in {501, 503, 505} or (status == 500 and is_etcds)
    if status >= 500 and not by_design:
        raise BrokenAnswerError(f"a failure of the server: {shown}")
    # A watch whose client stopped sending before anything happened is completed without an event.
    is_empty_watch = status == 200 and not body and headers.get(b"transfer-encoding") == b"chunked"
    if headers.get(b"content-type", b"").startswith(b"application/json") and not is_empty_watch:
        try:
            for line in body.splitlines() if body.startswith(b'{"action"') else [body]:
                check_json(line.decode())
        except ValueError as error:
            raise BrokenAnswerError(f"JSON that is none ({error}): {shown}") from None


def check_json(text: str) -> None:
    """Raise ValueError if it is none. A tree too deep for `json`, which recurses, is taken apart from within."""
    try:
        json.loads(text)
    except RecursionError:
        left, taken = _STRING.sub(_checked_string, text), 1
        while taken:
            left, taken = _INNERMOST.subn(_checked_level, left)
        json.loads(left)


def _checked_string(found: re.Match[str]) -> str:
    json.loads(found[0])
    return '""'


def _checked_level(found: re.Match[str]) -> str:
    json.loads(found[0])
    return "0"


def target(*, member: bool) -> Target:
    """HTTP to kvraft's API over a keyspace in memory, or to a whole member."""

    @contextlib.contextmanager
    def _open() -> Iterator[Check]:
        with systems.kvraft() if member else systems.memory() as system:
            yield Fuzzed(system.cluster.members[0]).check

    return Target("http", CONVERSATIONS, _open, REACHED)
