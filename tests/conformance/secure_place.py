"""Three members of etcd and of kvraft with TLS and auth on, the certificates, and who may do what there."""

import json
import ssl
from pathlib import Path
from typing import Final, final

from kvraft.testing.certificates import Authority
from kvraft.testing.certificates import Pair as Certificate
from tests.conformance import systems
from tests.conformance.differential.pair import Pair
from tests.conformance.etcdctl import Etcdctl
from tests.conformance.wire import Request

ROOT: Final = "root:of-the-tree"
LIMITED: Final = "gardener"
RIGHTS: Final = {
    "kv": {"read": ["/a*", "/d/*", "/queue*", "/e*", "/"], "write": ["/a", "/d/*", "/queue/*", "/e*", "/letterbox/*"]}
}
ACCOUNTS: Final[tuple[tuple[str, dict[str, object]], ...]] = (
    ("users/root", {"user": "root", "password": ROOT.partition(":")[2]}),
    ("roles/garden", {"role": "garden", "permissions": RIGHTS}),
    (f"users/{LIMITED}", {"user": LIMITED, "password": "spade", "roles": ["garden"]}),
    ("roles/guest", {"role": "guest", "permissions": {"kv": {"read": ["/public/*"], "write": []}}}),
    ("enable", {}),
)


@final
class SecurePlace:
    """Three members of each, and the certificates."""

    def __init__(self, directory: Path) -> None:
        self.ca: Final = Authority(directory)
        self.other: Final = Authority(directory / "other", "other")
        self.certificate_of: Final = {
            name: self.ca.issue(name, hosts=()) for name in ("root", LIMITED, "no user of this name")
        }
        server, root = self.ca.issue("server"), self.certificate_of["root"]
        context = ssl.create_default_context(cafile=self.ca.ca_file)
        context.load_cert_chain(root.cert_file, root.key_file)
        flags = {"cert-file": server.cert_file, "key-file": server.key_file, "trusted-ca-file": self.ca.ca_file}
        self.secured: Final = systems.Secured({**flags, "client-cert-auth": "true"}, context)
        self.servers: Pair

    def tools(self, shown: str = "no user of this name", login: str | None = None) -> tuple[Etcdctl, Etcdctl]:
        """The command for each of the two."""
        options = [*self.options(self.certificate_of[shown]), *(() if login is None else ("--username", login))]
        return Etcdctl(self.servers.oracle, *options), Etcdctl(self.servers.subject, *options)

    def options(self, certificate: Certificate) -> list[str]:
        """What tells etcdctl of a certificate, and whom to believe."""
        files = certificate.cert_file, certificate.key_file
        return ["--ca-file", self.ca.ca_file, "--cert-file", files[0], "--key-file", files[1]]

    def ask(self, method: str, path: str, body: object = None) -> None:
        """Change users or roles of both, as root by his certificate."""
        sent = Request(method, f"/v2/auth/{path}".encode(), None if body is None else json.dumps(body).encode())
        answers = self.servers.ask(sent)
        assert {answer.status for answer in answers} <= {200, 201}, (path, answers)

    def enable(self) -> None:
        """Make the users and turn auth on."""
        for path, body in ACCOUNTS:
            self.ask("PUT", path, body)
        self.servers.align()

    def disable(self) -> None:
        """Turn auth off, and forget everybody."""
        for path in ("enable", "users/root", f"users/{LIMITED}", "roles/garden", "roles/guest"):
            self.ask("DELETE", path)
