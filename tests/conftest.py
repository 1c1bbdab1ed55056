"""What every test has: the cluster fixtures, hypothesis without deadlines, and the time of each tier at the end."""

import gc
import pathlib
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Final

import hypothesis
import pytest

import kvraft
from kvraft.start import versions
from tests import tried
from tests.simulation.background import begin_campaign, waits_for_campaign

pytest_plugins = ["kvraft.testing.plugin"]

# Two cores are shared by members, servers and tests: a slow example says nothing.
hypothesis.settings.register_profile("kvraft", deadline=None, print_blob=True)
hypothesis.settings.load_profile("kvraft")

_ENDING: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)

TIER_OF_PATH: Final = {
    "tests/cluster": "cluster",
    "tests/conformance": "conformance",
    "tests/jepsen_like": "cluster",
    "tests/member/test_schedules.py": "simulation",
    "tests/simulation": "simulation",
}
"""Whatever is in none of these is a unit test."""
BUDGET_S: Final = {"unit": 380, "conformance": 400, "cluster": 600, "simulation": 200, "landing": 1500}
"""Seconds of tests, of which two processes on 2 cores share all but what only `make conformance` runs: that stays
under 15 minutes. docs/testing.md shows the same table."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """What `make torture` sets for the tests marked so."""
    parser.addoption("--torture-seed", type=int, default=1, help="of the tests marked torture")
    parser.addoption("--torture-scale", type=float, default=1.0, help="how much they try; 1 takes about 15 minutes")


def pytest_configure() -> None:
    """No compiled file may be older than what it was made of, and Ctrl-C must end what is started here.

    A shell that runs us in the background ignores it, which every process under test would inherit.
    """
    package = pathlib.Path(kvraft.__file__).parent
    for group in package.parent.glob("kvraft__mypyc*.so"):
        for compiled in package.rglob("*.so"):
            source = compiled.with_name(f"{compiled.name.partition('.')[0]}.py")
            if source.stat().st_mtime > group.stat().st_mtime:
                pytest.exit(
                    f"{source} was changed since it was compiled: `make compiled`, or `make pure`", returncode=3
                )
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _signals_stay_as_they_are() -> Iterator[None]:
    """A program that was called within a test has left no handler behind: the tests after it start processes, too."""
    before = {number: signal.getsignal(number) for number in _ENDING}
    yield
    assert {number: signal.getsignal(number) for number in _ENDING} == before


@pytest.fixture
def torture_seed(pytestconfig: pytest.Config) -> int:
    """What the random choices of a test marked torture follow from; printed if it fails."""
    seed: int = pytestconfig.getoption("--torture-seed")
    print(f"--torture-seed={seed}")
    return seed


@pytest.fixture
def scaled(pytestconfig: pytest.Config, record_property: Callable[[str, object], None]) -> Callable[[int, str], int]:
    """`scaled(3000, "flipped bits")`: how many of them a test marked torture shall try, at least one."""
    scale: float = pytestconfig.getoption("--torture-scale")

    def scaled(usual: int, what: str) -> int:
        count = max(1, round(usual * scale))
        record_property(what, count)
        return count

    return scaled


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The unit tests come first, those of the cluster tier last; the rest runs beside what takes long.

    Where two processes share the tests, one has the cluster tier and one the conformance tier: whole, as their servers
    live as long as a tier, and never two clusters under faults at once.
    """
    if versions.form() == "compiled":
        pure = [item for item in items if item.get_closest_marker("pure")]
        config.hook.pytest_deselected(items=pure)
        items[:] = [item for item in items if not item.get_closest_marker("pure")]

    def place(item: pytest.Item) -> int:
        tier = tier_of(item.nodeid)
        waits = waits_for_campaign(item) or (isinstance(item, pytest.Function) and "under_way" in item.fixturenames)
        return 0 if tier == "unit" else 3 if tier == "cluster" else 1 + waits

    items.sort(key=place)
    for item in items:
        if tier_of(item.nodeid) in {"conformance", "cluster"}:
            item.add_marker(pytest.mark.xdist_group(tier_of(item.nodeid)))


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Begin the campaign before the first test that is no unit test."""
    if tier_of(item.nodeid) != "unit":
        begin_campaign(item.session)


def pytest_collection_finish() -> None:
    """Thousands of tests live as long as the run: no full collection of garbage has to visit them again."""
    gc.collect()
    gc.freeze()


def tier_of(node_id: str) -> str:
    """The tier of a test, by where it is."""
    file = pathlib.PurePath(node_id.partition("::")[0])
    return next((tier for path, tier in TIER_OF_PATH.items() if file.is_relative_to(path)), "unit")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what each tier took beside its budget."""
    seconds = dict.fromkeys(BUDGET_S, 0.0)
    tests = dict.fromkeys(BUDGET_S, 0)
    counts: Counter[str] = Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport) and "torture" not in report.keywords:
                tier = "landing" if "landing" in report.keywords else tier_of(report.nodeid)
                seconds[tier] += report.duration
                tests[tier] += report.when == "call"
            if isinstance(report, pytest.TestReport) and report.when == "call":
                counts.update({what: count for what, count in report.user_properties if isinstance(count, int)})
    terminalreporter.section("tiers")
    for tier, budget in BUDGET_S.items():
        if tests[tier]:
            over = "  OVER BUDGET" if seconds[tier] > budget else ""
            terminalreporter.line(f"{tier:<12}{tests[tier]:>6} tests {seconds[tier]:>7.1f} s of {budget} s{over}")
    if counts:
        terminalreporter.line(tried.line(counts))
