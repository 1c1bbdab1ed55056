"""Recorded traffic of flannel, kube-apiserver and etcdctl, replayed against three kvraft members and the real etcd."""

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Final, final

import pytest

from tests.conformance import recordings, systems
from tests.conformance.replay import replayed

pytestmark = pytest.mark.slow

WORDS_SHOWN: Final = 10
GROUPS: Final = (("kube-apiserver-1.2.4",), ("flannel-0.7.1", "flannel-0.7.1-renewals", "etcdctl-3.4.23"))
"""Replayed at the same time, each group on servers of its own: the second one mostly waits for leases to run out."""


@final
@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one replay."""

    summary: str
    differences: list[str]


def replay_group(names: Sequence[str]) -> dict[str, Outcome]:
    """Replay some recordings, one after the other, on a fresh etcd and three fresh members."""
    outcomes = {}
    with systems.etcd() as oracle, systems.subject(3) as three:
        for name in names:
            summaries: list[str] = []
            differences = replayed(recordings.plan(recordings.load(name)), oracle, three, summaries.append)
            outcomes[name] = Outcome(summaries[0], differences)
    return outcomes


@pytest.fixture(scope="module")
def replays() -> Iterator[Mapping[str, Future[dict[str, Outcome]]]]:
    """Every replay under way, by recording."""
    with ThreadPoolExecutor(len(GROUPS)) as pool:
        futures = [pool.submit(replay_group, names) for names in GROUPS]
        yield {name: future for names, future in zip(GROUPS, futures, strict=True) for name in names}


@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", recordings.NAMES)
def test_three_members_answer_recorded_traffic_as_etcd_does(
    name: str, replays: Mapping[str, Future[dict[str, Outcome]]], capsys: pytest.CaptureFixture[str]
) -> None:
    """Through members in turn: etcd's answers and events in the same run, and equal trees on every member after."""
    outcome = replays[name].result()[name]
    with capsys.disabled():
        print(f"\n{name}: {outcome.summary}")
    assert not outcome.differences, "\n".join(outcome.differences[:WORDS_SHOWN])


def test_an_answer_unlike_the_recorded_one_is_found() -> None:
    """A recorded value, header or event that is another than what comes is a difference, each once."""
    exchanges = recordings.load("flannel-0.7.1")
    header = ("X-Etcd-Index", "X-Other-Index")
    for position, (old, new) in {3: ("172.17.0.0", "172.18.0.0"), 6: ('"create"', '"set"')}.items():
        assert old in exchanges[position].body
        exchanges[position] = replace(exchanges[position], body=exchanges[position].body.replace(old, new))
    first = exchanges[0]
    exchanges[0] = replace(first, headers=tuple((name.replace(*header), value) for name, value in first.headers))
    event = next(number for number, exchange in enumerate(exchanges) if exchange.event_index)
    body = exchanges[event].body
    exchanges[event] = replace(exchanges[event], body=body.replace('"set"', '"update"'))
    with systems.etcd() as oracle, systems.subject() as subject:
        found = replayed(recordings.plan(exchanges), oracle, subject, lambda line: None)
    assert len(found) == 4, found
    assert all("not as recorded" in words for words in found)


@pytest.mark.parametrize("name", recordings.NAMES)
def test_a_plan_loses_nothing_of_its_recording(name: str) -> None:
    """Every exchange that was answered is in exactly one round, and rounds follow one another without a gap."""
    exchanges = recordings.load(name)
    plan = recordings.plan(exchanges)
    rounds = (plan.opening, *plan.rounds)
    planned = [each.change.seq for each in rounds if isinstance(each.change, recordings.Exchange)]
    planned += [exchange.seq for each in rounds for exchange in each.others]
    assert sorted(planned) == sorted(exchange.seq for exchange in exchanges if exchange.status is not None)
    assert [each.index for each in rounds] == list(range(plan.base, plan.base + len(rounds)))
