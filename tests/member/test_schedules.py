"""Three real members under random schedules; see `schedules.py` for what happens and what is compared."""

import pathlib
from collections import Counter

import pytest

from kvraft.member.waiters import Waiters
from tests.member import schedules
from tests.member.schedules import ScheduleError, run_seeds
from tests.member.session_schedules import SessionSchedule

SEEDS_A_TEST = 12


@pytest.mark.slow
@pytest.mark.parametrize("first", range(1, 37, SEEDS_A_TEST))
def test_what_clients_were_told_is_what_every_member_has(first: int, tmp_path: pathlib.Path) -> None:
    """An acknowledged write is in every member exactly once, an unknown one at most once; reads never go back.

    Nothing is worth much that did not happen: every kind of fault and of answer has to occur.
    """
    tally = run_seeds(range(first, first + SEEDS_A_TEST), tmp_path)
    print(dict(sorted(tally.items())))
    for happened in ("crash", "stop leader", "isolate", "snapshots installed", "reads", "writes unknown"):
        assert tally[happened] > 0, happened
    assert tally["writes acknowledged"] > SEEDS_A_TEST * 50


@pytest.mark.slow
def test_every_write_has_an_answer_however_often_sessions_break(tmp_path: pathlib.Path) -> None:
    """What was on its way to the leader is sent again if it was lost, and never if it was not."""
    tally = run_seeds(range(1, 1 + SEEDS_A_TEST), tmp_path, SessionSchedule)
    print(dict(sorted(tally.items())))
    assert tally["reset"] > 0
    assert tally["writes acknowledged"] > SEEDS_A_TEST * 50


def test_a_seed_gives_the_same_run_again(tmp_path: pathlib.Path) -> None:
    """What a seed has found once it finds again."""
    runs: list[Counter[str]] = [run_seeds(range(7, 8), tmp_path / name) for name in ("once", "again")]
    assert runs[0] == runs[1]


@pytest.mark.pure
@pytest.mark.slow
def test_a_command_that_is_sent_twice_is_found(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The schedules see the bug that they were written for: a late refusal taken for the one of the present attempt."""

    def heed_every_refusal(waiters: Waiters, request_id: bytes, reason: str, _term: int, _epoch: int) -> None:
        waiters.refused(waiters._counter_of(request_id), reason)

    monkeypatch.setattr(Waiters, "forward_refused", heed_every_refusal)
    # What brings refusals late, and nothing else: one seed in six finds it, where one in a hundred does otherwise.
    monkeypatch.setattr(schedules.Schedule, "faults", ("transfer", "transfer", "slow links", "heal"))
    with pytest.raises(ScheduleError, match="was applied 2 times"):
        run_seeds(range(10, 60), tmp_path)
