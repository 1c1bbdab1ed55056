"""What has been hit: counts by (operation, status, errorCode), and the rows of the contract's tables."""

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, final

from tests.conformance.differential.steps import Ask
from tests.conformance.wire import Answer

HITS_MIN: Final = 20
"""Of every row, in a campaign of `FULL_REQUESTS`."""
FULL_REQUESTS: Final = 20_000


@final
@dataclass(frozen=True, slots=True)
class Outcome:
    """One answer of etcd, taken apart as far as rows ask."""

    operation: str
    method: str
    path: str
    parameters: Mapping[str, str | None]
    """As etcd sees them: the form first, the first of a repeated one."""
    status: int
    code: int
    """errorCode; 0 for none."""
    cause: str
    action: str
    has_prev_node: bool
    is_dir: bool


def outcome_of(operation: str, step: Ask | None, answer: Answer) -> Outcome:
    """What came of a step."""
    body: dict[str, Any] = {}
    if answer.body.startswith(b"{") and (answer.header("Content-Type") or "").endswith("json"):
        body = json.loads(answer.body)
    parameters: dict[str, str | None] = {}
    if step is not None:
        for name, value in (*(step.form or ()), *step.query):
            parameters.setdefault(name, value)
    return Outcome(
        operation,
        step.method if step else "",
        step.path if step else "",
        parameters,
        answer.status,
        body.get("errorCode", 0),
        body.get("cause", ""),
        body.get("action", ""),
        "prevNode" in body,
        bool(body.get("node", {}).get("dir")),
    )


Row = Callable[[Outcome], bool]


def _refused(code: int, cause: str = "", method: str = "") -> Row:
    pattern = re.compile(cause)
    return lambda outcome: (
        outcome.code == code and pattern.match(outcome.cause) is not None and method in ("", outcome.method)
    )


def _done(action: str, status: int, *, directory: bool | None = None, **wanted: str | None) -> Row:
    """An action with this status; `wanted` are parameters that must be given, or (None) must not."""

    def row(outcome: Outcome) -> bool:
        if (outcome.action, outcome.status) != (action, status) or directory not in (None, outcome.is_dir):
            return False
        given = outcome.parameters
        return all(
            (given.get(name) in (value, "$value", "$index") if value else name not in given)
            for name, value in wanted.items()
        )

    return row


