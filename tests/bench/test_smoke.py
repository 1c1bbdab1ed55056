"""Every row of `make bench`, for a moment and with little in it, against both programs."""

import math
import pathlib
import shutil
from collections.abc import Iterator
from typing import Final

import pytest

from bench.growth import BY_KEYS, by_keys, by_members, by_watchers
from bench.measured import Measured
from bench.replicated_dict import AT_ONCE, of_pysyncobj
from bench.rows import BUILD, OnCluster, Row, Workload, result_of, show
from bench.scale import SCALE
from bench.table import WORKLOADS
from kvraft.testing.cluster import Cluster, Kind, Program

pytestmark = [pytest.mark.landing, pytest.mark.timeout(600)]
SECONDS: Final = 1
KINDS: Final[tuple[Kind, ...]] = ("etcd", "kvraft")
SHARED: Final = [workload for workload in WORKLOADS if isinstance(workload.measure, OnCluster)]
ALONE: Final = [workload for workload in WORKLOADS if not isinstance(workload.measure, OnCluster)]


def name_of(workload: Workload) -> str:
    return workload.rows[0].name


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Little of everything."""
    monkeypatch.setattr(SCALE, "is_smoke", True)


@pytest.fixture(scope="module")
def clusters(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[Kind, Cluster]]:
    """One of each, for all rows: starting them takes longer than trying a row."""
    directory = tmp_path_factory.mktemp("bench")
    with (
        Cluster(directory / "etcd", program=Program("etcd")) as etcd,
        Cluster(directory / "kvraft", program=Program()) as kvraft,
    ):
        yield {"etcd": etcd, "kvraft": kvraft}


@pytest.mark.parametrize("workload", SHARED, ids=name_of)
def test_row_on_a_cluster_of_three_gives_its_figures(workload: Workload, clusters: dict[Kind, Cluster]) -> None:
    """Each program's figures are there, and can be compared."""
    assert isinstance(workload.measure, OnCluster)
    run = workload.measure.run
    kinds = KINDS[1:] if workload.rows[0].is_alone else KINDS
    found = {kind: run(clusters[kind], SECONDS) for kind in kinds}
    for number, row in enumerate(workload.rows):
        compared(row, {kind: figures[number] for kind, figures in found.items()})
    assert all(len(figures) == len(workload.rows) for figures in found.values())


@pytest.mark.parametrize("workload", ALONE, ids=name_of)
def test_row_on_servers_of_its_own_gives_its_figures(workload: Workload) -> None:
    """As above."""
    labels = {kind: f"smoke-{kind}" for kind in KINDS}
    try:
        found = {kind: workload.measure(labels[kind], Program(kind), SECONDS) for kind in KINDS}
    finally:
        for label in labels.values():
            shutil.rmtree(BUILD / label, ignore_errors=True)
    for number, row in enumerate(workload.rows):
        compared(row, {kind: figures[number] for kind, figures in found.items()})


def compared(row: Row, found: dict[Kind, Measured]) -> None:
    """The figures are such that a ratio means something; percentages may be 0."""
    result = result_of(row, {kind: [measured] for kind, measured in found.items()})
    assert all(math.isfinite(value) and value >= 0 for value in result.medians.values()), result
    # A few operations may take less than a tick of the clock that counts CPU.
    assert all(cost >= 0 for cost in result.cpu_us.values()), result
    if not row.unit.startswith(("%", "us of CPU", "ms, the median")):
        assert min(result.medians.values()) > 0, result
    show(result)


@pytest.mark.parametrize("journal", [False, True], ids=["defaults", "journal"])
def test_pysyncobj_writes(journal: bool, tmp_path: pathlib.Path) -> None:
    """In both of its settings."""
    figures = of_pysyncobj(tmp_path, SECONDS, journal=journal)
    assert [figure.value > 0 for figure in figures] == [True] * len(AT_ONCE)
    assert len(list(tmp_path.glob("*.journal"))) == (3 if journal else 0)


def test_what_grows_gives_its_figures(tmp_path: pathlib.Path) -> None:
    """Once each, small."""
    assert len(by_keys(tmp_path / "keys", Program(), 1_000, SECONDS)) == len(BY_KEYS)
    (cost,) = by_watchers(tmp_path / "watchers", Program(), 10, SECONDS)
    (each,) = by_members(tmp_path / "members", Program(), 1, SECONDS)
    assert cost > 0
    assert each > 0
