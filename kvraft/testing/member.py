"""One member as a process: started, signalled, waited for, asked over HTTP.

Everything here blocks, with a deadline; an asyncio test calls the waits through `asyncio.to_thread` where its own
tasks must go on meanwhile. A member keeps its ports, its directory and its log file over restarts.
"""

import contextlib
import dataclasses
import http.client
import os
import pathlib
import re
import select
import shutil
import signal
import ssl
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Literal, TypeVar, final

from kvraft import clock
from kvraft.testing import leash, ports, raw_http

Kind = Literal["kvraft", "etcd"]

READY_WITHIN_S: Final = 60.0
"""For a start on a loaded machine; a member alone is ready within about a second."""
STOP_WITHIN_S: Final = 30.0
"""For a clean stop, a hand-over of leadership included."""
_PROBE_TIMEOUT_S: Final = 2.0
_PROBE_PAUSE_MS: Final = 20
_LOG_TAIL_BYTES: Final = 16_384

T = TypeVar("T")


class ClusterError(Exception):
    """A member did not do in time what was waited for, or ended instead. The text names it and its log."""


@final
@dataclasses.dataclass(slots=True, frozen=True)
class Program:
    """How members of a cluster are started."""

    kind: Kind = "kvraft"
    flags: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Flag names without dashes, over those that make up the cluster: `{"election-timeout": "500"}`."""
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)
    """Added to this process's environment."""
    wrapper: Sequence[str] = ()
    """Words put before the command: strace, faketime, ip netns exec."""
    client_tls: ssl.SSLContext | None = None
    """Clients are served at https URLs, and ask with this; `flags` has the certificates."""
    client_headers: raw_http.Headers = ()
    """Sent with every request of `Member.http`: who asks, where auth is on."""
    peer_scheme: Literal["http", "https"] = "http"

    def command(self) -> list[str]:
        """The command before any flags.

        Raises:
            ClusterError: etcd is not installed. Tests never skip for that.
        """
        if self.kind == "kvraft":
            return [*self.wrapper, sys.executable, "-m", "kvraft"]
        etcd = shutil.which("etcd")
        if etcd is None:
            raise ClusterError("etcd is not installed: run `make deps`")
        return [*self.wrapper, etcd, "--enable-v2"]


