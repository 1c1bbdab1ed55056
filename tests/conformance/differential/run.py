"""One sequence on a pair of servers."""

import json
import re
from dataclasses import replace
from typing import Final

from tests.conformance.comparison import comparable, difference, recoded, without_previous
from tests.conformance.differential import watches
from tests.conformance.differential.accounts import ROOT, forget
from tests.conformance.differential.coverage import Coverage
from tests.conformance.differential.pair import Pair, removals
from tests.conformance.differential.steps import (
    Account,
    Ask,
    Elsewhere,
    Expire,
    OpenWatch,
    Oversized,
    Sequence,
    Step,
    World,
    headers_of,
    request_of,
)
from tests.conformance.differential.watches import OpenedWatch
from tests.conformance.wire import FORM, Answer, Connection, Request, keys_request

BODY_BYTES_MAX: Final = 10 * 1024 * 1024
_SORTED: Final = re.compile(rb"[?&]sorted=(1|t|T|TRUE|true|True)(&|$)")
_REFRESH: Final = re.compile(rb"(^|[?&])refresh=(1|t|T|TRUE|true|True)(&|$)")
_LOCAL_INFORMATION: Final = ("/version", "/v2/members")
"""Where a successful answer names the server itself."""
_FUTURE_WRITES_MAX: Final = 8
"""How far ahead of the store a watch may wait and still be made to fire."""


class DifferenceError(Exception):
    """The two servers disagree; the message says on what."""


