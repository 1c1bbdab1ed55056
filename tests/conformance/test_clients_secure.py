"""Real clients over TLS and with users, against three members of etcd and of kvraft: python-etcd, curl, node-etcd 7."""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import etcd
import etcd.auth
import pytest

from tests.conformance.differential.pair import Server
from tests.conformance.secure_place import ROOT, SecurePlace

pytestmark = [pytest.mark.slow, pytest.mark.landing, pytest.mark.timeout(300)]

APP: Final = "app:p:ss word &"
"""With a colon and a blank in the password. Beyond ASCII each client has an encoding of its own."""
RIGHTS: Final = {"kv": {"read": ["/app/*"], "write": ["/app/*"]}}
NODE: Final = Path(__file__).parents[1] / "programs" / "node_etcd" / "client.js"
NODE_MODULES: Final = Path(__file__).parents[2] / ".programs" / "node" / "node_modules"
ENDS_WITHIN_S: Final = 120


@pytest.fixture
def place(secure_place: SecurePlace) -> Iterator[SecurePlace]:
    """Empty stores at equal indices, and a user who may do all below /app."""
    name, _, password = APP.partition(":")
    secure_place.ask("PUT", "roles/app", {"role": "app", "permissions": RIGHTS})
    secure_place.ask("PUT", f"users/{name}", {"user": name, "password": password, "roles": ["app"]})
    secure_place.servers.reset()
    yield secure_place
    secure_place.ask("DELETE", f"users/{name}")
    secure_place.ask("DELETE", "roles/app")


def both(place: SecurePlace) -> tuple[Server, Server]:
    """etcd first."""  # noqa: D403 -- its name
    return place.servers.both


def python_etcd(place: SecurePlace, server: Server) -> Iterator[object]:
    """What a program with python-etcd sees, by somebody, by root, and by those who are nobody."""
    shown = place.certificate_of["no user of this name"]

    def client(login: str | None, **more: Any) -> Any:
        hosts = tuple(("127.0.0.1", member.client_port) for member in server.system.cluster.members)
        given: dict[str, Any] = {
            "host": hosts,
            "protocol": "https",
            "ca_cert": place.ca.ca_file,
            "cert": (shown.cert_file, shown.key_file),
            "allow_reconnect": True,
            "read_timeout": 20,
        }
        if login is not None:
            given["username"], _, given["password"] = login.partition(":")
        return etcd.Client(**(given | more))

    def outcome(do: Any) -> object:
        try:
            said = do()
        except etcd.EtcdException as error:
            text = re.sub(r"127\.0\.0\.1:\d+|port=\d+|0x[0-9a-f]+", "<place>", str(error))
            return type(error).__name__, text if "certificate" not in text.lower() else "<of certificates>"
        return vars(said) if isinstance(said, etcd.EtcdResult) else said

    app = client(APP)
    yield outcome(lambda: app.write("/app/a", "1").value)
    yield outcome(lambda: app.write("/app/a", "2", prevValue="1").modifiedIndex)
    yield outcome(lambda: app.write("/app/a", "3", prevValue="1"))
    yield outcome(lambda: app.read("/app/a", quorum=True).value)
    yield outcome(lambda: app.write("/app/q", "x", append=True).key)
    yield outcome(lambda: [node.key for node in app.read("/app", recursive=True, sorted=True).children])
    yield outcome(lambda: app.read("/app/a", wait=True, waitIndex=app.read("/app/a").modifiedIndex).value)
    yield outcome(lambda: app.delete("/app/a").action)
    yield outcome(lambda: app.write("/elsewhere", "1"))
    yield outcome(lambda: app.read("/"))
    yield outcome(lambda: etcd.auth.EtcdUser(app, "app").read())
    yield outcome(lambda: sorted(member["name"] for member in app.members.values()))
    lock = etcd.Lock(client(APP), "below")
    lock.path = "/app/_locks/below"
    yield outcome(lambda: lock.acquire(blocking=True, lock_ttl=60))
    yield outcome(lock.release)

    root = client(ROOT)
    role = etcd.auth.EtcdRole(root, "more")
    role.grant("/more/*", "RW")
    yield outcome(role.write)
    user = etcd.auth.EtcdUser(root, "made")
    user.password = "given"
    user.roles = ["more"]
    yield outcome(user.write)
    yield outcome(lambda: client("made:given").write("/more/k", "1").value)
    yield outcome(lambda: client("made:given").write("/app/k", "1").value)
    yield outcome(lambda: sorted(each["role"] for each in etcd.auth.EtcdRole(root, "more").names))
    yield outcome(user.delete)
    yield outcome(role.delete)
    yield outcome(lambda: client("made:given").read("/more/k"))

    yield outcome(lambda: client("app:wrong", allow_reconnect=False).read("/app/q"))
    yield outcome(lambda: client(None).read("/app/q"))
    yield outcome(lambda: client(APP, cert=None, allow_reconnect=False).read("/app/q"))[0]  # type: ignore[index] # an error is a pair
    yield outcome(lambda: client(APP, ca_cert=place.other.ca_file, allow_reconnect=False).read("/app/q"))[0]  # type: ignore[index] # as above


