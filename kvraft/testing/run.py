"""Three members in the foreground: `make run`, or `python -m kvraft.testing.run`.

Starts them on loopback with their data under `data/<first port>/`, shows their log lines with their names, and stops
all three cleanly on Ctrl-C or SIGTERM; a second signal kills them. Started again, the data is still there.
"""

import argparse
import contextlib
import os
import pathlib
import re
import select
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import BinaryIO, Final, NoReturn

from kvraft.start import port_holders
from kvraft.testing import ports
from kvraft.testing.cluster import Cluster, ClusterError

SPACING: Final = (0, 20_000, 30_000)
"""From the first member's ports to the others': clients 2379, 22379, 32379, as in etcd's own Procfile."""
_PORT_MAX: Final = 65_535
_print_lock: Final = threading.Lock()


class _StopError(Exception):
    """Somebody asked to stop."""


def main(arguments: list[str] | None = None) -> int:
    """Run until a signal comes or every member has ended. The exit code of the process."""
    parser = argparse.ArgumentParser(prog="python -m kvraft.testing.run", description=__doc__)
    parser.add_argument(
        "--port-base",
        default=os.environ.get("PORT_BASE", "2379"),
        help="client port of the first member (the environment's PORT_BASE, or 2379)",
    )
    parser.add_argument(
        "--data", type=pathlib.Path, default=pathlib.Path("data"), help="where the data is kept (data/)"
    )
    parser.add_argument("--kind", choices=["kvraft", "etcd"], default="kvraft", help="what to run")
    given = parser.parse_args(arguments)
    base_max = _PORT_MAX - SPACING[-1] - 1
    base = int(given.port_base) if re.fullmatch(r"[0-9]{1,5}", given.port_base, re.ASCII) else 0
    if not 1 <= base <= base_max:
        return _fail(f"PORT_BASE={_one_line(given.port_base)}: use a number from 1 to {base_max}")
    clients = [base + offset for offset in SPACING]
    peers = [port + 1 for port in clients]
    for port in (*clients, *peers):
        if not ports.may_listen(port):
            return _fail(f"port {port} is not for this user: choose a PORT_BASE from 1024 on")
        if not ports.is_free(port):
            holder = port_holders.holder_of(port) or "a process that this user may not see"
            return _fail(f"port {port} is taken by {holder}: stop it, or choose others with PORT_BASE=")
    # Members of another base are another cluster: their ids come from their URLs.
    directory = given.data / str(base)
    cluster = Cluster(directory, kind=given.kind, client_ports=clients, peer_ports=peers, durable=False)
    return _run(cluster)


def _run(cluster: Cluster) -> int:
    with contextlib.ExitStack() as stack:
        for number in (signal.SIGINT, signal.SIGTERM):
            stack.callback(signal.signal, number, signal.signal(number, _stop))
        stack.callback(cluster.stop)
        stack.enter_context(_shown_logs(cluster))
        try:
            cluster.start()
            _announce(cluster)
            _wait_until_all_ended(cluster)
        except _StopError:
            return _stop_cleanly(cluster)
        except ClusterError as error:
            return _fail(str(error).partition("\n")[0])
        except OSError as error:
            return _fail(f"{_one_line(error.filename or cluster.directory)}: {error.strerror}: choose another --data")
    return _fail("every member has ended")


def _announce(cluster: Cluster) -> None:
    leader = cluster.leader()
    _say(f"endpoints: {','.join(cluster.client_urls)}")
    _say(f"processes: {', '.join(f'{member.name} is {member.pid}' for member in cluster.running)}")
    _say(f"leader: {leader.name} at {leader.client_url}")
    _say(f"data: {cluster.directory.resolve()}; Ctrl-C stops all three")


def _wait_until_all_ended(cluster: Cluster) -> None:
    """Wait for the ends of processes, naming each, until a signal's exception or none is left."""
    watched = {os.pidfd_open(member.pid): member for member in cluster.running}
    poll = select.poll()
    for descriptor in watched:
        poll.register(descriptor, select.POLLIN)
    try:
        while watched:
            for descriptor, _event in poll.poll():
                member = watched.pop(descriptor)
                poll.unregister(descriptor)
                os.close(descriptor)
                _say(f"{member.name} ended with {member.wait_exit()}; {len(watched)} left")
    finally:
        for descriptor in watched:
            os.close(descriptor)


def _stop_cleanly(cluster: Cluster) -> int:
    """SIGTERM to all, so that a leader hands over if it can, and wait for each."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _kill)
    _say("stopping")
    running = cluster.running
    for member in running:
        member.signal(signal.SIGTERM)
    codes = {member.name: member.wait_exit() for member in running}
    # etcd ends by the signal itself, after it has closed its files.
    bad = {name: code for name, code in codes.items() if code not in {0, -signal.SIGTERM}}
    for name, code in bad.items():
        _say(f"{name} ended with {code}")
    _say("stopped; the data is kept")
    return 1 if bad else 0


def _stop(_number: int, _frame: FrameType | None) -> NoReturn:
    raise _StopError


def _kill(number: int, _frame: FrameType | None) -> NoReturn:
    # Unwinds through `cluster.stop`, which kills what still runs.
    sys.exit(128 + number)


@contextlib.contextmanager
def _shown_logs(cluster: Cluster) -> Iterator[None]:
    """Print what members write, each line under its member's name."""
    threads = []
    for member in cluster.members:
        read_end, member.output = os.pipe()
        threads.append(threading.Thread(target=_pump, args=(member.name, os.fdopen(read_end, "rb"))))
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        cluster.stop()
        for member in cluster.members:
            if member.output is not None:
                os.close(member.output)
                member.output = None
        for thread in threads:
            thread.join()


def _pump(name: str, pipe: BinaryIO) -> None:
    with pipe:
        for line in pipe:
            _print(f"{name} | {line.decode(errors='replace').rstrip()}")


def _say(line: str) -> None:
    _print(f"-- | {line}")


def _print(line: str) -> None:
    with _print_lock:
        print(line, flush=True)  # noqa: T201 -- the terminal is what this program writes to


def _one_line(text: object) -> str:
    """As it can be shown."""
    return str(text).encode("unicode_escape", "backslashreplace").decode()


def _fail(line: str) -> int:
    print(f"kvraft: {line}", file=sys.stderr)  # noqa: T201 -- as above
    return 1


if __name__ == "__main__":
    sys.exit(main())
