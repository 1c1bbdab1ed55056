"""A thousand logins, right and wrong, while users change: no password is anywhere afterwards, hashes only in data."""

import asyncio
import base64
import json
import random
import re
import shutil
from collections import Counter
from pathlib import Path
from typing import Final

import pytest

from kvraft.testing.cluster import Cluster, Member, Program
from kvraft.testing.raw_http import Answer, Connection

pytestmark = [pytest.mark.slow, pytest.mark.landing, pytest.mark.timeout(900)]

LOGINS: Final = 1000
USERS: Final = tuple(f"u{number:04}" for number in range(40))
"""With its colon such a name is six bytes: base64 of what follows begins anew, and looks the same behind each name."""
MARK: Final = b"S3CRET"
"""Begins every password, so that one search finds each of them."""
ENCODED: Final = base64.b64encode(MARK)
ROOT: Final = f"root:{MARK.decode()}-0-of-all"
HASH: Final = b"$2b$"
PAGES: Final = (
    *("/metrics", "/health", "/version", "/debug/vars", "/debug/pprof/", "/debug/pprof/cmdline", "/debug/requests"),
    *("/v2/stats/self", "/v2/stats/store", "/v2/stats/leader", "/v2/members", "/v2/machines", "/config/local/log"),
    *("/v2/auth/users", "/v2/auth/users/u0001", "/v2/auth/roles", "/v2/auth/enable", "/v2/keys/?recursive=true"),
)
AT_ONCE: Final = 4
ANSWER_WITHIN_S: Final = 120
"""Passwords are compared one after another, by a thread that gives way to all others."""


def basic(login: str) -> tuple[str, str]:
    """The header that says who asks."""
    return "Authorization", "Basic " + base64.b64encode(login.encode()).decode()


class Story:
    """Who is asked, what the passwords are now, and everything that was answered."""

    def __init__(self, cluster: Cluster, seed: int) -> None:
        self.answers: list[Answer] = []
        self.statuses: Counter[int] = Counter()
        self._cluster = cluster
        self._random = random.Random(seed)
        self._count = 0
        self._password_of: dict[str, str] = {"root": ROOT.partition(":")[2]}

    def fresh(self) -> str:
        """A password that nobody has had."""
        self._count += 1
        return f"{MARK.decode()}-{self._count}-{self._random.getrandbits(64):x}"

    async def ask(self, client: Connection, method: str, path: str, login: str | None, body: object = None) -> Answer:
        """Ask as somebody, and keep what was answered."""
        headers = [] if login is None else [basic(login)]
        sent = b"" if body is None else json.dumps(body).encode()
        answer = await client.request(method, path, headers=headers, body=sent, timeout_s=ANSWER_WITHIN_S)
        self.answers.append(answer)
        self.statuses[answer.status] += 1
        return answer

    async def begin(self) -> None:
        """Make the users, and turn auth on."""
        async with await self._cluster.members[0].connect() as client:
            made = {"user": "root", "password": self._password_of["root"]}
            assert (await self.ask(client, "PUT", "/v2/auth/users/root", None, made)).status == 201
            rights = {"kv": {"read": ["/*"], "write": ["/*"]}}
            await self.ask(client, "PUT", "/v2/auth/roles/all", None, {"role": "all", "permissions": rights})
            for name in USERS:
                await self.change(client, name)
            assert (await self.ask(client, "PUT", "/v2/auth/enable", None)).status == 200
            await self.ask(client, "DELETE", "/v2/auth/roles/guest", ROOT)

    async def change(self, client: Connection, name: str) -> None:
        """Give a user another password; the first one makes him."""
        password = self.fresh()
        given = {"user": name, "password": password, **({} if name in self._password_of else {"roles": ["all"]})}
        assert (await self.ask(client, "PUT", f"/v2/auth/users/{name}", ROOT, given)).status == 200
        self._password_of[name] = password

    async def log_in(self, member: Member, count: int) -> None:
        """So many logins on one connection, half of them with what is right, half with what never was."""
        async with await member.connect() as client:
            for _ in range(count):
                name = self._random.choice(USERS)
                login = f"{name}:{self._random.choice((self._password_of[name], self.fresh()))}"
                path = self._random.choice(("/v2/keys/k?quorum=true", "/v2/keys/", "/v2/auth/users", "/v2/members"))
                await self.ask(client, self._random.choice(("GET", "PUT", "DELETE")), path, login)
                if self._random.random() < 0.05:
                    await self.change(client, name)