def test_python_etcd_sees_the_same(place: SecurePlace) -> None:
    """Keys, watches, a lock, users and roles, and what it is refused."""
    expected, actual = (list(python_etcd(place, server)) for server in both(place))
    assert actual == expected
    assert expected[0] == "1"
    assert "EtcdInsufficientPermissions" in str(expected)


def curl(place: SecurePlace, server: Server) -> Iterator[object]:
    """What somebody at a terminal sees."""
    shown = place.certificate_of["no user of this name"]
    url = server.url(0)
    certificates = ("--cacert", place.ca.ca_file, "--cert", shown.cert_file, "--key", shown.key_file)

    def run(*words: str) -> tuple[int, str, str]:
        command = ["curl", "-sS", "--max-time", "20", "-w", "\n%{http_code} %{content_type}", *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=ENDS_WITHIN_S, check=False)
        return done.returncode, done.stdout, re.sub(r"port \d+", "port <port>", done.stderr)

    def ask(login: str | None, *words: str) -> tuple[int, str, str]:
        return run(*certificates, *(() if login is None else ("-u", login)), *words)

    yield ask(APP, "-XPUT", "--data-urlencode", "value=1 & 2", f"{url}/v2/keys/app/k")
    yield ask(APP, f"{url}/v2/keys/app/k")
    yield ask(APP, "-L", "-XPUT", "-d", "value=3", f"{url}/v2/keys/app/k?prevExist=true")
    yield ask(APP, "-XPOST", "-d", "value=3", f"{url}/v2/keys/app/queue")
    yield ask(APP, f"{url}/v2/keys/app?recursive=true&sorted=true")
    yield ask(APP, f"{url}/v2/keys/app/k?wait=true&waitIndex=1")
    yield ask(APP, "--http2", f"{url}/v2/keys/app/k")
    yield ask(APP, "-XDELETE", f"{url}/v2/keys/app/k")
    yield ask(APP, "-XPUT", "-d", "value=1", f"{url}/v2/keys/other")
    for login in ("app:wrong", "nobody:x", ROOT, None):
        yield ask(login, f"{url}/v2/keys/app")
        yield ask(login, f"{url}/v2/auth/users/app")
    yield ask(None, f"{url}/v2/auth/enable")
    # The server's refusal meets curl while it sends, or while it reads, as they come: 55 or 56.
    code, *_ = run("--cacert", place.ca.ca_file, f"{url}/v2/keys/app")
    yield "refused" if code in {55, 56} else code
    yield run("--cacert", place.other.ca_file, *certificates[2:], f"{url}/v2/keys/app")[0]
    # Which is empty with etcd, and says so with kvraft.
    yield "action" in run(*certificates, "-u", APP, url.replace("https:", "http:") + "/v2/keys/app")[1]


def test_curl_sees_the_same(place: SecurePlace) -> None:
    """Every method, and every way to be turned away."""
    expected, actual = (list(curl(place, server)) for server in both(place))
    assert actual == expected
    assert r'"value":"1 \u0026 2"' in expected[0][1]  # type: ignore[index] # exit code, output, errors


def node_etcd(place: SecurePlace, server: Server) -> list[dict[str, Any]]:
    """What a program with node-etcd sees, one outcome a line (client.js)."""
    assert NODE_MODULES.is_dir(), f"{NODE_MODULES} is missing: run `make conformance`"
    shown = place.certificate_of["no user of this name"]
    name, _, password = APP.partition(":")
    given = {
        "hosts": server.system.client_urls,
        "user": name,
        "pass": password,
        "ca": place.ca.ca_file,
        "cert": shown.cert_file,
        "key": shown.key_file,
    }
    done = subprocess.run(
        ["node", "--no-deprecation", str(NODE), json.dumps(given)],
        env={**os.environ, "NODE_PATH": str(NODE_MODULES), "NODE_OPTIONS": ""},
        capture_output=True,
        text=True,
        timeout=ENDS_WITHIN_S,
        check=False,
    )
    assert done.returncode == 0, (str(server.system), done.stdout[-2000:], done.stderr[-2000:])
    return [masked(json.loads(line)) for line in done.stdout.splitlines()]


def masked(said: dict[str, Any]) -> dict[str, Any]:
    """An outcome without what only the clock decides."""
    text = re.sub(r'"expiration": ?"[^"]*"', '"expiration": "<time>"', json.dumps(said))
    text = re.sub(r'"ttl": ?\d+', '"ttl": 0', text)
    found: dict[str, Any] = json.loads(text)
    return found


def test_node_etcd_sees_the_same(place: SecurePlace) -> None:
    """Every call of it, synchronous ones and its watcher among them."""
    expected, actual = (node_etcd(place, server) for server in both(place))
    assert actual == expected
    assert expected[-1]["body"] == [["set", "/app/w/k", "second"], ["delete", "/app/w/k", None]]
    assert {said["what"] for said in expected if "error" in said} == {
        "get nobody", "swap wrong", "mkdir again", "delete wrong", "rmdir full", "outside", "without a user",
    }  # fmt: skip
