"""What a client did and was told: one JSON line an operation, in the file of that client.

Times are nanoseconds of one monotonic clock, which clients, faults and watchers of a run share.
"""

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Literal, final

Outcome = Literal["ok", "failed", "unknown", "not sent"]
MS: Final = 1_000_000
"""Nanoseconds."""


@final
@dataclasses.dataclass(slots=True)
class Record:
    """One operation."""

    client: int
    member: str
    """The one that was asked."""
    action: str
    """A word of the workload: read, write, cas, ..."""
    key: str
    value: str | None
    """What was written, or read."""
    start: int
    end: int
    """When the answer came, or when the client gave up."""
    outcome: Outcome
    """`unknown`: it may have happened, or still happen. `not sent`: it certainly has not."""
    compared: str | None = None
    """The value on which it depends."""
    index: int | None = None
    """`modifiedIndex` of what was written or read; None if nothing was there."""
    etcd_index: int | None = None
    """`X-Etcd-Index` of the answer."""
    why: str | None = None
    """For every outcome but `ok`: the error."""
    details: Any = None
    """What only its workload understands."""
    status: int | None = None
    """Of HTTP; None without an answer."""
    error_code: int | None = None
    """etcd's, of an answer that is an error."""

    @property
    def is_broken(self) -> bool:
        """A failure that is none of etcd's: only 500 with errorCode 300 says that a fault came in between."""
        return self.status is not None and self.status >= 500 and (self.status, self.error_code) != (500, 300)


def write(path: Path, records: Iterator[Record] | list[Record]) -> None:
    """Append records to a file."""
    with path.open("a") as lines:
        for record in records:
            lines.write(json.dumps(dataclasses.asdict(record)) + "\n")


def read(directory: Path) -> list[Record]:
    """All records of a run, by start."""
    records = [
        Record(**json.loads(line))
        for path in sorted(directory.glob("operations-*.jsonl"))
        for line in path.read_text().splitlines()
    ]
    return sorted(records, key=lambda record: record.start)


def read_all(directory: Path) -> list[Record]:
    """All records of a run, also those of the clients of the kill rounds, who tell less; by start."""
    told = ("client", "action", "key", "value", "start", "end", "outcome")
    others = [
        Record(member="any", **{name: line[name] for name in told})
        for path in sorted(directory.glob("history-*.jsonl"))
        for line in map(json.loads, path.read_text().splitlines())
    ]
    return sorted(read(directory) + others, key=lambda record: record.start)


@final
@dataclasses.dataclass(slots=True)
class Fault:
    """One fault of a run, for the timeline."""

    kind: str
    what: str
    start: int
    end: int


def read_faults(directory: Path) -> list[Fault]:
    """The faults of a run in order of time."""
    path = directory / "faults.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return sorted((Fault(**json.loads(line)) for line in lines), key=lambda fault: fault.start)
