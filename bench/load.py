"""Load by wrk, and the CPU that members spend on it."""

import asyncio
import os
import pathlib
import re
import subprocess
import sys
from collections.abc import Sequence
from typing import Final, NamedTuple

from bench.measured import Measured
from bench.scale import SCALE
from kvraft.testing.member import Member

HERE: Final = pathlib.Path(__file__).parent
KEYS: Final = 10_000
SMOKE_CONNECTIONS: Final = 4
"""So that each is answered in a second, also where etcd hashes a password for it."""
LOOK_S: Final = 0.5
SETTLED_SHARE: Final = 0.1
"""Of a core, all members together; heartbeats and chores of three take less."""
SETTLED_LOOKS: Final = 3
"""So many in a row: on a busy machine, what is loaded late gets no more than that at times."""
SETTLED_WITHIN_LOOKS: Final = 40
ANSWER_WITHIN_S: Final = 30
"""For a listing, and where each request of 64 connections costs a hash of 60 ms and more; wrk gives up after 2 s."""
TICK_US: Final = 1e6 / os.sysconf("SC_CLK_TCK")
MS_OF: Final = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}


class Load(NamedTuple):
    """What wrk saw."""

    answered: int
    """Requests that were answered, all of them with success."""
    per_s: float
    p50_ms: float
    p99_ms: float

    def rate(self, each_us: Sequence[float] = ()) -> Measured:
        """Requests a second, with the CPU of each at each member, the leader first."""
        shown = f"; CPU {', '.join(f'{used:.0f}' for used in each_us)}" if each_us else ""
        detail = f"p50 {self.p50_ms:.3g} ms, p99 {self.p99_ms:.3g} ms{shown}"
        return Measured(self.per_s, detail, sum(each_us) if each_us else None)

    def p99(self) -> Measured:
        """The duration that one of a hundred requests took longer than, in milliseconds."""
        return Measured(self.p99_ms, f"of {self.answered} requests")


def load(member: Member, script: str, connections: int, seconds: int, *arguments: str) -> Load:
    """What wrk gets answered by one member; see `loads`."""
    return loads([(member, connections)], script, seconds, *arguments)[0]


def loads(
    places: Sequence[tuple[Member, int]], script: str, seconds: int, *arguments: str, keys: int | None = None
) -> list[Load]:
    """What wrk gets answered by members, each over so many connections, at the same time.

    Scripts are told the number of keys (10,000), and then the arguments.

    Raises:
        SystemExit: an answer was no success, so the figure would mean nothing.
    """
    running = []
    for member, wanted in places:
        connections = min(wanted, SMOKE_CONNECTIONS) if SCALE.is_smoke else wanted
        command = wrk_command(member, script, connections, seconds, *arguments, keys=keys)
        running.append((member, subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)))
    return [read(member, wrk.communicate()[0], seconds) for member, wrk in running]


def wrk_command(
    member: Member,
    script: str,
    connections: int,
    seconds: int,
    *arguments: str,
    keys: int | None = None,
    within_s: int = ANSWER_WITHIN_S,
) -> list[str]:
    """How wrk is called. It ends early at SIGINT, and says what it has counted until then.

    An answer that takes longer than `within_s` is no success.
    """
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", f"--timeout={within_s}s", "--latency"]
    command += [word for name, value in member.program.client_headers for word in ("-H", f"{name}: {value}")]
    words = [str(keys or SCALE.count(KEYS)), *arguments]
    return [*command, "-s", str(HERE / script), member.client_url, "--", *words]


def read(member: Member, shown: str, seconds: int) -> Load:
    """What wrk has printed; it pads units of one letter with a space."""
    if trouble := re.search(r"Non-2xx or 3xx responses: \d+|Socket errors: .*", shown):
        sys.exit(f"bench: {member}: {trouble[0]}")
    rate = re.search(r"Requests/sec:\s+([\d.]+)", shown)
    count = re.search(r"(\d+) requests in", shown)
    found_ms = {
        share: float(value) * MS_OF[unit]
        for share, value, unit in re.findall(r"^\s+(50|99)%\s+([\d.]+)(us|ms|s|m) *$", shown, re.MULTILINE)
    }
    if rate is None or count is None:
        sys.exit(f"bench: {member}: {shown}")
    if count[1] == "0":
        sys.exit(
            f"bench: {member} answered nothing in {seconds} s: where each request costs a hash, use more --seconds"
        )
    return Load(int(count[1]), float(rate[1]), found_ms["50"], found_ms["99"])


def wrk(member: Member, script: str, connections: int, seconds: int, *arguments: str) -> tuple[int, Measured]:
    """How many requests wrk got answered, and as a rate."""
    found = load(member, script, connections, seconds, *arguments)
    return found.answered, found.rate()


def loaded(
    members: Sequence[Member],
    places: Sequence[tuple[Member, int]],
    script: str,
    seconds: int,
    *arguments: str,
    keys: int | None = None,
) -> tuple[list[Load], list[float]]:
    """The same, and the CPU in microseconds that each request costs each of these members."""
    settle(members)
    before_us = [cpu_us(member) for member in members]
    found = loads(places, script, seconds, *arguments, keys=keys)
    count = sum(each.answered for each in found)
    return found, [(cpu_us(member) - used) / count for member, used in zip(members, before_us, strict=True)]


def settle(members: Sequence[Member]) -> None:
    """Wait until what members do after they have begun to serve is done: they load what a start did not need."""
    if not SCALE.is_smoke:
        asyncio.run(_settled(members))


async def _settled(members: Sequence[Member]) -> None:
    used_us = sum(map(cpu_us, members))
    quiet = 0
    for _ in range(SETTLED_WITHIN_LOOKS):
        await asyncio.sleep(LOOK_S)
        before_us, used_us = used_us, sum(map(cpu_us, members))
        quiet = quiet + 1 if used_us - before_us < SETTLED_SHARE * LOOK_S * 1e6 else 0
        if quiet == SETTLED_LOOKS:
            return


def cpu_us(member: Member) -> float:
    """User and system time that a member has used since its start, all its threads together (proc(5), stat 14, 15)."""
    fields = pathlib.Path(f"/proc/{member.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * TICK_US


def anonymous_mb(member: Member) -> float:
    """What a member holds that no file backs."""
    status = pathlib.Path(f"/proc/{member.pid}/status").read_text()
    found = re.search(r"RssAnon:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) / 1024
