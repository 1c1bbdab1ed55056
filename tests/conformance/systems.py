"""The servers that the conformance tests talk to: `kvraft.testing` clusters, and which of them is held against which.

A `System` is what the tests see: where to send requests, and which of the two products it is. Nothing else of a
server's kind may matter to a test, except where the contract names a bug of etcd.
"""

import contextlib
import http.client
import os
import shutil
import ssl
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, Self, final

from kvraft.testing.cluster import Cluster, Kind, Member, Program
from tests.conformance.memory_subject import MUTANT_VARIABLE
from tests.proxy.running import MINUTES, running

Subject = Literal["kvraft", "memory", "etcd"]
HISTORY_SIZE: Final = 1000
"""etcd's window of events, which cannot be changed; kvraft is started with the same here."""
DECIDED_WITHIN_S: Final = 30.0
REPOSITORY: Final = Path(__file__).resolve().parents[2]
_WINDOW: Final = {"history-size": str(HISTORY_SIZE)}
AUTH_MUTANT_VARIABLE: Final = "CONFORMANCE_AUTH_MUTANT"
_PLANTED_MEMBER: Final = Path(__file__).parent / "mutants" / "member.py"
_MEMORY_SUBJECT: Final = Path(__file__).with_name("memory_subject.py")


def subject_name() -> Subject:
    """What is held against etcd: `CONFORMANCE_SUBJECT`, kvraft unless it says otherwise.

    `memory` is kvraft's HTTP API over its keyspace in one process without Raft or disk; `etcd` compares etcd with
    itself, which shows how much of a difference is the comparison's own noise.
    """
    match os.environ.get("CONFORMANCE_SUBJECT", "kvraft"):
        case "kvraft":
            return "kvraft"
        case "memory":
            return "memory"
        case "etcd":
            return "etcd"
        case other:
            msg = f"CONFORMANCE_SUBJECT={other!r}: kvraft, memory or etcd"
            raise ValueError(msg)


@final
class System:
    """A running etcd or kvraft of one or more members. A context manager that stops it and removes its files."""

    def __init__(self, program: Program, size: int, further_url: str | None = None, *, proxied: bool = False) -> None:
        """Start it; a member alone may have a second URL for clients, and all may be seen through a proxy only."""
        self.kind: Final[Kind] = program.kind
        root = REPOSITORY / "build" / "conformance"
        root.mkdir(parents=True, exist_ok=True)
        self._directory = Path(tempfile.mkdtemp(prefix=f"{program.kind}-", dir=root))
        self._stack = contextlib.ExitStack()
        self._proxy: Member | None = None
        self.cluster: Final = Cluster(self._directory, size=size, program=program)
        if further_url is not None:
            (member,) = self.cluster.members
            member.cluster_flags["listen-client-urls"] = f"{member.client_url},{further_url}"
        try:
            self.cluster.start()
            self.cluster.wait_for("decided cluster version", self._is_decided, DECIDED_WITHIN_S)
            if proxied:
                self._proxy = self._stack.enter_context(running(self.cluster, proxy_refresh_interval=MINUTES))
        except BaseException:
            self.stop()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def __str__(self) -> str:
        return f"{self.kind}-{len(self.client_urls)}"

    @property
    def client_urls(self) -> tuple[str, ...]:
        """One URL a member, in the order of their names; or that of the proxy before them."""
        if self._proxy is not None:
            return (self._proxy.client_url,)
        return tuple(self.cluster.client_urls)

    @property
    def is_etcd(self) -> bool:
        """Whether this is the oracle, with the oracle's bugs."""
        return self.kind == "etcd"

    def stop(self) -> None:
        """End every member and remove what they wrote."""
        self._stack.close()
        self.cluster.stop()
        shutil.rmtree(self._directory, ignore_errors=True)

    def _is_decided(self) -> bool:
        """Whether every member knows the cluster's version: only then no more index goes to internal changes."""
        with contextlib.suppress(OSError, http.client.HTTPException):
            # Before all have started it is 3.0.0.
            return all(b'"etcdcluster":"3.4' in member.http("GET", "/version").body for member in self.cluster.members)
        return False


@final
@dataclass(frozen=True, slots=True)
class Secured:
    """How clients are served over TLS: the flags, and what a client of the tests believes and shows."""

    flags: Mapping[str, str]
    client: ssl.SSLContext
    further_url: str | None = None
    """Where that is so; the usual URL is then in the open. None: there is the usual one alone."""


def etcd(members: int = 1, secured: Secured | None = None) -> System:
    """A started etcd 3.4 with its v2 API."""
    return _system("etcd", {"log-level": "error"}, members, secured)


def kvraft(members: int = 1, secured: Secured | None = None) -> System:
    """A started kvraft with etcd's window of events."""
    return _system("kvraft", _WINDOW, members, secured)


def _system(kind: Kind, flags: Mapping[str, str], members: int, secured: Secured | None) -> System:
    if secured is None:
        return System(Program(kind, flags), members)
    client = secured.client if secured.further_url is None else None
    return System(Program(kind, {**flags, **secured.flags}, client_tls=client), members, secured.further_url)


def planted(mutant: int) -> System:
    """A kvraft of one member with a bug of authorization planted, by its number of `mutants.by_differential`."""
    environment = {AUTH_MUTANT_VARIABLE: str(mutant)}
    return System(Program("kvraft", _WINDOW, environment, (sys.executable, str(_PLANTED_MEMBER))), 1)


def proxied(members: int = 1) -> System:
    """A started kvraft behind a proxy of kvraft's, which is all that the tests see."""
    return System(Program("kvraft", _WINDOW), members, proxied=True)


def memory(*, mutant: int | None = None) -> System:
    """The HTTP API over the keyspace in one process, without Raft or disk; with a bug planted if so asked."""
    environment = {} if mutant is None else {MUTANT_VARIABLE: str(mutant)}
    return System(Program("kvraft", _WINDOW, environment, (sys.executable, str(_MEMORY_SUBJECT))), 1)


def subject(members: int = 1, secured: Secured | None = None) -> System:
    """What is held against etcd (see `subject_name`), started."""
    match subject_name():
        case "etcd":
            return etcd(members, secured)
        case "kvraft":
            return kvraft(members, secured)
        case "memory":
            assert secured is None, "the API in memory has no TLS"
            return memory()
