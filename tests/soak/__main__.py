"""`python -m tests.soak [--minutes 60] [--seed 1] [--directory DIR]`: does anything grow under mixed load?

Three members take some hundred requests a second; every five minutes, or every sixth of a shorter time, n1 or n2 is
stopped or killed and started again. n3 runs from the first minute to the last: a leak of memory shows there.
Each row is printed and written to soak.txt when it is taken. Exit code 1 if a figure grows over the second half, or if
a client was told something wrong.
"""

import argparse
import asyncio
import contextlib
import dataclasses
import pathlib
import random
import secrets
import shutil
import sys
from collections.abc import Sequence
from typing import Final, final

from kvraft import clock
from kvraft.testing.cluster import Cluster, Member
from kvraft.testing.member import Program
from tests import tried
from tests.cluster.resources import MIB, Resources, resources
from tests.soak.flatness import Bound, Verdict, judge
from tests.soak.load import Load

RESTART_EVERY_S: Final = 300.0
RESTARTS_MIN: Final = 5
SAMPLE_EVERY_S: Final = 10.0
SAMPLES_MIN: Final = 60
BOUNDS: Final = {
    "anonymous": Bound(24 * MIB),
    "descriptors": Bound(16),
    "threads": Bound(4),
    "disk": Bound(48 * MIB),
}
"""In the second half. Memory: a process gives back what it has freed when it has grown by 32 MiB. Disk: a compaction
takes 32 MiB of the log, and free pages grow slowly to as many as are in use."""
FLAGS: Final = {"history-size": "3000", "snapshot-count": "5000"}
"""The history and the log are full within two minutes: what still grows then is something else."""


@final
@dataclasses.dataclass(slots=True)
class Soak:
    """One run."""

    cluster: Cluster
    load: Load
    seconds: float
    chance: random.Random
    table: pathlib.Path
    samples: list[tuple[float, dict[str, Resources]]] = dataclasses.field(default_factory=list)
    """Moment in seconds, and each running member's."""
    restarts: int = 0
    started_ms: int = 0

    def _now_s(self) -> float:
        return (clock.monotonic_ms() - self.started_ms) / 1000

    def say(self, line: str) -> None:
        """To the terminal and to the table, at once."""
        with self.table.open("a") as file:
            file.write(line + "\n")
        sys.stdout.write(line + "\n")
        sys.stdout.flush()

    async def run(self) -> bool:
        """All of it; whether everything is flat and right."""
        self.started_ms = clock.monotonic_ms()
        self.say(f"{'minute':>7}  {'what':<10}" + "".join(f"{name:>32}" for name in ("n1", "n2", "n3")) + "   done")
        tasks = [asyncio.ensure_future(client()) for client in self.load.clients()]
        tasks.append(asyncio.ensure_future(self._restart_now_and_then()))
        try:
            every_s = min(SAMPLE_EVERY_S, self.seconds / SAMPLES_MIN)
            while self._now_s() < self.seconds:
                await asyncio.sleep(every_s)
                self._sample()
                for task in tasks:
                    if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                        raise error
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return self._conclude()

    def _sample(self) -> None:
        found: dict[str, Resources] = {}
        for member in self.cluster.members:
            with contextlib.suppress(OSError, AssertionError):  # it ends at this moment
                if member.is_running:
                    found[member.name] = resources(member)
        self.samples.append((self._now_s(), found))
        row = "".join(f"{_text(found.get(member.name)):>32}" for member in self.cluster.members)
        self.say(f"{self._now_s() / 60:>7.2f}  {'MiB fd thr':<10}{row}   {sum(self.load.done.values())}")

    async def _restart_now_and_then(self) -> None:
        pause_s = min(RESTART_EVERY_S, self.seconds / (RESTARTS_MIN + 1))
        while True:
            await asyncio.sleep(pause_s)
            member = self.cluster.members[self.restarts % 2]
            kill = self.chance.random() < 0.5
            self.say(f"{self._now_s() / 60:>7.2f}  {'kill -9' if kill else 'SIGTERM'} and start of {member.name}")
            await asyncio.to_thread(_restart, member, kill=kill)
            self.restarts += 1

    def _series(self, name: str, figure: str) -> list[tuple[float, float]]:
        return [
            (moment, float(getattr(found[name], f"{figure}_bytes" if figure in {"anonymous", "disk"} else figure)))
            for moment, found in self.samples
            if name in found
        ]

    def _conclude(self) -> bool:
        good = not self.load.errors
        for error in self.load.errors:
            self.say(f"WRONG: {error}")
        for figure, bound in BOUNDS.items():
            steady = self.cluster.members[2:] if figure == "anonymous" else self.cluster.members
            for member in steady:  # a start gives back whatever has leaked
                verdict = judge(self._series(member.name, figure), bound)
                good = good and (verdict is None or verdict.is_flat)
                self.say(f"{figure} of {member.name}: {_verdict_text(figure, verdict)}")
        if good and self.load.done["small requests"] < self.seconds:
            self.say("WRONG: hardly a request was answered, so nothing is shown")
            good = False
        self.say(", ".join(f"{count} {what}" for what, count in sorted(self.load.done.items())))
        counts = {"minutes of soak": round(self.seconds / 60), "restarts under load": self.restarts}
        self.say(tried.line(counts))
        self.say("flat" if good else "NOT FLAT")
        return good


