"""etcd and the subject with two doors each: one in the open, one for whoever shows a certificate."""

import ssl
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final, final

from kvraft.testing import ports
from kvraft.testing.certificates import Authority
from tests.conformance import systems
from tests.conformance.auth_matrix.cells import CERTIFICATES
from tests.conformance.differential.pair import Pair, pair
from tests.conformance.wire import Connection


@final
class Doors:
    """Both servers, and connections by certificate."""

    def __init__(self, servers: Pair, urls: tuple[str, str], contexts: dict[str, ssl.SSLContext]) -> None:
        self.servers: Final = servers
        self._urls = urls
        self._contexts = contexts
        self._open: dict[str, tuple[Connection, Connection]] = {}

    def connections(self, common_name: str) -> tuple[Connection, Connection]:
        """Kept ones of whoever has this common name, to etcd and to the subject."""
        kept = self._open.get(common_name)
        if kept is None:
            kept = self._open[common_name] = self.new_connections(common_name)
        return kept

    def new_connections(self, common_name: str) -> tuple[Connection, Connection]:
        """For a watch."""
        one, other = (Connection(url, tls=self._contexts[common_name]) for url in self._urls)
        return one, other

    def close(self) -> None:
        """Hang up."""
        for kept in self._open.values():
            for connection in kept:
                connection.close()


@contextmanager
def doors() -> Iterator[Doors]:
    """A started etcd and subject at the same index, and a certificate for each name in `CERTIFICATES`."""
    with ExitStack() as stack:
        ca = Authority(Path(stack.enter_context(tempfile.TemporaryDirectory())))
        server = ca.issue("server of all")
        flags = {
            "cert-file": server.cert_file,
            "key-file": server.key_file,
            "trusted-ca-file": ca.ca_file,
            "client-cert-auth": "true",
        }
        reservation = ports.reserve(2)
        stack.callback(reservation.release)
        one, other = (f"https://127.0.0.1:{port}" for port in reservation.ports)
        contexts = {}
        for common_name in CERTIFICATES:
            client = ca.issue(common_name, hosts=())
            contexts[common_name] = ssl.create_default_context(cafile=ca.ca_file)
            contexts[common_name].load_cert_chain(client.cert_file, client.key_file)
        oracle = stack.enter_context(systems.etcd(1, systems.Secured(flags, contexts["root"], one)))
        subject = stack.enter_context(systems.subject(1, systems.Secured(flags, contexts["root"], other)))
        servers = stack.enter_context(pair(oracle, subject))
        servers.align()
        opened = Doors(servers, (one, other), contexts)
        stack.callback(opened.close)
        yield opened
