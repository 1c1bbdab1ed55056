"""Recorded traffic of flannel, kube-apiserver and etcdctl, replayed against three kvraft members and the real etcd."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.conformance import recordings, systems
from tests.conformance.replay import replayed
from tests.conformance.systems import System

pytestmark = pytest.mark.slow

WORDS_SHOWN = 10


@pytest.fixture(scope="module")
def oracle() -> Iterator[System]:
    """An etcd of one member, as the recordings were made with."""
    with systems.etcd() as system:
        yield system


@pytest.fixture(scope="module")
def three() -> Iterator[System]:
    """Three members that only recordings are replayed on."""
    with systems.subject(3) as system:
        yield system


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", recordings.NAMES)
def test_three_members_answer_recorded_traffic_as_etcd_does(
    name: str, oracle: System, three: System, capsys: pytest.CaptureFixture[str]
) -> None:
    """Through members in turn: etcd's answers and events in the same run, and equal trees on every member after."""

    def report(line: str) -> None:
        with capsys.disabled():
            print(f"\n{name}: {line}")

    found = replayed(recordings.plan(recordings.load(name)), oracle, three, report)
    assert not found, "\n".join(found[:WORDS_SHOWN])


def test_an_answer_unlike_the_recorded_one_is_found(oracle: System, three: System) -> None:
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
    found = replayed(recordings.plan(exchanges), oracle, three, lambda line: None)
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
