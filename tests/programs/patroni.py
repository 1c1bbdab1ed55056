"""PostgreSQL servers under Patroni, which keeps its leader lock in a cluster under test.

Everything runs as the user `postgres` in directories of its own; Debian's `main` cluster is never touched. Patroni and
what it needs are a folder of Python packages that `tools/deps programs` made.
"""

import contextlib
import http.client
import itertools
import json
import os
import pathlib
import pwd
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Self, TypeVar, final

from kvraft import clock
from kvraft.testing import leash
from kvraft.testing.ports import LOOPBACK

USER: Final = "postgres"
SCOPE: Final = "kvraft"
TTL_S: Final = 20
"""Of the leader lock: the shortest that Patroni takes."""
LOOP_WAIT_S: Final = 2
RETRY_TIMEOUT_S: Final = 8
PACKAGES: Final = pathlib.Path(__file__).parents[2] / ".programs"
_SAMPLE_S: Final = 0.05
_ASK_TIMEOUT_S: Final = 5.0

T = TypeVar("T")


class PatroniError(Exception):
    """Patroni, or a PostgreSQL server under it, did not do in time what was waited for."""


def binaries() -> pathlib.Path:
    """Where Debian's PostgreSQL servers are: the newest version's `bin`.

    Raises:
        PatroniError: not installed.
    """
    found = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[4]))
    if not found:
        raise PatroniError("PostgreSQL is not installed: run `make conformance`")
    return found[-1].parent


