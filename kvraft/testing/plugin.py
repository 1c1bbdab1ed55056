"""pytest fixtures: clusters that are started for a test and killed after it, their logs in the report of a failure."""

import pathlib
import shutil
from collections.abc import Generator, Iterator
from typing import Final, final

import pytest

from kvraft.testing.cluster import MEMORY_DISKS, Cluster, Kind, Program, file_system_of


@final
class ClusterFactory:
    """Makes started clusters, each in its own directory on a real disk; all are killed when the test ends."""

    def __init__(self, directory: pathlib.Path) -> None:
        self._directory = directory
        self.clusters: list[Cluster] = []

    def __call__(
        self, kind: Kind = "kvraft", *, size: int = 3, program: Program | None = None, start: bool = True, **flags: str
    ) -> Cluster:
        """Make a cluster. Flags are given with underscores: `election_timeout="500"`."""
        cluster = Cluster(
            self._directory / f"cluster{len(self.clusters)}",
            size=size,
            program=program,
            kind=kind,
            flags={name.replace("_", "-"): value for name, value in flags.items()},
        )
        self.clusters.append(cluster)
        if start:
            cluster.start()
        return cluster

    def stop(self) -> None:
        """Kill everything."""
        for cluster in self.clusters:
            cluster.stop()


_FACTORIES: Final = pytest.StashKey[list[ClusterFactory]]()


def _real_disk(config: pytest.Config, temporary: pytest.TempPathFactory) -> pathlib.Path:
    """A new directory for data that must survive: pytest's own place, or below the project if that is memory."""
    directory = temporary.mktemp("disk")
    if file_system_of(directory) in MEMORY_DISKS:
        return config.rootpath / "build" / f"{directory.parent.name}-{directory.name}"
    return directory


@pytest.fixture(scope="session")
def session_clusters(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ClusterFactory]:
    """A factory whose clusters live as long as the test run; for oracles that many tests ask."""
    yield from _factory(request.config, tmp_path_factory)


@pytest.fixture
def clusters(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterFactory]:
    """A factory for clusters of one test."""
    yield from _factory(request.config, tmp_path_factory)


@pytest.fixture
def kvraft_cluster(clusters: ClusterFactory) -> Cluster:
    """Three started members of kvraft."""
    return clusters("kvraft")


@pytest.fixture
def kvraft_member(clusters: ClusterFactory) -> Cluster:
    """A started cluster of one kvraft member."""
    return clusters("kvraft", size=1)


@pytest.fixture
def etcd_cluster(clusters: ClusterFactory) -> Cluster:
    """Three started members of the real etcd."""
    return clusters("etcd")


@pytest.fixture
def etcd_member(clusters: ClusterFactory) -> Cluster:
    """A started cluster of one real etcd."""
    return clusters("etcd", size=1)


def _factory(config: pytest.Config, temporary: pytest.TempPathFactory) -> Iterator[ClusterFactory]:
    directory = _real_disk(config, temporary)
    factory = ClusterFactory(directory)
    live = config.stash.setdefault(_FACTORIES, [])
    live.append(factory)
    try:
        yield factory
    finally:
        live.remove(factory)
        factory.stop()
        shutil.rmtree(directory, ignore_errors=True)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Put the logs of every live member into the report of a test that fails."""
    report = yield
    if report.failed:
        for factory in item.config.stash.get(_FACTORIES, []):
            report.sections.extend(_log_sections(factory))
    return report


def _log_sections(factory: ClusterFactory) -> Iterator[tuple[str, str]]:
    for cluster in factory.clusters:
        for member in cluster.members:
            yield f"log of {cluster.kind} {member.name}, {member.client_url}", member.log_tail()
