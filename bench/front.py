"""`python -m bench.front [--live]`: microseconds of CPU per request at the API's front, with and without credentials.

Nobody asks for auth ("plain"), a header that nobody reads ("header"), and remembered Basic credentials ("login"): each
takes its turn with the others in small groups, so that whatever else runs on the machine costs all of them the same.
Without `--live` it is the interpreter's part alone, from the bytes of a request to the bytes of its answer, on this
thread and without sockets; a write goes straight into a keyspace, as a log of one member would give it. With it, wrk
asks one member over 64 connections, and what the member uses is counted, sockets included.
"""

import argparse
import asyncio
import dataclasses
import pathlib
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any, Final, cast, final

import bcrypt

from bench.fill import fill
from bench.load import ANSWER_WITHIN_S, cpu_us, wrk
from bench.secure import PASSWORD, USER, login, turn_off, turn_on
from bench.stages import VALUE, Client, Server
from kvraft.api_v2.app import App
from kvraft.api_v2.backend import Backend
from kvraft.api_v2.fast_protocol import FastFront
from kvraft.api_v2.http_dates import DateLine
from kvraft.api_v2.settings import ApiSettings
from kvraft.api_v2.unfinished import Unfinished
from kvraft.api_v2.unread import Unread
from kvraft.keyspace.account_commands import EnableAuth, Permissions, PutRole, PutUser
from kvraft.keyspace.commands import Authorized, Command, Set
from kvraft.keyspace.errors import EtcdError
from kvraft.metrics import Metrics
from kvraft.records import Written
from kvraft.testing.cluster import Cluster

BUILD: Final = pathlib.Path(__file__).parents[1] / "build" / "bench"
KEYS: Final = 10_000
CONNECTIONS: Final = 64
GROUPS: Final = 600
LIVE_TURNS: Final = 8
WAYS: Final = ("plain", "header", "login")
COST: Final = 4
"""bcrypt's smallest: the hash is compared once."""


@final
class Alone(Server):
    """A server without a log: what is written is there."""

    def submit(self, command: Command, done: Callable[[Written | EtcdError], None]) -> Callable[[], None]:
        """Carry it out at once."""
        done(Written(self.keyspace.apply(command, 0), self.keyspace.etcd_index, 1, 1))
        return lambda: None

    def log_clock_ms(self) -> int:
        """Nothing expires."""
        return 0


def populate(server: Alone, *, auth: bool) -> None:
    """Keys, and a user who may do everything."""
    for number in range(KEYS):
        server.keyspace.apply(Set(b"/bench/%d" % number, VALUE[6:]), 0)
    hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(COST))
    everything = Permissions(("/*",), ("/*",))
    for command in (
        PutUser("root", hashed),
        PutRole("bench", everything),
        PutUser(USER, hashed, ("bench",)),
        *((EnableAuth(),) if auth else ()),
    ):
        server.keyspace.apply(Authorized(server.keyspace.accounts.revision, command), 0)


async def in_the_interpreter() -> dict[str, list[float]]:
    """Microseconds a request by method and way, one figure a group."""
    fronts: dict[str, list[Any]] = {}
    for way in WAYS:
        server = Alone(1)
        populate(server, auth=way == "login")
        app = App(cast("Backend", server), ApiSettings(), Metrics())
        front = FastFront(app, DateLine(lambda: 0), cast("Any", None), Unread(1 << 20), Unfinished(1 << 20))
        fronts[way] = [cast("Any", front.new_protocol()) for _ in range(CONNECTIONS)]
        for connection in fronts[way]:
            connection.connection_made(Client())
    name, value = login(PASSWORD)
    credentials = f"{name}: {value}\r\n".encode()
    found: dict[str, list[float]] = {}
    for group in range(-1, GROUPS):
        for method in ("GET", "PUT"):
            for way in WAYS:
                head = b"HTTP/1.1\r\nHost: 127.0.0.1:2379\r\n" + (b"" if way == "plain" else credentials)
                if method == "PUT":
                    head += b"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\n" % len(VALUE)
                head += b"\r\n" + (VALUE if method == "PUT" else b"")
                requests = [
                    b"%b /v2/keys/bench/%d %b" % (method.encode(), (group * 977 + number * 31) % KEYS, head)
                    for number in range(CONNECTIONS)
                ]
                begun_ns = time.thread_time_ns()
                for connection, request in zip(fronts[way], requests, strict=True):
                    connection.data_received(request)
                used_us = (time.thread_time_ns() - begun_ns) / 1000 / CONNECTIONS
                if group < 0:
                    # The first login is compared with a hash, on a thread; the others wait for it.
                    await asyncio.sleep(0.5)
                else:
                    found.setdefault(f"{method} {way}", []).append(used_us)
    return found


def on_a_member(seconds: int) -> dict[str, list[float]]:
    """Microseconds of a live member by method and way, one figure a turn."""
    found: dict[str, list[float]] = {}
    BUILD.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=BUILD) as directory, Cluster(pathlib.Path(directory), size=1) as cluster:
        member = cluster.members[0]
        fill(member, KEYS, 256)
        turn_on(member)
        turn_off(member)
        plain, with_login = member.program, dataclasses.replace(member.program, client_headers=(login(PASSWORD),))
        for turn in range(-1, LIVE_TURNS):
            for way in WAYS:
                if way == "login":
                    turn_on(member, users=False)
                member.program = plain if way == "plain" else with_login
                # Its first request with a password is compared with a hash.
                assert member.http("GET", "/v2/keys/bench/1", timeout_s=ANSWER_WITHIN_S).status == 200
                for method in ("GET", "PUT"):
                    before_us = cpu_us(member)
                    count, _rate = wrk(member, f"{method.lower()}.lua", CONNECTIONS, seconds)
                    if turn >= 0:
                        found.setdefault(f"{method} {way}", []).append((cpu_us(member) - before_us) / count)
                member.program = plain
                if way == "login":
                    turn_off(member)
    return found


def main() -> None:
    """Print a line for each method and way: the quartile of its figures, and how much more than plain that is."""
    parser = argparse.ArgumentParser(prog="python -m bench.front", description=__doc__)
    parser.add_argument("--live", action="store_true", help="one member, asked by wrk")
    parser.add_argument("--seconds", type=int, default=2, help="of each turn of wrk")
    given = parser.parse_args()
    found = on_a_member(given.seconds) if given.live else asyncio.run(in_the_interpreter())
    quartiles = {name: statistics.quantiles(each, n=4)[0] for name, each in found.items()}
    for name, quartile in quartiles.items():
        more = quartile / quartiles[name.split()[0] + " plain"] - 1
        print(f"{name:<12}{quartile:>8.2f} us{more:>+8.1%}", flush=True)


if __name__ == "__main__":
    main()
