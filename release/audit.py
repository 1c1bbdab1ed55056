"""Look for what is known to be wrong with kvraft and what it needs: `python -m release.audit`.

bandit reads kvraft's sources; pip-audit asks PyPI about every package that the wheel brings, at the version that is
pinned. Whatever they find fails, unless reasons.toml says with a date why it stays. Where PyPI's advisories cannot be
had, the last line says so: nothing was found then, because nothing was asked.
"""

import datetime as dt
import importlib.metadata
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from typing import Any, Final, final

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from kvraft import clock
from release.build import ROOT
from release.reasons import Finding, Reason, ReasonsError, problems, read

WITHIN_S: Final = 300


class AuditError(Exception):
    """A tool did not do its work; in one line."""


@final
@dataclass(frozen=True, slots=True)
class Advisories:
    """What is known of the packages; `missing` says why nothing is."""

    findings: list[Finding]
    missing: str = ""


def main() -> int:
    """Print what has to be done, one line each. The exit code: 1 if there is anything, 2 if a tool failed."""
    try:
        reasons = read()
        found, needed = bandit(), needed_packages()
        known = advisories(needed)
        lines = judged(found, known, reasons, today())
    except (AuditError, ReasonsError) as error:
        print(f"audit: {error}", file=sys.stderr)
        return 2
    for line in lines:
        print(line)
    asked = f"advisories NOT LOOKED UP: {known.missing}" if known.missing else f"{len(known.findings)} advisories"
    print(f"audit: {len(found)} findings of bandit, {len(needed)} packages, {asked}, {len(lines)} problems")
    return 1 if lines else 0


def today() -> dt.date:
    """The date, in UTC."""
    return dt.datetime.fromtimestamp(clock.wall_ns() // 10**9, dt.UTC).date()


def judged(found: list[Finding], known: Advisories, reasons: list[Reason], date: dt.date) -> list[str]:
    """The problems; reasons for advisories are let be where there are no advisories to compare them with."""
    asked = [reason for reason in reasons if not (known.missing and reason.tool == "pip-audit")]
    return problems([*found, *known.findings], asked, date)


def bandit() -> list[Finding]:
    """What it finds in kvraft.

    Raises:
        AuditError: it did not read every file.
    """
    done = _run("bandit", "-q", "-r", "kvraft", "-f", "json")
    report = _json("bandit", done)
    if report["errors"]:
        raise AuditError(f"bandit could not read {report['errors']}")
    return [
        Finding("bandit", said["test_id"], said["filename"], said["issue_text"], said["line_number"])
        for said in report["results"]
    ]


def needed_packages() -> dict[str, str]:
    """Every package that the wheel brings onto a machine like this one, with the version that is installed here."""
    versions: dict[str, str] = {}
    waiting = [Requirement("kvraft")]
    while waiting:
        wanted = waiting.pop()
        distribution = importlib.metadata.distribution(wanted.name)
        name = canonicalize_name(wanted.name)
        if name in versions:
            continue
        versions[name] = distribution.version
        extras = [{"extra": extra} for extra in wanted.extras or [""]]
        further = [Requirement(line) for line in distribution.requires or []]
        waiting += [each for each in further if each.marker is None or any(map(each.marker.evaluate, extras))]
    del versions["kvraft"]
    return dict(sorted(versions.items()))


def advisories(packages: dict[str, str]) -> Advisories:
    """What PyPI knows of these.

    Raises:
        AuditError: pip-audit failed in another way than for want of an answer.
    """
    with tempfile.NamedTemporaryFile("w", suffix=".txt", prefix="kvraft-audit-") as wanted:
        wanted.writelines(f"{name}=={version}\n" for name, version in packages.items())
        wanted.flush()
        done = _run(
            "pip_audit", "-r", wanted.name, "--no-deps", "--disable-pip", "-f", "json", "--progress-spinner=off"
        )
    if not done.stdout.strip():
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        if "ConnectionError" in last or "Timeout" in last or "ServiceError" in last:
            return Advisories([], f"PyPI does not answer ({last[:200]})")
        raise AuditError(f"pip-audit ended with {done.returncode}: {last}")
    return advisories_in(_json("pip-audit", done))


def advisories_in(report: dict[str, Any]) -> Advisories:
    """What is in a report of pip-audit. It calls what it has no answer for skipped, and the whole without findings."""
    said = report["dependencies"]
    skipped = [package for package in said if "skip_reason" in package]
    if len(skipped) == len(said):
        return Advisories(
            [], f"PyPI gives no advisories here ({skipped[0]['skip_reason'] if skipped else 'no answer'})"
        )
    findings = [
        Finding("pip-audit", known["id"], f"{package['name']}=={package['version']}", _remedy(known))
        for package in said
        for known in package.get("vulns", [])
    ]
    unanswered = [Finding("pip-audit", "skipped", each["name"], each["skip_reason"]) for each in skipped]
    return Advisories([*findings, *unanswered])


def _remedy(known: dict[str, Any]) -> str:
    fixed = known.get("fix_versions")
    return f"fixed in {', '.join(fixed)}: raise it in constraints.txt" if fixed else "not fixed in any version yet"


def _run(module: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", module, *words], cwd=ROOT, capture_output=True, text=True, timeout=WITHIN_S, check=False
    )


def _json(tool: str, done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    try:
        report: dict[str, Any] = json.loads(done.stdout)
    except ValueError as error:
        said = (done.stderr or done.stdout).strip().splitlines() or ["nothing"]
        raise AuditError(f"{tool} ended with {done.returncode} and said: {said[-1]}") from error
    return report


if __name__ == "__main__":
    sys.exit(main())
