"""`python -m tests.torture [--minutes 30] [--results torture-results] [PART ...]`: the long tests, with fresh seeds.

Spreads the time over its parts, all of them unless some are named; each runs again and again until its share is over.
What each run printed stays in the results, with the command that repeats it. Exit code 1 if anything was found.
"""

import argparse
import dataclasses
import pathlib
import secrets
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from typing import Final, final

from kvraft import clock
from kvraft.start import versions
from tests import tried

ROOT: Final = pathlib.Path(__file__).parents[1]
OVERTIME_S: Final = 1800
"""A run may end so long after its share: the last round has to be judged too. What takes longer hangs."""
MILLION_KEYS: Final = "tests/cluster/test_million_keys.py"
MOVING_S: Final = 700
"""What moving 100,000 keys twice takes."""
SCALE_MIN: Final = 0.005
"""With less, counts of one come out, with which the tests' own controls fail."""
STORAGE_S: Final = 4500
"""What the exhaustive tests of storage take with their usual counts."""


@final
@dataclasses.dataclass(slots=True)
class Part:
    """One kind of test and what became of it."""

    name: str
    share: float
    """Of the whole time."""
    command: Callable[[int, int, pathlib.Path], list[str]]
    """From a seed, the seconds that are left, and a directory of its own: arguments for python."""
    pure: bool = False
    """It looks into objects or at lines of ours, which compiled code does not show."""
    runs: int = 0
    tried: Counter[str] = dataclasses.field(default_factory=Counter)
    found: int = 0
    seconds: float = 0.0


def simulation(seed: int, seconds: int, _directory: pathlib.Path) -> list[str]:
    """Seeds of the simulator for the whole share at once."""
    return [
        "-m",
        "tests.simulation",
        "run",
        "--master-seed",
        str(seed),
        "--seeds",
        "1000000",
        "--seconds",
        str(seconds),
    ]


def cuts(seed: int, seconds: int, _directory: pathlib.Path) -> list[str]:
    """Directed cuts of five servers, of which there are a million; about ten a second."""
    return [
        "-m",
        "tests.simulation",
        "cuts",
        "--servers",
        "5",
        "--sample",
        str(10 * seconds),
        "--master-seed",
        str(seed),
    ]


def deaths(seed: int, seconds: int, _directory: pathlib.Path) -> list[str]:
    """Deaths of busy leaders in virtual time; about two hundred a second."""
    words = ["kills", "--load", "busy", "--kills", str(100 * seconds), "--master-seed", str(seed)]
    return ["-m", "tests.simulation", *words]


def whole_members(schedules: str) -> Callable[[int, int, pathlib.Path], list[str]]:
    """Schedules of whole members for the whole share at once."""

    def command(seed: int, seconds: int, _directory: pathlib.Path) -> list[str]:
        return ["-m", schedules, "--seeds", "1000000", "--seed", str(seed), "--seconds", str(seconds)]

    return command


def differential(members: int) -> Callable[[int, int, pathlib.Path], list[str]]:
    """Random requests to etcd and to kvraft of so many members; a round is some minutes."""

    def command(seed: int, _seconds: int, _directory: pathlib.Path) -> list[str]:
        module = ["-m", "tests.conformance.differential"]
        return [*module, "--requests", "20000", "--seed", str(seed), "--members", str(members)]

    return command


def differential_with_auth(seed: int, seconds: int, _directory: pathlib.Path) -> list[str]:
    """Random requests, users and roles while auth is on, about ten a second, as etcd hashes passwords."""
    words = ["--requests", str(max(200, 10 * seconds)), "--seed", str(seed), "--auth"]
    return ["-m", "tests.conformance.differential", *words]


def auth_matrix(seed: int, seconds: int, _directory: pathlib.Path) -> list[str]:
    """The auth matrix, or as much of it as the share holds: first the cells in which etcd compares no password."""
    return ["-m", "tests.conformance.auth_matrix", "--seconds", str(max(60, seconds)), "--seed", str(seed)]


def kill_rounds(seed: int, _seconds: int, directory: pathlib.Path) -> list[str]:
    """Thirty kills under 64 writing clients."""
    return ["-m", "tests.jepsen_like.kill_rounds", str(directory), "--seed", str(seed)]