ROWS: Final[Mapping[str, Row]] = {
    "A.3 1 escape": _refused(210, "invalid URL escape"),
    "A.3 1 semicolon": _refused(210, "invalid semicolon"),
    "A.3 1 media type": _refused(210, "mime:"),
    "A.3 1 more than 10 MiB": _refused(210, "http: POST too large"),
    "A.3 3 prevIndex": _refused(203, '.*"prevIndex"'),
    "A.3 3 waitIndex": _refused(203, '.*"waitIndex"'),
    "A.3 4 recursive": _refused(209, '.*"recursive"'),
    "A.3 4 sorted": _refused(209, '.*"sorted"'),
    "A.3 4 wait": _refused(209, 'invalid value for "wait"'),
    "A.3 4 dir": _refused(209, '.*"dir"'),
    "A.3 4 quorum": _refused(209, '.*"quorum"'),
    "A.3 4 stream": _refused(209, '.*"stream"'),
    "A.3 5 wait on a write": _refused(209, '"wait" can only'),
    "A.3 6 empty prevValue": _refused(201),
    "A.3 7 noValueOnSuccess": _refused(209, '.*"noValueOnSuccess"'),
    "A.3 8 ttl": _refused(202),
    "A.3 9 prevExist": _refused(209, "invalid value for prevExist"),
    "A.3 10 refresh": _refused(209, "invalid value for refresh"),
    "A.3 11 refresh with a value": _refused(211),
    "A.3 12 refresh without TTL": _refused(212),
    "A.4 100": _refused(100),
    "A.4 101": _refused(101),
    "A.4 102": _refused(102),
    "A.4 104": _refused(104),
    "A.4 105": _refused(105),
    "A.4 107": _refused(107),
    "A.4 108": _refused(108),
    "A.4 401": _refused(401),
    "A.6 set creates": _done("set", 201, directory=False),
    "A.6 set replaces": _done("set", 200, directory=False),
    "A.6 set dir creates": _done("set", 201, directory=True),
    "A.6 set dir over a file": _done("set", 200, directory=True),
    "A.6 set dir over a dir": lambda outcome: outcome.code == 102 and outcome.operation == "set dir",
    "A.6 create": _done("create", 201, prevExist="false"),
    "A.6 create over something": lambda outcome: outcome.code == 105 and outcome.operation == "create",
    "A.6 update file": _done("update", 200, directory=False, dir=None),
    "A.6 update dir": _done("update", 200, directory=True),
    "A.6 update file with dir=true": _done("update", 200, directory=False, dir="true"),
    "A.6 update dir with a value": lambda outcome: outcome.code == 102 and outcome.operation == "update",
    "A.6 update missing": lambda outcome: outcome.code == 100 and outcome.operation == "update",
    "A.6 swap by value": _done("compareAndSwap", 200, prevValue="$value", prevIndex=None),
    "A.6 swap by index": _done("compareAndSwap", 200, prevIndex="$index", prevValue=None),
    "A.6 swap by both": _done("compareAndSwap", 200, prevIndex="$index", prevValue="$value"),
    "A.6 swap of a dir": _refused(102, method="PUT"),
    "A.6 swap of nothing": lambda outcome: outcome.code == 100 and outcome.operation == "compareAndSwap",
    "A.6 compare fails by value": _refused(101, r"\[[^]]* != [^]]*\]$"),
    "A.6 compare fails by index": _refused(101, r"\[\d+ != \d+\]$"),
    "A.6 compare fails by both": _refused(101, r"\[.* != .*\] \[\d+ != \d+\]$"),
    "A.6 prevIndex=0 is no condition": lambda outcome: (
        outcome.action == "set" and outcome.parameters.get("prevIndex") == "0"
    ),
    "A.6 post file": lambda outcome: outcome.method == "POST" and outcome.status == 201 and not outcome.is_dir,
    "A.6 post dir": lambda outcome: outcome.method == "POST" and outcome.status == 201 and outcome.is_dir,
    "A.6 post at root": lambda outcome: (
        outcome.method == "POST" and outcome.status == 201 and outcome.path in ("", "/")
    ),
    "A.6 delete file": _done("delete", 200, directory=False, dir=None),
    "A.6 delete file with dir=true": _done("delete", 200, directory=False, dir="true"),
    "A.6 delete empty dir": _done("delete", 200, directory=True, dir="true", recursive=None),
    "A.6 delete recursive": _done("delete", 200, directory=True, recursive="true"),
    "A.6 delete dir without leave": lambda outcome: outcome.code == 102 and outcome.operation == "delete",
    "A.6 delete full dir": _refused(108),
    "A.6 compareAndDelete": _done("compareAndDelete", 200),
    "A.6 compareAndDelete fails": _refused(101, method="DELETE"),
    "A.6 compareAndDelete of a dir": lambda outcome: outcome.code == 102 and outcome.operation == "compareAndDelete",
    "A.6 root is read only": _refused(107),
    "A.6 compareAndDelete of the root": lambda outcome: (
        outcome.code == 102 and outcome.operation == "root" and not outcome.cause
    ),
    "A.6 file as parent": _refused(104),
    "A.6 refresh set": _done("set", 200, refresh="true"),
    "A.6 refresh update": _done("update", 200, refresh="true"),
    "A.6 refresh swap": _done("compareAndSwap", 200, refresh="true"),
    "A.6 refresh creates": _done("create", 201, refresh="true"),
    "A.6 refresh missing": lambda outcome: outcome.code == 100 and outcome.operation == "refresh",
    "A.6 noValueOnSuccess": lambda outcome: (
        outcome.action in ("set", "create", "update", "compareAndSwap")
        and outcome.operation == "noValueOnSuccess"
        and not outcome.has_prev_node
    ),
    "A.6 expiry": lambda outcome: outcome.operation == "expire",
}
"""Left out because no request reaches them here: A.3 2 (the mux answers 404 before), `missing form body` (a server
always has a body), A.4 110 (only with auth on: `Coverage.refusals`), 300 (needs a lost quorum), 301 and 400 (never
sent since etcd 2.0)."""


@final
@dataclass(slots=True)
class Coverage:
    """Counts over a campaign."""

    requests: int = 0
    """Sent to each server."""
    sequences: int = 0
    watched: int = 0
    """Sequences with a watch."""
    events: int = 0
    counts: Counter[tuple[str, int, int]] = field(default_factory=Counter)
    rows: Counter[str] = field(default_factory=Counter)
    excused: Counter[str] = field(default_factory=Counter)
    """Documented bugs of etcd that were met."""

    def note(self, operation: str, step: Ask | None, answer: Answer) -> None:
        """Count one answer of etcd."""
        outcome = outcome_of(operation, step, answer)
        self.requests += 1
        self.counts[operation, outcome.status, outcome.code] += 1
        for name, row in ROWS.items():
            if row(outcome):
                self.rows[name] += 1

    def add(self, other: "Coverage") -> None:
        """Count what another campaign has counted."""
        self.requests += other.requests
        self.sequences += other.sequences
        self.watched += other.watched
        self.events += other.events
        self.counts += other.counts
        self.rows += other.rows
        self.excused += other.excused

    @property
    def refusals(self) -> int:
        """Requests refused for want of a right: the only 401 there is (A.9)."""
        return sum(count for (_, status, _), count in self.counts.items() if status == 401)

    def missing(self, hits_min: int = HITS_MIN) -> list[str]:
        """Rows hit less often than that, with their counts."""
        return [f"{name}: {self.rows[name]}" for name in ROWS if self.rows[name] < hits_min]

    def report(self) -> str:
        """Everything counted, as lines."""
        lines = [
            f"{self.requests} requests in {self.sequences} sequences ({self.watched} watched, {self.events} events)"
        ]
        lines += [f"{count:7} {op} {status} {code or ''}" for (op, status, code), count in sorted(self.counts.items())]
        lines.append("rows of the contract:")
        lines += [f"{self.rows[name]:7} {name}" for name in ROWS]
        lines.append("documented differences met:")
        lines += [f"{count:7} {name}" for name, count in sorted(self.excused.items())]
        return "\n".join(lines)
