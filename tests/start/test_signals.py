"""Signals that nobody means for a member leave it alone, as they leave etcd; each beside etcd."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from kvraft.testing.cluster import Cluster, Kind

HARMLESS = (
    signal.SIGPIPE,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGALRM,
    signal.SIGVTALRM,
    signal.SIGPROF,
    signal.SIGIO,
    signal.SIGXCPU,
    signal.SIGWINCH,
)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "harmless"), [("etcd", HARMLESS), ("kvraft", (signal.SIGHUP, *HARMLESS))])
def test_member_serves_on_after_signals_that_are_not_meant_for_it(
    tmp_path: Path, kind: Kind, harmless: tuple[signal.Signals, ...]
) -> None:
    """SIGHUP ends etcd and not kvraft: a terminal closes, or logrotate sends it."""
    with Cluster(tmp_path / "cluster", size=1, kind=kind) as cluster:
        (member,) = cluster.members
        for number in harmless:
            member.signal(number)
            assert member.http("GET", "/health").status == 200, number.name
        assert member.is_running
        member.signal(signal.SIGQUIT)
        assert member.wait_exit() == (2 if kind == "etcd" else -signal.SIGQUIT)
        assert ("goroutine " if kind == "etcd" else "Current thread ") in member.log_text()


STARTING = """
import signal, sys
from kvraft.__main__ import main
from kvraft import __main__
import kvraft.start.signals as signals
whole = signals.prepare
def prepare():
    whole()
    for number in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):
        signal.raise_signal(number)
    print("alive", flush=True)
signals.prepare = prepare
sys.argv = ["kvraft", "--version"]
sys.exit(main())
"""


def test_signals_do_not_end_a_start_before_its_loop_runs() -> None:
    """From before the first import that takes a moment."""
    ended = subprocess.run([sys.executable, "-c", STARTING], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout.splitlines()[0]) == (0, "alive"), ended.stderr


def test_signals_are_prepared_without_slow_imports() -> None:
    """What comes before everything else must be there at once."""
    script = "import sys; from kvraft.start import signals; print('asyncio' in sys.modules, 'logging' in sys.modules)"
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert shown.stdout.split() == ["False", "False"]
