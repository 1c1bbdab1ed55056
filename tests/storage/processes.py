"""Starting, killing and tracing `child.py`, and checking what it left behind."""

import contextlib
import random
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kvraft.storage.codec import position_of
from tests.storage.child import open_small
from tests.storage.support import entries_after

ROOT = Path(__file__).parents[2]
RUN_S = 60


@dataclass
class Outcome:
    """What a child has reported."""

    acknowledged: int = 0
    flushed: int = 0
    failures: list[str] = field(default_factory=list)
    late: list[int] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    lines: int = 0
    exit_code: int = 0

    def read(self, line: str) -> None:
        word, _, fact = line.rstrip("\n").partition(" ")
        self.lines += 1
        if word == "entry":
            self.acknowledged = int(fact)
        elif word == "state":
            self.flushed = int(fact)
        elif word == "failed":
            self.failures.append(fact)
        elif word == "late":
            self.late.append(int(fact))
        elif word == "refused":
            self.refusals.append(fact)
        else:
            assert word == "opened", line


@contextlib.contextmanager
def child(doing: str, path: Path, argument: object, *, trace: Sequence[str] = ()) -> Iterator[subprocess.Popen[str]]:
    """A running child; killed at the end if it still runs. `trace`: strace and its options, put in front."""
    command = [*trace, sys.executable, "-m", "tests.storage.child", doing, str(path), str(argument)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def run(doing: str, path: Path, argument: object, *, trace: Sequence[str] = ()) -> Outcome:
    """Run a child to its end, whatever that is."""
    outcome = Outcome()
    with child(doing, path, argument, trace=trace) as process:
        output, _ = process.communicate(timeout=RUN_S)
        for line in output.splitlines():
            outcome.read(line)
        outcome.exit_code = process.returncode
    return outcome


def run_and_kill(path: Path, seed: int) -> Outcome:
    """Let a child write, and kill it after a random number of reports."""
    outcome = Outcome()
    lines = random.Random(seed).randint(2, 120)
    with child("write", path, seed) as process:
        assert process.stdout is not None
        for line in process.stdout:
            outcome.read(line)
            if outcome.lines == lines:
                process.kill()
    return outcome


def check_left_behind(path: Path, outcome: Outcome) -> int:
    """Everything acknowledged is there, and what is there is what was written. Returns the last index."""
    storage = open_small(path)
    try:
        restored = storage.log.restored()
        assert restored.last.index >= outcome.acknowledged
        assert storage.state.position.index >= outcome.flushed
        assert restored.applied_index == storage.state.position.index
        entries = storage.log.slice(restored.base.index + 1, restored.last.index, 1 << 40)
        assert entries == entries_after(restored.base, len(entries), payload=b"p" * 200)
        assert (position_of(entries[-1]) if entries else restored.base) == restored.last
        image = storage.state.load()
        applied = b"%d" % restored.applied_index
        nodes, history = list(image.nodes), list(image.history)
        if restored.applied_index:
            assert image.meta == applied
            assert {record for _, record in nodes} == {applied}
            assert int.from_bytes(history[-1][0], "big") == restored.applied_index
        verified = storage.log.scrub(None, 1 << 30)
        assert verified is None or verified.index == restored.applied_index
        return restored.last.index
    finally:
        storage.close()