async def odd_requests(story: Story, member: Member) -> None:
    """Passwords where they do not belong: all of it is refused, and none of it is repeated."""
    login = f"u0001:{story.fresh()}"
    header = ": ".join(basic(login))
    for sent in (
        f"GET http://{login}@127.0.0.1/v2/keys/k HTTP/1.1\r\nHost: x\r\n\r\n",
        f"GET /v2/nowhere?password={story.fresh()} HTTP/1.1\r\nHost: x\r\n{header}\r\n\r\n",
        f"BREW /v2/keys/k HTTP/1.1\r\nHost: x\r\n{header}\r\n\r\n",
        f"GET /v2/keys/k HTTP/9.9\r\nHost: x\r\n{header}\r\n\r\n",
        f"GET /v2/keys/k HTTP/1.1\r\nHost: x\r\n{header}\r\nno header\r\n\r\n",
        f"GET /v2/keys/k HTTP/1.1\r\nHost: x\r\n{header}\r\nContent-Length: {story.fresh()}\r\n\r\n",
        f"GET /v2/keys/k HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {story.fresh()}\r\n\r\n",
        f"GET /v2/keys/k HTTP/1.1\r\nHost: x\r\nAuthorization: Basic {story.fresh()}\r\n\r\n",
        f"GET /v2/keys/k HTTP/1.1\r\nHost: x\r\n{header}\r\nPadding: {'x' * 2_000_000}\r\n\r\n",
    ):
        async with await member.connect() as client:
            try:
                await client.send_raw(sent.encode())
                story.answers.append(await client.read_answer())
            except (ConnectionError, asyncio.IncompleteReadError):
                continue
    for body in (
        f'{{"user":"u0001","password":"{story.fresh()}"',
        f'{{"user":"u0001","password":["{story.fresh()}"]}}',
        f'{{"user":"{story.fresh()}","password":"{story.fresh()}"}}',
        f'{{"user":"u0001","passwort":"{story.fresh()}"}}',
    ):
        async with await member.connect() as client:
            answer = await client.request("PUT", "/v2/auth/users/u0001", headers=[basic(ROOT)], body=body.encode())
            story.answers.append(answer)


def found_in(data: bytes, *, is_data: bool) -> list[bytes]:
    """What is secret and stands there."""
    return [mark for mark in (MARK, ENCODED, *(() if is_data else (HASH,))) if mark in data]


async def test_after_a_thousand_logins_no_secret_is_anywhere(tmp_path: Path) -> None:
    """Not in data, logs (every line of debug), the audit log, metrics, stats, debug pages, or any answer."""
    seed = random.SystemRandom().getrandbits(32)
    print(f"seed {seed}")
    flags = {"audit-log": "stderr", "log-level": "debug", "snapshot-count": "200"}
    with Cluster(tmp_path, program=Program(flags=flags, client_headers=(basic(ROOT),))) as cluster:
        story = Story(cluster, seed)
        await story.begin()
        share = LOGINS // (AT_ONCE * len(cluster.members)) + 1
        await asyncio.gather(*(story.log_in(member, share) for member in cluster.members for _ in range(AT_ONCE)))
        assert story.statuses[401] > LOGINS // 5
        assert story.statuses[200] + story.statuses[404] > LOGINS // 5
        for member in cluster.members:
            await odd_requests(story, member)
        await asyncio.to_thread(lose_a_disk, cluster)
        for member in cluster.members:
            for page in PAGES:
                for login in (None, ROOT):
                    async with await member.connect() as client:
                        await story.ask(client, "GET", page, login)
        for member in cluster.members:
            member.terminate()
    for number, answer in enumerate(story.answers):
        shown = answer.body + str(answer.headers).encode()
        assert found_in(shown, is_data=False) == [], (number, answer)
    for member in cluster.members:
        files = [path for path in member.data_dir.rglob("*") if path.is_file()]
        kept = b"".join(path.read_bytes() for path in files)
        assert all(name.encode() in kept for name in USERS), "data is stored as it is: a password would be seen"
        assert HASH in kept
        for path in files:
            assert found_in(path.read_bytes(), is_data=True) == [], path
        log = member.log_text()
        assert len(re.findall(r'"user": ?"u\d{4}"', log)) > LOGINS // 20, "the audit log has the logins"
        assert [line for line in log.splitlines() if found_in(line.encode(), is_data=False)] == []


def lose_a_disk(cluster: Cluster) -> None:
    """A follower gets everything anew from the others, users and all."""
    follower = cluster.followers()[0]
    follower.kill()
    shutil.rmtree(follower.data_dir)
    follower.cluster_flags["rebuild"] = "true"
    follower.start()
    follower.wait_ready()