@final
class Member:
    """One process of a cluster, running or not."""

    def __init__(
        self,
        name: str,
        program: Program,
        directory: pathlib.Path,
        client_port: int,
        peer_port: int,
        host: str = ports.LOOPBACK,
    ) -> None:
        self.name: Final = name
        self.program = program
        self.data_dir: Final = directory / name
        self.log_path: Final = directory / f"{name}.log"
        self.client_port: Final = client_port
        self.peer_port = peer_port
        client_scheme = "http" if program.client_tls is None else "https"
        self.client_url: Final = f"{client_scheme}://{host}:{client_port}"
        self.peer_url = f"{program.peer_scheme}://{host}:{peer_port}"
        self.cluster_flags: dict[str, str] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self.output: int | None = None
        """A file descriptor that takes the log instead of `log_path`."""

    def __repr__(self) -> str:
        return f"<{self.program.kind} member {self.name} {self.client_url}>"

    @property
    def is_running(self) -> bool:
        """Whether its process lives; a paused one does."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The process id of the running member (of the wrapper, if there is one)."""
        assert self._process is not None, f"{self.name} was not started"
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """Exit code of the last process, negative for a signal; None while it runs or before the first start."""
        return None if self._process is None else self._process.poll()

    def command(self) -> list[str]:
        """The whole command line."""
        flags = {
            "name": self.name,
            "data-dir": str(self.data_dir),
            "listen-client-urls": self.client_url,
            "advertise-client-urls": self.client_url,
            "listen-peer-urls": self.peer_url,
            "initial-advertise-peer-urls": self.peer_url,
            **self.cluster_flags,
            **self.program.flags,
        }
        return [*self.program.command(), *(f"--{name}={value}" for name, value in flags.items())]

    def start(self) -> None:
        """Start the process; `wait_ready` waits until it serves."""
        assert not self.is_running, f"{self.name} runs already"
        environment = {name: value for name, value in os.environ.items() if not name.startswith("ETCD_")}
        with contextlib.ExitStack() as stack:
            output = self.output
            if output is None:
                output = stack.enter_context(self.log_path.open("ab")).fileno()
            self._process = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment | dict(self.program.environment),
                start_new_session=True,  # a Ctrl-C at the terminal is for whoever started us
            )
        leash.hold(self._process.pid)

    def kill(self) -> None:
        """SIGKILL, to its whole process group, and wait until it is gone. One that does not run is fine."""
        if self._process is None or self._process.returncode is not None:
            return
        leash.kill_group(self._process.pid)
        self._process.wait()
        leash.let_go(self._process.pid)

    def terminate(self, timeout_s: float = STOP_WITHIN_S) -> int:
        """SIGTERM, and wait for the exit code.

        Raises:
            ClusterError: it still runs after `timeout_s`; then it is killed.
        """
        assert self._process is not None, f"{self.name} was not started"
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        return self.wait_exit(timeout_s)

    def wait_exit(self, timeout_s: float = STOP_WITHIN_S) -> int:
        """Wait until the process ends by itself, and return its exit code.

        Raises:
            ClusterError: it still runs after `timeout_s`; then it is killed.
        """
        assert self._process is not None, f"{self.name} was not started"
        try:
            code = self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise ClusterError(f"{self.name} still ran after {timeout_s:g} s\n{self.log_tail()}") from None
        leash.let_go(self._process.pid)
        return code

    def restart(self, timeout_s: float = READY_WITHIN_S) -> None:
        """Kill -9 if it runs, start again on the same data, and wait until it serves."""
        self.kill()
        self.start()
        self.wait_ready(timeout_s)

    def signal(self, number: int) -> None:
        """Send any signal to the process."""
        os.kill(self.pid, number)

    def pause(self) -> None:
        """SIGSTOP: the process stands still, its sockets stay open."""
        leash.kill_group(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        leash.kill_group(self.pid, signal.SIGCONT)

    def http(
        self,
        method: str,
        target: str,
        *,
        form: raw_http.FormValues | None = None,
        body: bytes | None = None,
        headers: raw_http.Headers = (),
        timeout_s: float = raw_http.DEADLINE_S,
    ) -> raw_http.Answer:
        """One blocking request on its own connection (see `raw_http.exchange`)."""
        return raw_http.exchange(
            self.client_url,
            method,
            target,
            form=form,
            body=body,
            headers=[*self.program.client_headers, *headers],
            timeout_s=timeout_s,
            tls=self.program.client_tls,
        )

    async def connect(self) -> raw_http.Connection:
        """An asyncio connection to the client port."""
        return await raw_http.Connection.open(self.client_url, tls=self.program.client_tls)

    def wait_listening(self, timeout_s: float = READY_WITHIN_S) -> None:
        """Wait until it answers at all, with or without a leader."""
        self.wait_for("an answer", lambda: self._probe("/version"), timeout_s)

    def wait_ready(self, timeout_s: float = READY_WITHIN_S) -> None:
        """Wait until it answers a linearizable read, which needs a leader and a quorum.

        Raises:
            ClusterError: not within `timeout_s`, or the process ended.
        """
        self.wait_for("a linearizable read", lambda: self._probe("/v2/keys/?quorum=true"), timeout_s)

    def wait_for(self, what: str, condition: Callable[[], T | None], timeout_s: float) -> T:
        """Ask until `condition` gives something true; between two askings only the end of the process is waited for.

        Raises:
            ClusterError: not within `timeout_s`, or the process ended.
        """
        deadline_ms = clock.monotonic_ms() + int(timeout_s * 1000)
        while True:
            if not self.is_running:
                raise ClusterError(f"{self.name} ended with {self.exit_code}\n{self.log_tail()}")
            found = condition()
            if found:
                return found
            if clock.monotonic_ms() > deadline_ms:
                raise ClusterError(f"{self.name}: no {what} within {timeout_s:g} s\n{self.log_tail()}")
            pause_or_exit(self.pid)

    def wait_for_log(self, pattern: str, timeout_s: float = READY_WITHIN_S) -> re.Match[str]:
        """Wait until the log of the member, all its starts included, has a match of the pattern."""
        compiled = re.compile(pattern)
        return self.wait_for(f"log line like {pattern!r}", lambda: compiled.search(self.log_text()), timeout_s)

    def wait_for_text(self, text: str, timeout_s: float = READY_WITHIN_S) -> None:
        """Wait until its log has this: a thread of the member writes its lines, a moment after what they tell of."""
        if text not in self.log_text():
            self.wait_for_log(re.escape(text), timeout_s)

    def self_stats(self) -> dict[str, object]:
        """`/v2/stats/self`; empty if it does not answer in time."""
        try:
            answer = self.http("GET", "/v2/stats/self", timeout_s=_PROBE_TIMEOUT_S)
            stats: dict[str, object] = answer.json() if answer.status == 200 else {}
        except (OSError, http.client.HTTPException, ValueError):
            return {}
        return stats

    def log_text(self) -> str:
        """Everything it has logged to its file."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def log_tail(self) -> str:
        """The end of the log under a line that names the member, for failure reports."""
        return f"--- {self.name}: end of {self.log_path}\n{self.log_text()[-_LOG_TAIL_BYTES:]}"

    def _probe(self, target: str) -> bool:
        try:
            return self.http("GET", target, timeout_s=_PROBE_TIMEOUT_S).status == 200
        except (OSError, http.client.HTTPException):
            return False


def pause_or_exit(pid: int) -> None:
    """Wait 20 ms, or until the process ends."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        poll.poll(_PROBE_PAUSE_MS)
    finally:
        os.close(descriptor)
