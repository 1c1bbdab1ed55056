"""A cluster that nobody gets into: TLS for clients and peers, and auth with a role that is just enough."""

import base64
import dataclasses
import json
import ssl
from pathlib import Path
from typing import Final, final

from kvraft.testing.certificates import Authority
from kvraft.testing.cluster import Cluster, ClusterError, Kind, Member, Program
from tests.jepsen_like.names import name_of
from tests.jepsen_like.network import Network

NETS: Final = (0, 1)
"""Of a member's addresses: where it begins, and where faults move it."""
_USER: Final = "jepsen"
_PASSWORD: Final = "pw"
_KEYS: Final = ["/jepsen*", "/kill*"]
"""Beginnings: who may only see what is below `/kill/` may not watch `/kill` with all below it, as in etcd."""


@final
@dataclasses.dataclass(frozen=True, slots=True)
class Way:
    """How clients get in."""

    tls: ssl.SSLContext | None = None
    """Whom they believe; None for http."""
    headers: tuple[tuple[str, str], ...] = ()
    """Who they are."""

    @property
    def lines(self) -> str:
        """The headers as they go out."""
        return "".join(f"{name}: {value}\r\n" for name, value in self.headers)


ANYBODY: Final = Way()
"""The way into a cluster that is open."""


def secured(kind: Kind, flags: dict[str, str], directory: Path, network: Network) -> Program:
    """Members that share a certificate for all their names and addresses; the harness asks as root."""
    authority = Authority(directory)
    hosts = [network.address(member, net) for member in network.members for net in NETS]
    shared = authority.issue("member", hosts=[*hosts, *map(name_of, network.members)])
    files = {
        "cert-file": shared.cert_file,
        "key-file": shared.key_file,
        "peer-cert-file": shared.cert_file,
        "peer-key-file": shared.key_file,
        "peer-trusted-ca-file": authority.ca_file,
        "peer-client-cert-auth": "true",
    }
    context = ssl.create_default_context(cafile=authority.ca_file)
    return Program(kind, flags | files, client_tls=context, client_headers=(_login("root"),), peer_scheme="https")


def options(member: Member) -> list[str]:
    """With which kvraft's subcommands get in; none where everybody does."""
    program = member.program
    if program.client_tls is None:
        return []
    return ["--cacert", program.flags["peer-trusted-ca-file"], "--user", f"root:{_PASSWORD}"]


def closed(cluster: Cluster) -> Way:
    """Turn auth on; the way in that is left to clients: a user of the keys of all workloads, and of no others.

    Raises:
        ClusterError: a request of this was refused.
    """
    role = {"role": _USER, "permissions": {"kv": {"read": _KEYS, "write": _KEYS}}}
    guest = {"role": "guest", "permissions": {"kv": {"read": ["/"], "write": []}}}
    for target, body in (
        ("users/root", {"user": "root", "password": _PASSWORD}),
        (f"roles/{_USER}", role),
        ("roles/guest", guest),
        (f"users/{_USER}", {"user": _USER, "password": _PASSWORD, "roles": [_USER]}),
        ("enable", None),
    ):
        data = None if body is None else json.dumps(body).encode()
        answer = cluster.members[0].http("PUT", f"/v2/auth/{target}", body=data)
        if answer.status not in {200, 201}:
            raise ClusterError(f"PUT of {target} was answered {answer.status}: {answer.body!r}")
    return Way(cluster.program.client_tls, (_login(_USER),))


def _login(user: str) -> tuple[str, str]:
    return "Authorization", "Basic " + base64.b64encode(f"{user}:{_PASSWORD}".encode()).decode()