def _restart(member: Member, *, kill: bool) -> None:
    if kill:
        member.kill()
    else:
        code = member.terminate()
        assert code == 0, f"{member.name} ended with {code} after SIGTERM\n{member.log_tail()}"
    member.start()
    member.wait_ready()


def _text(found: Resources | None) -> str:
    if found is None:
        return "away"
    mebibytes = f"{found.anonymous_bytes / MIB:.0f}+{(found.resident_bytes - found.anonymous_bytes) / MIB:.0f}"
    return f"{mebibytes}, disk {found.disk_bytes / MIB:.0f}, {found.descriptors} {found.threads}"


def _verdict_text(figure: str, verdict: Verdict | None) -> str:
    if verdict is None:
        return "too few samples to judge"
    unit, name = (MIB, " MiB") if figure in {"anonymous", "disk"} else (1, "")
    sign = "flat" if verdict.is_flat else "GROWS"
    growth, allowed = verdict.growth / unit, verdict.allowed / unit
    return f"{sign}, median {verdict.median / unit:.1f}{name}, {growth:+.1f} in the second half ({allowed:.1f} allowed)"


def soak(directory: pathlib.Path, seconds: float, seed: int, program: Program) -> bool:
    """Run it with members that are started so."""
    directory.mkdir(parents=True, exist_ok=True)
    with Cluster(directory, program=program) as cluster:
        load = Load(cluster.client_urls, seed)
        run = Soak(cluster, load, seconds, random.Random(seed), directory / "soak.txt")
        run.say(f"--seed {seed}, {seconds:g} s, in {directory}; memory is anonymous+mapped")
        good = asyncio.run(run.run())
    if good:  # the table and the logs stay
        for member in cluster.members:
            shutil.rmtree(member.data_dir)
    return good


def main(arguments: Sequence[str] | None = None) -> int:
    """See the module."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=None, help="of everything the clients choose; printed")
    parser.add_argument(
        "--directory",
        type=pathlib.Path,
        default=None,
        help="for data and table; on a real disk; under torture-results/ if not given",
    )
    given = parser.parse_args(arguments)
    seed = secrets.randbits(32) if given.seed is None else given.seed
    directory = given.directory or pathlib.Path("torture-results", f"soak-{seed}-{clock.wall_ns()}")
    return 0 if soak(directory.resolve(), given.minutes * 60, seed, Program(flags=FLAGS)) else 1


if __name__ == "__main__":
    sys.exit(main())
