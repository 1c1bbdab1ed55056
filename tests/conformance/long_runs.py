"""The two longest parts of the conformance tests, at the same time: both mostly wait for disks and for leases."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, final

from tests.conformance import recordings, systems
from tests.conformance.differential.campaign import Finding, run_campaign
from tests.conformance.differential.coverage import Coverage
from tests.conformance.differential.pair import pair
from tests.conformance.replay import replayed

SEED: Final = 20_260_1121
"""Of the generated requests."""
GROUPS: Final = (("kube-apiserver-1.2.4",), ("flannel-0.7.1", "flannel-0.7.1-renewals", "etcdctl-3.4.23"))
"""Recordings, each group on servers of its own: the second one mostly waits for leases to run out."""


@final
@dataclass(frozen=True, slots=True)
class Part:
    """A part of the generated requests, with servers of its own."""

    members: int
    first: int
    """Number of its first sequence; the parts' sequences are others."""
    requests: int


PARTS: Final = (Part(1, 0, 6000), Part(1, 50_000, 6000), Part(3, 100_000, 8000))


@final
@dataclass(frozen=True, slots=True)
class Replayed:
    """What came of one recording."""

    summary: str
    differences: list[str]


@final
@dataclass(frozen=True, slots=True)
class LongRuns:
    """What is under way."""

    replays: Mapping[str, Future[dict[str, Replayed]]]
    """By recording."""
    parts: Sequence[Future[tuple[Finding | None, Coverage]]]
    """Of the generated requests."""


@contextmanager
def long_runs(*, replays: bool, generated: bool) -> Iterator[LongRuns]:
    """Begin all that is wanted. It ends with what has begun: threads cannot be stopped."""
    with ThreadPoolExecutor(len(GROUPS) + len(PARTS)) as pool:
        groups = [(pool.submit(_replay_group, names), names) for names in GROUPS] if replays else []
        parts = [pool.submit(_run_part, part) for part in PARTS] if generated else []
        yield LongRuns({name: future for future, names in groups for name in names}, parts)


def _replay_group(names: Sequence[str]) -> dict[str, Replayed]:
    """Replay some recordings, one after the other, on a fresh etcd and three fresh members."""
    outcomes = {}
    with systems.etcd() as oracle, systems.subject(3) as three:
        for name in names:
            summaries: list[str] = []
            differences = replayed(recordings.plan(recordings.load(name)), oracle, three, summaries.append)
            outcomes[name] = Replayed(summaries[0], differences)
    return outcomes


def _run_part(part: Part) -> tuple[Finding | None, Coverage]:
    """Run one part on a fresh etcd and a fresh subject."""
    coverage = Coverage()
    with systems.etcd() as oracle, systems.subject(part.members) as subject, pair(oracle, subject) as servers:
        return run_campaign(servers, part.requests, SEED, coverage, first=part.first), coverage
