"""The same writes and reads over TLS, with Basic auth, and with both; and what a login costs."""

import base64
import concurrent.futures
import dataclasses
import json
import pathlib
import shutil
import ssl
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
            program = dataclasses.replace(program, client_headers=(_login(PASSWORD),))
        with Cluster(directory, program=program) as cluster:
            if auth:
                _turn_on(cluster.members[0])
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
            headers = (_login(f"wrong-{lane}-{count}"),)
            assert raw_http.exchange(member.client_url, "GET", "/v2/keys/", headers=headers).status == 401
            count += 1
        return count

    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as lanes:
        count = sum(lanes.map(refused, range(AT_ONCE)))
    rate = count / ((clock.monotonic_ns() - begun_ns) / 1e9)
    return [Measured(first_ms, "one request, its connection included"), Measured(rate, f"{AT_ONCE} clients")]


def _turn_on(member: Member) -> None:
    """Auth on; guests may do everything, as etcd has them, so that keys are filled in without a password."""
    for target, body in (
        ("users/root", {"user": "root", "password": PASSWORD}),
        ("roles/bench", {"role": "bench", "permissions": {"kv": {"read": ["/*"], "write": ["/*"]}}}),
        (f"users/{USER}", {"user": USER, "password": PASSWORD, "roles": ["bench"]}),
        ("enable", {}),
    ):
        answer = raw_http.exchange(
            member.client_url,
            "PUT",
            f"/v2/auth/{target}",
            body=json.dumps(body).encode(),
            tls=member.program.client_tls,
        )
        assert answer.status in {200, 201}, answer


def _login(password: str) -> tuple[str, str]:
    return "Authorization", "Basic " + base64.b64encode(f"{USER}:{password}".encode()).decode()
