"""Findings of the tools, and the reasons why some of them stay: a finding without a reason is a problem."""

import datetime as dt
import fnmatch
import pathlib
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, final

FILE: Final = pathlib.Path(__file__).with_name("reasons.toml")
LOOKED_AT_WITHIN_DAYS: Final = 365
"""A reason that is older has to be looked at again: what was true of the code then may not be now."""


@final
@dataclass(frozen=True, slots=True)
class Finding:
    """What a tool found."""

    tool: str
    kind: str
    """The tool's own name for it: `B603`, `PYSEC-2026-1`."""
    place: str
    """The file, or `package==version`."""
    says: str
    line: int = 0


@final
@dataclass(frozen=True, slots=True)
class Reason:
    """Why findings stay. `place` may be a pattern: `kvraft/*`."""

    tool: str
    kind: str
    place: str
    date: dt.date
    reason: str

    def is_for(self, finding: Finding) -> bool:
        """Whether it speaks of this finding."""
        return (self.tool, self.kind) == (finding.tool, finding.kind) and fnmatch.fnmatchcase(finding.place, self.place)


class ReasonsError(Exception):
    """The file of reasons says something that is no dated reason."""


def read(path: pathlib.Path = FILE) -> list[Reason]:
    """The reasons of the file.

    Raises:
        ReasonsError: a field is missing or of another type; in one line.
    """
    try:
        tables = tomllib.loads(path.read_text()).get("reason", [])
    except tomllib.TOMLDecodeError as error:
        raise ReasonsError(f"{path.name}: {error}") from error
    return [_reason(path.name, number, table) for number, table in enumerate(tables, 1)]


def _reason(name: str, number: int, table: Mapping[str, object]) -> Reason:
    said = {field: table.get(field) for field in ("tool", "kind", "place", "reason")}
    texts = {field: value for field, value in said.items() if isinstance(value, str) and value.strip()}
    date = table.get("date")
    missing = sorted(said.keys() - texts.keys())
    if missing or not isinstance(date, dt.date):
        raise ReasonsError(f"{name}: reason {number} needs {' and '.join([*missing] or ['a date'])}")
    return Reason(**texts, date=date)


def problems(findings: Sequence[Finding], reasons: Sequence[Reason], today: dt.date) -> list[str]:
    """What has to be done, one line each: findings without a reason, reasons without a finding, and old ones."""
    lines = [
        f"{finding.place}:{finding.line}: {finding.tool} {finding.kind}: {finding.says}"
        for finding in findings
        if not any(reason.is_for(finding) for reason in reasons)
    ]
    for reason in reasons:
        about = f"reasons.toml: {reason.tool} {reason.kind} {reason.place}"
        if not any(reason.is_for(finding) for finding in findings):
            lines.append(f"{about}: nothing is found there any more: take it out")
        if not 0 <= (today - reason.date).days <= LOOKED_AT_WITHIN_DAYS:
            lines.append(f"{about}: of {reason.date}: look at it again, and date it {today}")
    return lines