@final
@dataclass(slots=True)
class Server:
    """One PostgreSQL server and the Patroni that minds it."""

    name: str
    directory: pathlib.Path
    postgres_port: int
    rest_port: int
    etcd_hosts: Sequence[str]
    """`address:port` of the members that it is told of; it learns of others by itself."""
    etcd_options: Mapping[str, str]
    """How it asks them, where that is not plain HTTP without a user; in Patroni's words."""
    _patroni: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> pathlib.Path:
        """What Patroni and the server said."""
        return self.directory / "patroni.log"

    def start(self) -> None:
        """Start Patroni, which starts the server, or makes one first."""
        self.directory.mkdir(exist_ok=True)
        settings = self.directory / "patroni.yml"
        settings.write_text(json.dumps(self._settings()))  # JSON is YAML
        for path in (self.directory, settings):
            shutil.chown(path, USER, USER)
        with self.log.open("ab") as log:
            self._patroni = subprocess.Popen(
                [*as_postgres(self.directory), sys.executable, "-P", "-m", "patroni", str(settings)],
                stdout=log,
                stderr=log,
                cwd=self.directory,
                start_new_session=True,
            )
        leash.hold(self._patroni.pid)

    def kill(self) -> None:
        """Kill -9 Patroni and every process of the server at once, as when the machine dies."""
        with contextlib.suppress(FileNotFoundError, ProcessLookupError, ValueError):
            pid = int((self.directory / "data" / "postmaster.pid").read_text().splitlines()[0])
            if b"postgres" in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes():
                os.kill(pid, signal.SIGKILL)
        if self._patroni is not None:
            leash.kill_group(self._patroni.pid)
            self._patroni.wait()
            leash.let_go(self._patroni.pid)
            self._patroni = None

    def status(self) -> dict[str, object]:
        """What Patroni's REST API says of its server; empty if nobody answers."""
        connection = http.client.HTTPConnection(LOOPBACK, self.rest_port, timeout=_ASK_TIMEOUT_S)
        try:
            connection.request("GET", "/patroni")
            answer = json.loads(connection.getresponse().read())
        except (OSError, http.client.HTTPException, ValueError):
            return {}
        finally:
            connection.close()
        return answer if isinstance(answer, dict) else {}

    def hand_over(self, candidate: "Server") -> None:
        """Ask Patroni to make another server the primary in place of this one; `patronictl switchover` does the same.

        Raises:
            PatroniError: it does not.
        """
        connection = http.client.HTTPConnection(LOOPBACK, self.rest_port, timeout=TTL_S * 3)
        try:
            connection.request("POST", "/switchover", json.dumps({"leader": self.name, "candidate": candidate.name}))
            answer = connection.getresponse()
            said = answer.read().decode(errors="replace")
        except (OSError, http.client.HTTPException) as error:
            raise PatroniError(f"{self.name}: switchover: {error!r}") from error
        finally:
            connection.close()
        # It looks for some 20 s how it goes, and answers 503 where that is not over yet.
        if answer.status >= http.client.BAD_REQUEST and answer.status != http.client.SERVICE_UNAVAILABLE:
            raise PatroniError(f"{self.name}: switchover: {answer.status} {said}")

    def sql(self, statement: str) -> str:
        """What `psql` prints for a statement.

        Raises:
            PatroniError: the server is away, or refused it.
        """
        done = subprocess.run(
            self._psql("--command", statement), capture_output=True, text=True, timeout=60, check=False
        )
        if done.returncode:
            raise PatroniError(f"{self.name}: {done.stderr.strip()}")
        return done.stdout.strip()

    def samples(self) -> subprocess.Popen[str]:
        """A session that prints `<unix seconds>|<t or f: in recovery>` every 50 ms until the server ends it."""
        session = subprocess.Popen(
            self._psql(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert session.stdin is not None
        question = "SELECT extract(epoch FROM clock_timestamp()), pg_is_in_recovery()"
        with contextlib.suppress(BrokenPipeError):
            session.stdin.write(f"{question} \\watch {_SAMPLE_S}\n")
            session.stdin.flush()
        return session

    def _psql(self, *more: str) -> list[str]:
        address = f"host={LOOPBACK} port={self.postgres_port} user={USER} password={SCOPE} dbname=postgres"
        timeouts = "connect_timeout=2 options='-c statement_timeout=10s'"
        return ["psql", "-X", "-At", "-v", "ON_ERROR_STOP=1", *more, "--dbname", f"{address} {timeouts}"]

    def _settings(self) -> dict[str, object]:
        """The file that Patroni reads; the shortest times that it takes."""
        shared: dict[str, object] = {
            "synchronous_mode": True,
            "ttl": TTL_S,
            "loop_wait": LOOP_WAIT_S,
            "retry_timeout": RETRY_TIMEOUT_S,
            "postgresql": {"use_pg_rewind": True},
        }
        user = {"username": USER, "password": SCOPE}
        return {
            "scope": SCOPE,
            "name": self.name,
            "restapi": {"listen": f"{LOOPBACK}:{self.rest_port}", "connect_address": f"{LOOPBACK}:{self.rest_port}"},
            "etcd": {"hosts": list(self.etcd_hosts), **self.etcd_options},
            "bootstrap": {
                "dcs": shared,
                "initdb": [{"encoding": "UTF8"}, {"locale": "C"}, "data-checksums"],
            },
            "postgresql": {
                "listen": f"{LOOPBACK}:{self.postgres_port}",
                "connect_address": f"{LOOPBACK}:{self.postgres_port}",
                "data_dir": str(self.directory / "data"),
                "bin_dir": str(binaries()),
                "pgpass": str(self.directory / "pgpass"),
                "pg_hba": [
                    "host all all 127.0.0.1/32 scram-sha-256",
                    "host replication all 127.0.0.1/32 scram-sha-256",
                ],
                "authentication": {"superuser": user, "replication": user},
                "parameters": {
                    "unix_socket_directories": str(self.directory),
                    "shared_buffers": "16MB",
                    "max_connections": 40,
                    "log_min_messages": "fatal",
                },
            },
        }


def as_postgres(home: pathlib.Path) -> list[str]:
    """The words before a command that runs as the user `postgres` with Patroni's packages.

    It may read what root can, because the interpreter and the checkout may lie in root's home.
    """
    account = pwd.getpwnam(USER)
    return [
        *("setpriv", f"--reuid={account.pw_uid}", f"--regid={account.pw_gid}", "--init-groups"),
        *("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search", "--"),
        *("env", "-i", "PATH=/usr/bin:/bin", f"PYTHONPATH={PACKAGES}", f"HOME={home}"),
        *("PYTHONDONTWRITEBYTECODE=1", "LC_ALL=C.UTF-8"),
    ]


@final
class Patroni:
    """Three servers that elect a primary through the members of a cluster under test. Killed on exit."""

    def __init__(
        self,
        directory: pathlib.Path,
        ports: Sequence[int],
        etcd_hosts: Sequence[str],
        etcd_options: Mapping[str, str] | None = None,
    ) -> None:
        """Lay them out in a directory, with six ports.

        Raises:
            PatroniError: the packages are not there.
        """
        if not PACKAGES.is_dir():
            raise PatroniError(f"{PACKAGES.name} is missing: run `make conformance`")
        self.servers: Final = tuple(
            Server(
                f"pg{number}",
                directory / f"pg{number}",
                ports[number - 1],
                ports[number + 2],
                etcd_hosts,
                etcd_options or {},
            )
            for number in range(1, 4)
        )

    def __enter__(self) -> Self:
        for server in self.servers:
            server.start()
        return self

    def __exit__(self, *_: object) -> None:
        for server in self.servers:
            server.kill()

    def primary(self, timeout_s: float, other_than: Server | None = None) -> Server:
        """The server that Patroni calls the primary."""

        def found() -> Server | None:
            return next((s for s in self.servers if s is not other_than and _is(s, "primary")), None)

        return self.wait_for("primary", found, timeout_s)

    def wait_for_replicas(self, count: int, timeout_s: float) -> None:
        """Wait until so many servers stream from the primary, one of them synchronously."""

        def streaming() -> bool:
            members = _members(next((s for s in self.servers if s.status()), self.servers[0]))
            roles = [role for role, state in members if state == "streaming"]
            return len(roles) >= count and "sync_standby" in roles

        self.wait_for(f"{count} streaming replicas", streaming, timeout_s)

    def wait_until_all_asked(self, timeout_s: float) -> None:
        """Wait until every Patroni has begun to read the state of its cluster after this call, and got it."""
        begun = time.time()

        def asked() -> bool:
            return all(_last_answer(server) > begun + 2 * LOOP_WAIT_S for server in self.servers)

        self.wait_for("answer to every server", asked, timeout_s)

    def wait_for(self, what: str, condition: Callable[[], T | None], timeout_s: float) -> T:
        """Ask until `condition` gives something true.

        Raises:
            PatroniError: not within `timeout_s`; with the ends of the logs.
        """
        deadline_ms = clock.monotonic_ms() + int(timeout_s * 1000)
        pause = threading.Event()
        while clock.monotonic_ms() < deadline_ms:
            if found := condition():
                return found
            pause.wait(0.1)
        logs = "\n".join(f"--- {s.name}\n{s.log.read_text(errors='replace')[-3000:]}" for s in self.servers)
        raise PatroniError(f"no {what} within {timeout_s:g} s\n{logs}")


def _is(server: Server, role: str) -> bool:
    status = server.status()
    return status.get("role") == role and status.get("state") == "running"


def _last_answer(server: Server) -> float:
    """Unix seconds, whole ones, of when it last had the state of the cluster from a member; 0 if nobody can tell."""
    seen = server.status().get("dcs_last_seen", 0)
    assert isinstance(seen, int)
    return seen


def _members(server: Server) -> list[tuple[str, str]]:
    """Role and state of every server, as one of them sees the cluster."""
    connection = http.client.HTTPConnection(LOOPBACK, server.rest_port, timeout=_ASK_TIMEOUT_S)
    try:
        connection.request("GET", "/cluster")
        members = json.loads(connection.getresponse().read())["members"]
    except (OSError, http.client.HTTPException, ValueError, KeyError):
        return []
    finally:
        connection.close()
    return [(member["role"], member["state"]) for member in members]


@final
class PrimaryWatch:
    """Records when each server took writes, and judges that no two ever did at once.

    PostgreSQL leaves recovery within a session, and goes back into it only by a restart, which ends the session: so a
    server was primary from the first to the last sample of a session that says so.
    """

    def __init__(self, servers: Sequence[Server]) -> None:
        self.periods: list[tuple[float, float, str]] = []
        """Unix seconds of the first and the last sample, and whose."""
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._sessions: dict[str, subprocess.Popen[str]] = {}
        self._threads = [threading.Thread(target=self._follow, args=(server,)) for server in servers]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        with self._lock:
            for session in self._sessions.values():
                session.kill()
        for thread in self._threads:
            thread.join()

    def overlaps(self) -> list[str]:
        """Every pair of servers that were primary at the same time, in words."""
        periods = sorted(self.periods)
        return [
            f"{first[2]} {first[0]:.3f}-{first[1]:.3f} and {second[2]} {second[0]:.3f}-{second[1]:.3f}"
            for number, first in enumerate(periods)
            for second in periods[number + 1 :]
            if first[2] != second[2] and second[0] <= first[1]
        ]

    def longest_gap_s(self) -> float:
        """The longest time between the end of one primary and the next one's begin."""
        periods = sorted(self.periods)
        return max((after[0] - before[1] for before, after in itertools.pairwise(periods)), default=0.0)

    def _follow(self, server: Server) -> None:
        while not self._stopped.is_set():
            with self._lock:
                if self._stopped.is_set():
                    return
                session = self._sessions[server.name] = server.samples()
            as_primary = [at for at, recovering in _read(session) if not recovering]
            session.wait()
            if as_primary:
                self.periods.append((as_primary[0], as_primary[-1], server.name))
            self._stopped.wait(_SAMPLE_S)


def _read(session: subprocess.Popen[str]) -> Iterator[tuple[float, bool]]:
    assert session.stdout is not None
    assert session.stdin is not None
    for line in session.stdout:
        if sample := re.match(r"([0-9.]+)\|([tf])", line):
            yield float(sample[1]), sample[2] == "t"
    session.stdout.close()
    with contextlib.suppress(BrokenPipeError):
        session.stdin.close()


@final
class Writer:
    """Writes numbers to whoever is primary, and remembers which ones were acknowledged."""

    def __init__(self, servers: Sequence[Server]) -> None:
        self._servers = servers
        self.acknowledged: list[int] = []
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._write)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def _write(self) -> None:
        number = 0
        while not self._stopped.wait(_SAMPLE_S):
            for server in self._servers:
                number += 1
                try:
                    server.sql(f"INSERT INTO numbers VALUES ({number})")
                except (PatroniError, subprocess.TimeoutExpired):
                    continue
                self.acknowledged.append(number)
                break
