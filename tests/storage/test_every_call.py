"""Every storage call of a scripted workload, one after the other: killed there, or failed there."""

import asyncio
import collections
import contextlib
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from kvraft.storage.codec import position_of
from tests.storage.child import FAILED_EXIT
from tests.storage.processes import ROOT, Outcome, check_left_behind
from tests.storage.script import CALLS, COMMITS, HIT_AT, REFUSED_EXIT, THREADS, Record
from tests.storage.support import ORIGIN, LmdbHarness, batch, changes, entries_after

pytestmark = pytest.mark.slow

FAULTS: Final = {"killed": "signal=KILL", "EIO": "error=EIO", "ENOSPC": "error=ENOSPC"}
SNAPSHOT_INDEX: Final = 1000
ANSWER_S: Final = 60.0
EARLY: Final = 12
TRIES: Final = 5
"""A commit that finds the log thread at work is left to it, so a busy machine moves some calls from one thread to the
other, and the last ones of a thread need not come in every run."""

Point = tuple[str, str, int]
"""Call, thread, and which of its calls."""


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A snapshot far ahead of anything that the script writes."""
    path = tmp_path_factory.mktemp("leader") / "n2.kvraft"

    async def write() -> Path:
        harness = LmdbHarness(path)
        harness.start()
        entries = entries_after(ORIGIN, SNAPSHOT_INDEX, payload=b"p" * 200)
        await harness.persist(batch(1, entries))
        index = b"%d" % SNAPSHOT_INDEX
        nodes = dict.fromkeys(range(1, 20), index)
        await harness.flush(position_of(entries[-1]), changes(nodes, {SNAPSHOT_INDEX: b"event"}, meta=index))
        spooled = await harness.snapshot()
        harness.storage.close()
        return Path(spooled.path)

    return asyncio.run(write())


@dataclass
class Server:
    """The process under strace that plays the script again and again."""

    process: subprocess.Popen[str]
    record: Record

    def play(self, path: Path, thread: str, number: int) -> int:
        """Play it with the fault at that call; the exit code."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{path} {thread} {number}\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        assert answer, "the process that forks has died"
        self.record.look()
        return int(answer)


@contextlib.contextmanager
def serving(directory: Path, snapshot: Path, call: str, *trace: str) -> Iterator[Server]:
    """Strace with these options, and the script under it."""
    directory.mkdir(exist_ok=True)
    memory = directory / "record"
    memory.write_bytes(bytes(64))
    words = ["-m", "tests.storage.script", str(memory), str(snapshot), call]
    command = ["strace", "-f", "-qq", *trace, sys.executable, *words]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield Server(process, Record(memory))
        finally:
            if process.stdin is not None:
                process.stdin.close()
            process.wait(ANSWER_S)


@pytest.fixture(scope="module")
def points(tmp_path_factory: pytest.TempPathFactory, snapshot: Path) -> list[Point]:
    """Every storage call of an undisturbed run: creation, 220 commits, flushes, compactions, a snapshot out and in."""
    directory = tmp_path_factory.mktemp("undisturbed")
    trace = directory / "trace"
    with serving(directory, snapshot, CALLS[0], "-o", str(trace), "-e", f"trace={','.join(CALLS)}") as server:
        assert server.play(directory / "n1.kvraft", "nobody", 0) == 0
    assert server.record.commits >= COMMITS
    assert server.record.acknowledged > SNAPSHOT_INDEX
    numbers = dict(zip(map(str, server.record.threads), THREADS, strict=True))
    found: collections.Counter[tuple[str, str]] = collections.Counter()
    for line in trace.read_text().splitlines():
        thread, _, rest = line.partition(" ")
        call, opened, _ = rest.strip().partition("(")
        if thread in numbers and opened:
            found[call, numbers[thread]] += 1
    return [(call, thread, number) for (call, thread), count in sorted(found.items()) for number in range(1, count + 1)]


