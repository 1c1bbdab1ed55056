"""The same writes and reads over TLS, with Basic auth, and with both; and what a login costs."""

import asyncio
import base64
import concurrent.futures
import contextlib
import dataclasses
import json
import pathlib
import shutil
import ssl
import statistics
from collections.abc import Callable
from typing import Final

from bench.measured import Measured
from kvraft import clock
from kvraft.testing import raw_http
from kvraft.testing.certificates import Authority
from kvraft.testing.cluster import Cluster, Program
from kvraft.testing.member import Member

USER: Final = "bench"
PASSWORD: Final = "pw"
AT_ONCE: Final = 16
"""Clients with wrong passwords."""
GUESSES_PER_S: Final = 200
OTHERS: Final = 8
"""Clients without a password: those with one are compared by etcd each time, and then wait for all the guesses."""
ENDS_WITHIN_S: Final = 60
TURNS: Final = 2


def secured(
    root: pathlib.Path, run: Callable[[Cluster, int], list[Measured]], *, tls: bool, auth: bool
) -> Callable[[str, Program, int], list[Measured]]:
    """Measured on a new cluster whose clients speak TLS, or have a user, or both."""

    def measure(label: str, program: Program, seconds: int) -> list[Measured]:
        directory = root / label
        shutil.rmtree(directory, ignore_errors=True)
        if tls:
            authority = Authority(directory / "ca")
            served = authority.issue("member")
            files = {"cert-file": served.cert_file, "key-file": served.key_file}
            context = ssl.create_default_context(cafile=authority.ca_file)
            program = dataclasses.replace(program, flags={**program.flags, **files}, client_tls=context)
        if auth:
            program = dataclasses.replace(program, client_headers=(login(PASSWORD),))
        with Cluster(directory, program=program) as cluster:
            if auth:
                turn_on(cluster.members[0])
            return run(cluster, seconds)

    return measure


def logins(cluster: Cluster, seconds: int) -> list[Measured]:
    """How long the first request with a password takes, in milliseconds, and wrong passwords refused a second."""
    member = cluster.leader()
    target = "/v2/keys/?quorum=true"
    begun_ns = clock.monotonic_ns()
    assert member.http("GET", target).status == 200
    first_ms = (clock.monotonic_ns() - begun_ns) / 1e6
    begun_ns = clock.monotonic_ns()
    until_ns = begun_ns + seconds * 10**9

    def refused(lane: int) -> int:
        count = 0
        while clock.monotonic_ns() < until_ns:
            headers = (login(f"wrong-{lane}-{count}"),)
            answer = raw_http.exchange(member.client_url, "GET", "/v2/keys/", headers=headers, timeout_s=ENDS_WITHIN_S)
            assert answer.status == 401, answer
            count += 1
        return count

    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as lanes:
        count = sum(lanes.map(refused, range(AT_ONCE)))
    rate = count / ((clock.monotonic_ns() - begun_ns) / 1e9)
    return [Measured(first_ms, "one request, its connection included"), Measured(rate, f"{AT_ONCE} clients")]


def beside_guesses(cluster: Cluster, seconds: int) -> list[Measured]:
    """How many times longer the p99 of writes is beside so many wrong passwords a second; in turn with and without."""
    member = cluster.leader()
    usual_s: list[float] = []
    beside_s: list[float] = []
    refused = 0
    for _ in range(TURNS):
        usual_s += asyncio.run(_writes(member, seconds))
        durations, count = asyncio.run(_beside_guesses(member, seconds))
        beside_s += durations
        refused += count
    usual_ms, beside_ms = (1000 * statistics.quantiles(each, n=100)[98] for each in (usual_s, beside_s))
    rate = refused / (TURNS * seconds)
    detail = f"p99 {usual_ms:.1f} ms, beside them {beside_ms:.1f} ms; {rate:.0f} answered a second"
    return [Measured(beside_ms / usual_ms, detail)]


async def _writes(member: Member, seconds: int) -> list[float]:
    """Durations in seconds."""
    until_ns = clock.monotonic_ns() + seconds * 10**9
    durations = []

    async def write(lane: int) -> None:
        async with await raw_http.Connection.open(member.client_url) as connection:
            while (begun_ns := clock.monotonic_ns()) < until_ns:
                answer = await connection.request("PUT", f"/v2/keys/bench/{lane}?value=1", timeout_s=ENDS_WITHIN_S)
                # Beside guesses etcd's own time runs out on a small machine; that took as long as it took.
                assert answer.status in {200, 201, 500}, answer
                durations.append((clock.monotonic_ns() - begun_ns) / 1e9)

    await asyncio.gather(*(write(lane) for lane in range(OTHERS)))
    return durations


async def _beside_guesses(member: Member, seconds: int) -> tuple[list[float], int]:
    """The same beside wrong passwords, and how many of these were answered; the rest is left."""
    answered = 0

    async def guess(number: int) -> None:
        nonlocal answered
        async with await raw_http.Connection.open(member.client_url) as connection:
            answer = await connection.request("GET", "/v2/keys/", headers=(login(f"guess {number}"),))
            assert answer.status != 200, answer
            answered += 1

    async def go_on() -> None:
        begun_ns = clock.monotonic_ns()
        async with asyncio.TaskGroup() as guesses:
            for number in range(GUESSES_PER_S * seconds):
                guesses.create_task(guess(number))
                due_s = (number + 1) / GUESSES_PER_S
                await asyncio.sleep(due_s - (clock.monotonic_ns() - begun_ns) / 1e9)

    guessing = asyncio.create_task(go_on())
    durations = await _writes(member, seconds)
    guessing.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await guessing
    return durations, answered


def turn_on(member: Member, *, users: bool = True) -> None:
    """Auth on; guests may do everything, as etcd has them, so that keys are filled in without a password.

    Without `users` they are there already.
    """
    bodies: tuple[tuple[str, dict[str, object]], ...] = (
        ("users/root", {"user": "root", "password": PASSWORD}),
        ("roles/bench", {"role": "bench", "permissions": {"kv": {"read": ["/*"], "write": ["/*"]}}}),
        (f"users/{USER}", {"user": USER, "password": PASSWORD, "roles": ["bench"]}),
        ("enable", {}),
    )
    for target, body in bodies if users else bodies[-1:]:
        answer = raw_http.exchange(
            member.client_url,
            "PUT",
            f"/v2/auth/{target}",
            body=json.dumps(body).encode(),
            tls=member.program.client_tls,
        )
        assert answer.status in {200, 201}, answer


def turn_off(member: Member) -> None:
    """Auth off again; the users stay."""
    answer = member.http("DELETE", "/v2/auth/enable", headers=(login(PASSWORD, "root"),))
    assert answer.status == 200, answer


def login(password: str, user: str = USER) -> tuple[str, str]:
    """The header of somebody with a password."""
    return "Authorization", "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
