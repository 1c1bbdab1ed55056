"""docs/security.md has a row for everything that is asked, and names tests that exist and are run."""

import re
from typing import Final

from tests import named_tests, torture

CHECKLIST: Final = (
    *("1a", "1b", "1c", "1d", "2a", "2b", "2c", "2d", "2e"),
    *(str(number) for number in range(3, 11)),
)
KNOWN: Final = (
    *("CVE-2018-1098", "CVE-2018-1099", "CVE-2018-16886", "CVE-2020-15106", "CVE-2020-15112", "CVE-2020-15113"),
    *("CVE-2020-15114", "CVE-2020-15115", "CVE-2020-15136", "TOB-009", "TOB-010", "TOB-011", "TOB-012", "TOB-013"),
    *("TOB-014", "TOB-015", "TOB-016"),
    *("TOB-017", "CVE-2021-28235", "ADA-03", "CVE-2023-44487", "CVE-2023-45288", "GHSA-6vch-q96h-7gc3"),
    *(
        "GHSA-3wh4-j44w-pg92",
        "CVE-2026-33413",
        "CVE-2026-33343",
        "CVE-2026-44283",
        "GHSA-xg4h-6gfc-h4m8",
        "#14571",
        "CVE-2017-5637",
    ),
    *("consul-scripts", "aiohttp"),
)
"""Findings of others, in the order of the page."""


def _rows() -> dict[str, str]:
    """From the id of each row to its last cell."""
    text = (named_tests.ROOT / "docs" / "security.md").read_text()
    rows = re.findall(r"^\| (\S+) \| [^|]+ \| ([^|]+) \|$", text, re.MULTILINE)
    table = {row: tests for row, tests in rows if row not in {"row", "id"}}
    assert len(table) == len(rows) - 2, "a row is there twice"
    return table


def test_every_row_is_there_and_names_tests_that_exist() -> None:
    """Or says why there is none."""
    assert tuple(_rows()) == (*CHECKLIST, *KNOWN)
    wrong = []
    for row, tests in _rows().items():
        names = named_tests.of(tests)
        if not names and not tests.startswith("not covered: "):
            wrong.append(f"{row} names no test")
        wrong += [] if tests.startswith("not covered: ") else [f"{row}: {name}" for name in named_tests.missing(names)]
    assert wrong == []


def test_every_test_is_run_by_a_target() -> None:
    """By `make test`, or by a part of `make torture`."""
    commands = [part.command(1, 60, named_tests.ROOT) for part in torture.all_parts()]
    names = [
        name for tests in _rows().values() if not tests.startswith("not covered: ") for name in named_tests.of(tests)
    ]
    assert named_tests.unreached(names, commands) == []


def test_tls_is_covered() -> None:
    """No row of it is left out."""
    assert [row for row, tests in _rows().items() if row[0] in "12" and tests.startswith("not covered: ")] == []