def mixed_faults(seed: int, seconds: int, directory: pathlib.Path) -> list[str]:
    """Every workload under every kind of fault, a minute each or less."""
    each = str(max(10, min(60, seconds // 8)))  # six workloads, each with a start and an end
    words = ["run", "--workload", "all", "--nemesis", "mixed", "--seconds", each, "--seed", str(seed)]
    return ["-m", "tests.jepsen_like", *words, "--directory", str(directory)]


def mixed_faults_secure(seed: int, seconds: int, directory: pathlib.Path) -> list[str]:
    """The same over TLS, with auth on."""
    return [*mixed_faults(seed, seconds, directory), "--secure"]


def small_scope(seed: int, seconds: int, _directory: pathlib.Path) -> list[str]:
    """Every state within drawn limits, as many as fit the share and some 2 GB of memory."""
    limits = ["--draw", str(seed), "--states", "5000000", "--seconds", str(seconds)]
    return ["-m", "tests.simulation.small_scope", *limits]


def failover(_seed: int, seconds: int, _directory: pathlib.Path) -> list[str]:
    """Kills of the leader beside etcd, some eight seconds each."""
    return ["-m", "tests.jepsen_like.failover", "--kills", str(max(3, min(20, seconds // 8)))]


def scale(share: float) -> str:
    """Of the usual counts; a run that begins when its part is nearly over has still to find something to try."""
    return f"{min(1.0, max(SCALE_MIN, share)):.3f}"


def storage(seed: int, seconds: int, _directory: pathlib.Path) -> list[str]:
    """Kills and failures at system calls, flipped bits, power cuts; as many as the time allows."""
    return [*torture_tests(seed, "tests/storage"), "--torture-scale", scale(seconds / STORAGE_S)]


def torture_tests(seed: int, *arguments: str) -> list[str]:
    """Tests marked torture, in an order drawn from the seed."""
    module = ["-m", "pytest", *arguments, "-m", "torture", "-q", "-p", "no:cacheprovider"]
    return [*module, "--torture-seed", str(seed), f"--randomly-seed={seed}"]


def real_members(seed: int, _seconds: int, _directory: pathlib.Path) -> list[str]:
    """Bugs, stalls and scarcity inside real members, bad disks and links; once through is some minutes."""
    elsewhere = [MILLION_KEYS, "tests/jepsen_like/test_kill_rounds.py"]  # each has a part of its own
    return torture_tests(
        seed, "tests/cluster", "tests/jepsen_like", "tests/soak", *(f"--deselect={path}" for path in elsewhere)
    )


def million_keys(seed: int, _seconds: int, _directory: pathlib.Path) -> list[str]:
    """A million keys written, listed and removed; some ten minutes."""
    return torture_tests(seed, MILLION_KEYS)


def moving(seed: int, seconds: int, _directory: pathlib.Path) -> list[str]:
    """An etcd of 100,000 keys, or of as many as the time allows, moved under writes and from its directory."""
    return [*torture_tests(seed, "tests/migration"), "--torture-scale", scale(seconds / MOVING_S)]


def soak(seed: int, seconds: int, directory: pathlib.Path) -> list[str]:
    """Mixed load on three members for the whole share: nothing that they take may grow."""
    return ["-m", "tests.soak", "--minutes", f"{seconds / 60:.2f}", "--seed", str(seed), "--directory", str(directory)]


def fuzzers(seed: int, seconds: int, _directory: pathlib.Path) -> list[str]:
    """Every fuzzer, HTTP against a whole member."""
    return ["-m", "tests.fuzz", "--member", "--seconds", str(seconds), "--seed", str(seed)]


def guided_fuzzers(seed: int, seconds: int, _directory: pathlib.Path) -> list[str]:
    """What reads bytes with branches of our own, guided by coverage."""
    return ["-m", "tests.fuzz.guided", "--seconds", str(seconds), "--seed", str(seed)]


def both_forms(seed: int, seconds: int, _directory: pathlib.Path) -> list[str]:
    """The pure form beside the compiled one, which takes minutes to make; each seed and forty requests take seconds."""
    counts = ["--seeds", str(max(5, seconds // 8)), "--requests", str(max(1000, 20 * seconds))]
    return ["-m", "tests.forms", *counts, "--seed", str(seed)]


def all_parts() -> list[Part]:
    """Every part; the shares add up to 1. tests/test_fault_matrix.py holds the commands to the fault matrix.

    Real processes on real disks come first, as what they find cannot be replayed from a seed alone; the last ones take
    one core each, and leave the other to whoever works beside them.
    """
    return [
        Part("real-members", 0.05, real_members),
        Part("million-keys", 0.02, million_keys),
        Part("moving", 0.02, moving),
        Part("failover", 0.04, failover),
        Part("storage", 0.06, storage),
        Part("kill-rounds", 0.06, kill_rounds),
        Part("mixed-faults", 0.06, mixed_faults),
        Part("mixed-secure", 0.04, mixed_faults_secure),
        Part("soak", 0.23, soak),
        Part("differential-1", 0.04, differential(1)),
        Part("differential-3", 0.04, differential(3)),
        Part("differential-auth", 0.02, differential_with_auth),
        Part("auth-matrix", 0.04, auth_matrix),
        Part("fuzz", 0.02, fuzzers),
        Part("guided-fuzz", 0.02, guided_fuzzers, pure=True),
        Part("both-forms", 0.02, both_forms),
        Part("simulation", 0.07, simulation),
        Part("small-scope", 0.04, small_scope, pure=True),
        Part("cuts", 0.04, cuts),
        Part("deaths", 0.01, deaths),
        Part("members", 0.02, whole_members("tests.member.schedules")),
        Part("sessions", 0.01, whole_members("tests.member.session_schedules")),
        Part("membership", 0.02, whole_members("tests.member.membership_schedules")),
        Part("bad-disks", 0.01, whole_members("tests.member.disk_schedules")),
    ]


def torture(parts: list[Part], minutes: float, results: pathlib.Path) -> int:
    """Run every part for its share and print the table; the number of findings."""
    for part in parts:
        deadline_ms = clock.monotonic_ms() + int(part.share * minutes * 60_000)
        while (left_ms := deadline_ms - clock.monotonic_ms()) > 0:
            run_once(part, max(1, left_ms // 1000), results)
    print(f"{'part':<16}{'runs':>6}{'found':>7}{'minutes':>9}  tried")
    for part in parts:
        counts = ", ".join(f"{count} {what}" for what, count in part.tried.items())
        print(f"{part.name:<16}{part.runs:>6}{part.found:>7}{part.seconds / 60:>9.1f}  {counts}")
    return sum(part.found for part in parts)


def run_once(part: Part, seconds: int, results: pathlib.Path) -> None:
    """One run with a fresh seed, its output kept."""
    seed = secrets.randbits(32)
    directory = results / f"{part.name}-{seed}"
    directory.mkdir(parents=True)
    command = [sys.executable, *part.command(seed, seconds, directory / "run")]
    started_ms = clock.monotonic_ms()
    with (directory / "output.txt").open("w") as output:
        output.write(" ".join(command) + "\n")
        output.flush()
        try:
            code = subprocess.run(
                command, cwd=ROOT, stdout=output, stderr=output, check=False, timeout=seconds + OVERTIME_S
            ).returncode
        except subprocess.TimeoutExpired as hung:
            output.write(f"{hung}\n")
            code = 1
    part.seconds += (clock.monotonic_ms() - started_ms) / 1000
    part.runs += 1
    part.found += code != 0
    printed = (directory / "output.txt").read_text(errors="replace")
    part.tried += tried.read(printed)
    print(
        f"{part.name}, seed {seed}: {'FOUND SOMETHING' if code else 'nothing found'}, see {directory}",
        *printed.splitlines()[-12:],
        sep="\n    ",
    )
    sys.stdout.flush()


def main() -> int:
    """Run for the given time."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--results", type=pathlib.Path, default=ROOT / "torture-results")
    parser.add_argument("part", nargs="*")
    given = parser.parse_args()
    every = all_parts()
    unknown = set(given.part) - {part.name for part in every}
    if unknown:
        parser.error(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(part.name for part in every)}")
    parts = [part for part in every if not given.part or part.name in given.part]
    if versions.form() == "compiled":
        print("not on the compiled form:", ", ".join(part.name for part in parts if part.pure) or "nothing")
        parts = [part for part in parts if not part.pure]
    shares = sum(part.share for part in parts)
    for part in parts:
        part.share /= shares
    return 1 if torture(parts, given.minutes, given.results.resolve()) else 0


if __name__ == "__main__":
    sys.exit(main())