def strike(points: list[Point], fault: str, snapshot: Path, directory: Path) -> collections.Counter[str]:
    """Play the script once for each point; what became of the points. Fails with all that was found at any of them."""
    became: collections.Counter[str] = collections.Counter()
    problems: list[str] = []
    by_call: dict[str, list[Point]] = {}
    for point in points:
        by_call.setdefault(point[0], []).append(point)
    for call, chosen in by_call.items():
        trace = directory / f"{call}.trace"
        options = ["-o", str(trace), "-e", f"trace={call}", "-e", f"inject={call}:{FAULTS[fault]}:when={HIT_AT}"]
        if fault != "killed":
            options.append("--seccomp-bpf")  # stops at these calls only; with it strace cannot send a signal
        with serving(directory / call, snapshot, call, *options) as server:
            for _, thread, number in chosen:
                path = directory / call / f"{thread}-{number}"
                try:
                    code = server.play(path, thread, number)
                    for _ in range(TRIES - 1):
                        if code or "(INJECTED)" in trace.read_text():
                            break
                        shutil.rmtree(path)
                        code = server.play(path, thread, number)
                    struck = code != 0 or "(INJECTED)" in trace.read_text()
                    became[_judge(code, fault, call, server.record) if struck else "not reached"] += 1
                    os.truncate(trace, 0)
                    outcome = Outcome(acknowledged=server.record.acknowledged, flushed=server.record.flushed)
                    check_left_behind(path, outcome)
                except Exception as error:  # noqa: BLE001 -- whatever it is, it is what this test is for
                    problems.append(f"{fault} at {call} {number} of {thread}: {error!r}")
                shutil.rmtree(path)
    assert problems == []
    return became


def _judge(code: int, fault: str, call: str, record: Record) -> str:
    if fault == "killed":
        assert code == -9, f"exit code {code}"
        return "killed"
    if code == 0 and call == "mkdir":
        return "harmless"  # the directory was there already, which is all that was asked for
    if code == 0 and call == "fallocate" and fault == "ENOSPC":
        return "harmless"  # free pages stay as they are
    assert code in {FAILED_EXIT, REFUSED_EXIT}, f"exit code {code}"
    assert record.late == 0, f"{record.late} acknowledgements after the failure"
    if code == FAILED_EXIT:
        assert record.failures == 1, f"{record.failures} failures told"
        return "stopped"
    return "refused"


@pytest.mark.parametrize("fault", sorted(FAULTS))
def test_fault_at_some_calls_loses_nothing_acknowledged(
    points: list[Point], fault: str, snapshot: Path, tmp_path: Path
) -> None:
    """Early in the run, where it is quick; `-m torture` has all of them."""
    chance = random.Random(f"{fault}/20261121")
    chosen = [
        chance.choice([point for point in points if point[:2] == (call, thread) and point[2] <= EARLY])
        for call in ("fdatasync", "pwrite64", "writev", *(["fallocate"] if fault != "ENOSPC" else []))
        for thread in THREADS
        if (call, thread, 1) in points
    ]
    became = strike(chosen, fault, snapshot, tmp_path)
    print(f"{fault} at {len(chosen)} of {len(points)} points: {dict(became)}")
    assert became["harmless"] == became["not reached"] == 0


@pytest.mark.torture
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("fault", sorted(FAULTS))
def test_fault_at_every_call_loses_nothing_acknowledged(
    points: list[Point],
    fault: str,
    snapshot: Path,
    tmp_path: Path,
    torture_seed: int,
    scaled: Callable[[int, str], int],
) -> None:
    """Creation, log, state, watermarks, snapshots and their install: every call that a disk sees, each in its turn."""
    assert len(points) > 1000
    assert max(number for _, _, number in points) < HIT_AT
    chance = random.Random(f"{fault}/{torture_seed}")
    chosen = sorted(chance.sample(points, min(len(points), scaled(len(points), f"storage calls with {fault}"))))
    became = strike(chosen, fault, snapshot, tmp_path)
    print(f"{fault} at {len(chosen)} of {len(points)} points: {dict(became)}")
    assert became.total() == len(chosen)
    assert became["not reached"] <= len(points) // 100
