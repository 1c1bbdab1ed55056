"""Recorded traffic of flannel, kube-apiserver and etcdctl, replayed against three kvraft members and the real etcd."""

from dataclasses import replace
from typing import Final

import pytest

from tests.conformance import recordings, systems
from tests.conformance.long_runs import LongRuns
from tests.conformance.replay import replayed

pytestmark = pytest.mark.slow

WORDS_SHOWN: Final = 10


@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", recordings.NAMES)
def test_three_members_answer_recorded_traffic_as_etcd_does(
    name: str, under_way: LongRuns, capsys: pytest.CaptureFixture[str]
) -> None:
    """Through members in turn: etcd's answers and events in the same run, and equal trees on every member after."""
    outcome = under_way.replays[name].result()[name]
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
