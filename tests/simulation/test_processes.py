"""Calls on all cores: their results, what they raise, and that nothing of them is left."""

import itertools
import multiprocessing
import operator
import os
import signal
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing

import pytest

from tests.simulation.processes import in_processes


def test_every_call_is_made_once() -> None:
    """In whatever order they end."""
    assert sorted(in_processes(operator.add, zip(range(9), range(9), strict=True), 2)) == list(range(0, 18, 2))
    assert multiprocessing.active_children() == []


def test_calls_may_be_infinitely_many() -> None:
    """They are drawn as they are needed, and whoever has seen enough leaves no process behind."""
    with closing(in_processes(abs, zip(itertools.count()), 1)) as results:
        assert len(set(itertools.islice(results, 5))) == 5
    assert multiprocessing.active_children() == []


def test_what_a_call_raises_is_raised() -> None:
    """By the iterator, which has ended then."""
    with pytest.raises(ZeroDivisionError):
        list(in_processes(operator.truediv, [(1, 0)], 1))
    assert multiprocessing.active_children() == []


def test_a_process_that_is_killed_is_told_of() -> None:
    """Nobody waits for what it will never say."""
    with pytest.raises(BrokenProcessPool):
        list(in_processes(os._exit, [(9,), (9,)], 1))
    assert multiprocessing.active_children() == []


def test_processes_end_where_sigterm_is_ignored() -> None:
    """They inherit that from whoever starts the tests."""
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        assert sorted(in_processes(abs, zip(range(-4, 0)), 2)) == [1, 2, 3, 4]
    finally:
        signal.signal(signal.SIGTERM, before)
    assert multiprocessing.active_children() == []
