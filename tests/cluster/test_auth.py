"""Users and roles on three real members: from nothing to auth, revocation everywhere at once, no secret anywhere."""

import asyncio
import base64
import json
import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import Final

import pytest

from kvraft.testing.cluster import Cluster, Program
from kvraft.testing.raw_http import Answer, Connection

pytestmark = pytest.mark.slow

PAGE: Final = Path(__file__).parents[2] / "docs" / "operations.md"
PASSWORDS: Final = ("correct-horse-0", "battery-staple-1", "wrong-guess-2")
PAGES: Final = ("/metrics", "/debug/vars", "/v2/stats/self", "/v2/auth/enable")
WRITERS: Final = 4
HASHED_WITHIN_S: Final = 100.0
"""A first login is a hash on a thread of low priority, which gets little of a busy core."""


def basic(login: str) -> tuple[str, str]:
    """The header that says who asks."""
    return "Authorization", "Basic " + base64.b64encode(login.encode()).decode()


async def ask(client: Connection, method: str, path: str, login: str | None, body: object = None) -> Answer:
    """Ask as somebody; the body is JSON, or a form if it is text."""
    headers = [] if login is None else [basic(login)]
    if isinstance(body, str):
        headers.append(("Content-Type", "application/x-www-form-urlencoded"))
    sent = b"" if body is None else body.encode() if isinstance(body, str) else json.dumps(body).encode()
    return await client.request(method, path, headers=tuple(headers), body=sent, timeout_s=HASHED_WITHIN_S)


def written_below(directory: Path) -> list[bytes]:
    """What is in the files."""
    return [path.read_bytes() for path in directory.rglob("*") if path.is_file()]


def test_commands_of_the_page_turn_auth_on(tmp_path: Path) -> None:
    """docs/operations.md, "Users and roles": each command, as it stands there, does what the page says."""
    section = PAGE.read_text().partition("\n## Users and roles\n")[2].partition("\n## ")[0]
    blocks = re.findall(r"```console\n(.*?)```", section, re.DOTALL)
    commands = [line for block in blocks for line in block.splitlines()]
    assert len(commands) > 8
    with Cluster(tmp_path, size=3) as cluster:
        cluster.start()
        url = cluster.client_urls[0]
        environment = {**os.environ, "ETCDCTL_API": "2", "ETCDCTL_ENDPOINTS": ",".join(cluster.client_urls)}
        for line in commands:
            words = shlex.split(line.removeprefix("$ ").replace("http://127.0.0.1:2379", url))
            if words[0] == "etcdctl":
                # A password may take a busy machine seconds.
                words[1:1] = ["--timeout", "20s", "--total-timeout", "40s"]
            done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False, timeout=60)
            assert done.returncode == 0, (line, done.stdout, done.stderr)
        denied = subprocess.run(
            ["etcdctl", "set", "/app/x", "1"], env=environment, capture_output=True, text=True, check=False, timeout=60
        )
        assert "Insufficient credentials" in denied.stderr


@pytest.mark.timeout(300)
async def test_a_revocation_holds_everywhere_and_nothing_shows_a_password(tmp_path: Path) -> None:
    """Writers on all members lose their right by a change on one: what succeeds is before it in every log.

    After it, no password that was given, right or wrong, stands in any file, log line or page of the members.
    """
    audit = {"audit-log": str(tmp_path / "audit.log")}
    with Cluster(tmp_path, size=3, program=Program("kvraft", audit)) as cluster:
        cluster.start()
        root = f"root:{PASSWORDS[0]}"
        writer = f"writer:{PASSWORDS[1]}"
        clients = [await Connection.open(url) for url in cluster.client_urls]
        users = "/v2/auth/users"
        await ask(clients[0], "PUT", f"{users}/root", None, {"user": "root", "password": PASSWORDS[0]})
        permissions = {"kv": {"read": [], "write": ["/w/*"]}}
        await ask(clients[1], "PUT", "/v2/auth/roles/w", None, {"role": "w", "permissions": permissions})
        made = {"user": "writer", "password": PASSWORDS[1], "roles": ["w"]}
        assert (await ask(clients[2], "PUT", f"{users}/writer", None, made)).status == 200
        assert (await ask(clients[0], "PUT", "/v2/auth/enable", None)).status == 200
        guest = {"role": "guest", "revoke": {"kv": {"read": ["/*"], "write": ["/*"]}}}
        assert (await ask(clients[0], "PUT", "/v2/auth/roles/guest", root, guest)).status == 200
        assert (await ask(clients[1], "GET", "/v2/keys/w/x?quorum=true", f"root:{PASSWORDS[2]}")).status == 401

        succeeded: list[int] = []
        stop, begun = asyncio.Event(), asyncio.Event()

        async def write(url: str, number: int) -> None:
            async with await Connection.open(url) as client:
                while not stop.is_set():
                    answer = await ask(client, "PUT", f"/v2/keys/w/{number}", writer, "value=1")
                    if answer.status == 401:
                        return
                    assert answer.status in {200, 201}, answer.body
                    succeeded.append(answer.etcd_index)
                    begun.set()

        urls = cluster.client_urls * WRITERS
        writing = [asyncio.ensure_future(write(url, number)) for number, url in enumerate(urls)]
        await begun.wait()
        changed = {"user": "writer", "revoke": ["w"]}
        assert (await ask(clients[2], "PUT", f"{users}/writer", root, changed)).status == 200
        answered = await ask(clients[0], "GET", "/v2/keys/w?quorum=true", root)
        async with asyncio.timeout(HASHED_WITHIN_S):
            await asyncio.gather(*writing)
        stop.set()
        assert succeeded
        assert max(succeeded) < answered.etcd_index, "every success stands before the revocation"

        pages = []
        for client in clients:
            assert (await ask(client, "GET", "/v2/keys/w?quorum=true", root)).etcd_index == answered.etcd_index
            shown = [await ask(client, "GET", page, None) for page in PAGES]
            pages += [answer.body for answer in shown]
            await client.close()
        hashes = {re.search(rb'"state_hash":"(\w+)"', page)[1] for page in pages if b"state_hash" in page}  # type: ignore[index] # it is there
        assert len(hashes) == 1, "the members agree"
    kept = written_below(tmp_path)
    assert any(b"$2b$10$" in file for file in kept), "hashes are"
    secrets = [password.encode() for password in PASSWORDS]
    secrets += [base64.b64encode(f"{name}:{word}".encode()) for name in ("root", "writer") for word in PASSWORDS]
    assert [secret for secret in secrets for file in (*kept, *pages) if secret in file] == []