class Run:
    """One run of one sequence. `run()` raises `DifferenceError` at the first difference."""

    def __init__(self, pair: Pair, sequence: Sequence, coverage: Coverage) -> None:
        self._pair = pair
        self._sequence = sequence
        self._prefix = sequence.prefix
        self._coverage = coverage
        self._world = World(0)
        self._watches: list[OpenedWatch] = []

    def run(self) -> None:
        """Run every step, then let every watch fire, then empty the store again."""
        self._coverage.sequences += 1
        self._world.index = self._ask("align", keys_request("GET", "/", query="quorum=true")).etcd_index
        try:
            for step in self._sequence.steps:
                self._step(step)
            if self._sequence.auth:
                forget(lambda request: self._ask("accounts", request))
            self._empty()
            for watch in self._watches:
                self._finish(watch)
        except watches.WatchDifferenceError as error:
            raise DifferenceError(str(error)) from error
        finally:
            for watch in self._watches:
                watch.close()
        self._coverage.watched += bool(self._watches)

    def _step(self, step: Step) -> None:
        match step:
            case Ask():
                answer = self._ask(step.operation, request_of(step, self._prefix, self._world), step)
                if answer.status in (200, 201) and step.method in ("PUT", "POST", "DELETE"):
                    self._world.note_write(step, answer.etcd_index)
            case OpenWatch():
                self._open(step)
            case Expire():
                self._expire(step)
            case Oversized():
                body = b"value=" + b"x" * (BODY_BYTES_MAX + 1 - len(b"value="))
                self._ask("oversized", Request("PUT", f"/v2/keys{self._prefix}{step.path}".encode(), body, FORM))
            case Elsewhere():
                self._ask("elsewhere", Request(step.method, step.target.encode(), None))
            case Account():
                self._ask("accounts", step.request())

    def _ask(self, operation: str, request: Request, step: Ask | None = None) -> Answer:
        oracle, subject = self._pair.ask(request)
        self._coverage.note(operation, step, oracle)
        unsorted = request.method == "GET" and _SORTED.search(request.target) is None
        words = difference(comparable(oracle, unsorted=unsorted), comparable(subject, unsorted=unsorted))
        if words is not None and self._is_blind(request):
            is_refresh = any(_REFRESH.search(part) for part in (request.target, request.body or b""))
            expected = without_previous(oracle, is_refresh=is_refresh)
            words = difference(comparable(expected), comparable(recoded(subject)))
            self._coverage.excused["a write by whoever may not read says nothing of what was there"] += 1
        if words is not None:
            msg = f"{request}: {words}"
            raise DifferenceError(msg)
        return oracle

    def _is_blind(self, request: Request) -> bool:
        """Whether it is a write by whoever may not read there, as etcd itself says: he learns less of kvraft."""
        if not self._sequence.auth or request.method not in ("PUT", "POST", "DELETE"):
            return False
        path = request.target.partition(b"?")[0]
        is_roots = request.headers == headers_of(ROOT)
        return not is_roots and self._pair.oracle.ask(Request("GET", path, headers=request.headers)).status == 401

    def _open(self, step: OpenWatch) -> None:
        wait_index = None if step.wait_index is None else self._world.resolve(step.wait_index, step.path)
        query = f"wait=true&recursive={step.recursive}&stream={step.stream}".lower()
        if wait_index is not None:
            query += f"&waitIndex={wait_index}"
        path = f"{self._prefix}{step.path}"
        request = replace(keys_request("GET", path, query=query), headers=headers_of(step.login))
        oracle_url, subject_url = self._pair.next_urls()
        watch = OpenedWatch(
            request,
            path,
            step.recursive,
            step.stream,
            int(wait_index or 0),
            self._pair.oracle.index,
            Connection(oracle_url),
            Connection(subject_url),
            self._pair.subject.system.is_etcd,
        )
        answers = watches.open_watch(self._pair, request, watch)
        if answers is None:
            self._coverage.requests += 1
            self._coverage.counts["watch", 200, 0] += 1
            self._watches.append(watch)
            return
        watch.close()
        self._coverage.note("watch", None, answers[0])
        words = difference(*(comparable(answer) for answer in answers))
        if words is not None:
            msg = f"{request}: {words}"
            raise DifferenceError(msg)

    def _expire(self, step: Expire) -> None:
        """Write nodes that expire, and wait until both servers have noticed; when is their own affair."""
        written = []
        for path in step.paths:
            query, form = ("dir=true", f"ttl={step.ttl}") if step.directory else ("", f"value=1&ttl={step.ttl}")
            request = keys_request("PUT", f"{self._prefix}{path}", form, query=query)
            answer = self._ask("expiring set", request)
            if answer.status in (200, 201):
                written.append(path)
        expected = [keys_request("GET", f"{self._prefix}{path}", query="quorum=true") for path in written]
        for path, gone in zip(written, expected, strict=True):
            for server in self._pair.both:
                server.wait_for(f"expiry of {path}", lambda server=server, gone=gone: server.ask(gone).status == 404)  # type: ignore[misc] # mypy cannot infer lambdas with defaults
        # Only now: what one server notices at one tick may take the other two, and their indices differ between them.
        for gone in expected:
            self._ask("expire", gone)

    def _empty(self) -> None:
        """Delete everything, comparing the answers; this fires the watchers of what was there."""
        if self._sequence.on_root:
            for request in removals(self._ask("list all", keys_request("GET", "/"))):
                self._ask("remove all", request)
        else:
            self._ask("remove all", keys_request("DELETE", self._prefix, query="recursive=true"))

    def _finish(self, watch: OpenedWatch) -> None:
        """Write where the watch looks until it must have fired, then compare what it saw."""
        last_index = None
        target = f"{watch.path.rstrip('/')}/end" if watch.key == b"/" else watch.path
        if (watch.key != b"/" or watch.recursive) and watch.wait_index <= self._world.index + _FUTURE_WRITES_MAX:
            while last_index is None or last_index < watch.wait_index:
                answer = self._ask("end of watch", keys_request("PUT", target, "value=end"))
                assert answer.status in (200, 201), answer
                last_index = answer.etcd_index
            watches.collect(watch, last_index)
        watches.compare(watch, self._coverage.excused)
        self._coverage.events += len(watch.events[0])
        for event in watch.events[0]:
            self._coverage.counts["event " + json.loads(event)["action"], 200, 0] += 1
        top = "/" + target.strip("/").split("/", maxsplit=1)[0].split("%2F", maxsplit=1)[0]
        self._ask("remove all", keys_request("DELETE", top, query="recursive=true"))
