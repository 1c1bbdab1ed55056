"""The audit: a finding without a dated reason fails, and so does a reason that has outlived its finding."""

import datetime as dt
from pathlib import Path
from typing import Any, Final

import pytest

from release import audit, reasons
from release.reasons import Finding, Reason

TODAY: Final = dt.date(2026, 11, 29)
FOUND: Final = Finding("bandit", "B603", "kvraft/testing/leash.py", "subprocess call", 61)
STAYS: Final = Reason("bandit", "B603", "kvraft/testing/*", TODAY, "for tests")


def advisory(name: str, *ids: str, fixed: tuple[str, ...] = ()) -> dict[str, Any]:
    """What pip-audit says of a package."""
    return {"name": name, "version": "1.0", "vulns": [{"id": each, "fix_versions": list(fixed)} for each in ids]}


def test_a_finding_without_a_reason_is_a_problem() -> None:
    """Named with its place; a reason for another kind, tool or place is none."""
    others = [
        Reason("pip-audit", "B603", "*", TODAY, "other tool"),
        Reason("bandit", "B602", "*", TODAY, "other kind"),
        Reason("bandit", "B603", "kvraft/start/*", TODAY, "elsewhere"),
    ]
    assert reasons.problems([FOUND], [STAYS], TODAY) == []
    for other in others:
        assert "kvraft/testing/leash.py:61: bandit B603: subprocess call" in reasons.problems([FOUND], [other], TODAY)


def test_a_reason_ends_with_its_finding_and_with_its_year() -> None:
    """So that the file says what is true."""
    assert reasons.problems([], [STAYS], TODAY) == [
        "reasons.toml: bandit B603 kvraft/testing/*: nothing is found there any more: take it out"
    ]
    for days in (-1, 366):
        [line] = reasons.problems([FOUND], [STAYS], TODAY + dt.timedelta(days))
        assert line.startswith("reasons.toml: bandit B603 kvraft/testing/*: of 2026-11-29: look at it again")
    assert reasons.problems([FOUND], [STAYS], TODAY + dt.timedelta(365)) == []


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('[[reason]]\ntool="bandit"\nkind="B1"\nplace="x"\nreason="y"', "reason 1 needs a date"),
        ('[[reason]]\ntool="bandit"\nplace="x"\nreason=" "\ndate=2026-11-29', "reason 1 needs kind and reason"),
        ('[[reason]]\ntool="bandit"\nkind="B1"\nplace="x"\nreason="y"\ndate="soon"', "reason 1 needs a date"),
        ("[[reason", "Expected"),
    ],
)
def test_what_is_no_dated_reason_is_one_line(tmp_path: Path, text: str, line: str) -> None:
    """It is a failure of the audit, not a reason."""
    path = tmp_path / "reasons.toml"
    path.write_text(text)
    with pytest.raises(reasons.ReasonsError, match=line):
        reasons.read(path)


def test_advisories_are_findings_with_their_remedy() -> None:
    """A package that was skipped among others is one, too: nobody knows about it."""
    skipped = {"name": "c", "skip_reason": "not found"}
    known = audit.advisories_in(
        {"dependencies": [advisory("a", "PYSEC-1", fixed=("1.1",)), advisory("b"), advisory("d", "GHSA-2"), skipped]}
    )
    assert known.missing == ""
    assert known.findings == [
        Finding("pip-audit", "PYSEC-1", "a==1.0", "fixed in 1.1: raise it in constraints.txt"),
        Finding("pip-audit", "GHSA-2", "d==1.0", "not fixed in any version yet"),
        Finding("pip-audit", "skipped", "c", "not found"),
    ]


def test_no_answer_at_all_is_said_and_nothing_is_called_clean() -> None:
    """pip-audit itself says "No known vulnerabilities found" there; reasons for advisories wait for another day."""
    known = audit.advisories_in({"dependencies": [{"name": "a", "skip_reason": "not found on PyPI"}]})
    assert known.missing == "PyPI gives no advisories here (not found on PyPI)"
    for_advisory = Reason("pip-audit", "PYSEC-1", "a==1.0", TODAY, "not used")
    assert audit.judged([FOUND], known, [STAYS, for_advisory], TODAY) == []
    answered = audit.Advisories([])
    assert len(audit.judged([FOUND], answered, [STAYS, for_advisory], TODAY)) == 1


def test_what_the_wheel_needs_is_known_with_what_that_needs() -> None:
    """And none of the tools that only we need."""
    needed = audit.needed_packages()
    assert {"aiohttp", "yarl", "bcrypt", "cryptography", "cffi"} <= needed.keys()
    assert needed.keys() & {"kvraft", "pytest", "ruff", "bandit", "requests"} == set()


@pytest.mark.landing
def test_bandit_finds_nothing_without_a_reason() -> None:
    """In kvraft as it is."""
    found = audit.bandit()
    assert len(found) > 100, "it has looked"
    known = audit.Advisories([], missing="not asked here")
    assert audit.judged(found, known, reasons.read(), audit.today()) == []
