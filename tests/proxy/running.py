"""Proxies as processes, kvraft's and the real etcd's, before clusters of either."""

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from kvraft.testing import ports
from kvraft.testing.cluster import Cluster, Kind, Member, Program

MINUTES: Final = "3600000"
"""A refresh interval within which no test ends: the proxy stays with one member."""


@contextlib.contextmanager
def laid_out(
    cluster: Cluster, kind: Kind = "kvraft", name: str = "proxy", files: Mapping[str, str] | None = None, **flags: str
) -> Iterator[Member]:
    """A proxy before a cluster, not started yet; it has no peer port, whatever its flags say. Killed in the end.

    `files` are more flags, with their dashes.
    """
    founding = {"proxy": "on", "initial-cluster": cluster.initial_cluster()}
    given = {**(files or {}), **{flag.replace("_", "-"): value for flag, value in flags.items()}}
    is_secure = "cert-file" in given
    program = Program(kind, founding | given, client_tls=cluster.program.client_tls if is_secure else None)
    reserved = ports.reserve(2)
    client_port, peer_port = reserved.ports
    proxy = Member(name, program, cluster.directory, client_port, peer_port)
    try:
        yield proxy
    finally:
        proxy.kill()
        reserved.release()


@contextlib.contextmanager
def running(
    cluster: Cluster,
    kind: Kind = "kvraft",
    name: str = "proxy",
    files: Mapping[str, str] | None = None,
    wrapper: Sequence[str] = (),
    **flags: str,
) -> Iterator[Member]:
    """The same, started and answering; behind the words of `wrapper`, if there are any."""
    with laid_out(cluster, kind, name, files, **flags) as proxy:
        proxy.program = dataclasses.replace(proxy.program, wrapper=wrapper)
        proxy.start()
        proxy.wait_ready()
        yield proxy
