"""What docs/operations.md tells an operator to type about moving in and out, typed: every command of these sections."""

import asyncio
import contextlib
import os
import re
import shlex
import signal
import ssl
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from kvraft.testing.certificates import Authority
from kvraft.testing.cluster import Cluster, Member, Program
from tests.migration.importing import WITHIN_S, etcd, put, tree

pytestmark = [pytest.mark.slow, pytest.mark.landing]

PAGE: Final = Path(__file__).parents[2] / "docs" / "operations.md"


def _blocks(heading: str) -> Iterator[str]:
    """The shell blocks below a heading, up to the next one."""
    _, found, rest = PAGE.read_text().partition(f"\n{heading}\n")
    assert found, f"the page has no section {heading!r}"
    section = re.split(r"^#+ ", rest, maxsplit=1, flags=re.MULTILINE)[0]
    yield from re.findall(r"```sh\n(.*?)```", section, re.DOTALL)


class _Operator:
    """Somebody in a directory, at hosts of the page that are members here."""

    def __init__(self, directory: Path, old: Member, new: Member) -> None:
        self.directory = directory
        self._places = {"10.0.0.9": old, "10.0.0.1": new}
        self.data_dir = old.data_dir
        binaries = directory / "bin"
        binaries.mkdir()
        command = binaries / "kvraft"
        command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m kvraft "$@"\n')
        command.chmod(0o755)
        self._path = f"{binaries}{os.pathsep}{os.environ['PATH']}"

    async def types(self, block: str, *, switches: bool = False) -> str:
        """A block, to its end; Ctrl-C as soon as it follows, if it does. What it printed."""
        for host, member in self._places.items():
            block = re.sub(rf"https?://{re.escape(host)}:2379", member.client_url, block)
        block = block.replace("/var/lib/etcd", str(self.data_dir))
        process = await asyncio.create_subprocess_exec(
            *("sh", "-ec", f"exec {block}" if switches else block),
            cwd=self.directory,
            env=os.environ | {"PATH": self._path},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
        assert process.stdout is not None
        printed = ""
        async with asyncio.timeout(WITHIN_S):
            async for line in process.stdout:
                printed += line.decode()
                if switches and line.startswith(b"following"):
                    os.killpg(process.pid, signal.SIGINT)
            assert await process.wait() == 0, f"{block}\n{printed}"
        return printed


async def test_every_command_about_moving_does_what_the_page_says(tmp_path: Path) -> None:
    """In live, from a dead directory, as text, and out again, to v3."""
    with etcd(tmp_path / "etcd") as old, contextlib.ExitStack() as stack:
        new, third = (stack.enter_context(Cluster(tmp_path / name, size=1)) for name in ("new", "third"))
        source, target = old.members[0], new.members[0]
        put(source, "/a/b", "1")
        put(source, "/_hidden/k", "2")
        operator = _Operator(tmp_path, source, target)
        (tmp_path / "passwords").write_text("root:secret\n")

        live, _ = _blocks("### From a running cluster, etcd 2.3 or 3.4")
        assert "no difference" in await operator.types(live, switches=True)
        assert tree(target, "/_hidden") == tree(source, "/_hidden")

        put(target, "/later", "3")
        (text,) = _blocks("### As text")
        await operator.types(text)
        assert tree(source) == tree(target)

        (out, migrate) = _blocks("## Going back to etcd, or on to its v3")
        put(target, "/latest", "4")
        await operator.types(out.rstrip() + " --overwrite", switches=True)
        assert tree(source, "/_hidden") == tree(target, "/_hidden")

        assert source.terminate() in {0, -signal.SIGTERM}
        other = _Operator(tmp_path / "third", source, third.members[0])
        dead, founds = _blocks("### From the directory of a dead cluster")
        assert "no difference" in await other.types(dead)
        await other.types(founds.replace("/var/lib/kvraft", str(tmp_path / "founded")))
        assert sorted(path.name for path in (tmp_path / "founded").iterdir()) == ["n1", "n2", "n3"]
        assert tree(third.members[0], "/_hidden") == tree(target, "/_hidden")

        await operator.types(migrate)
        source.restart()
        v3 = f"ETCDCTL_API=3 etcdctl --endpoints {source.client_url} get --prefix /"
        assert (await operator.types(v3)).split() == ["/a/b", "1", "/later", "3", "/latest", "4"]


def _secured(directory: Path, kind: str, ca_file: str, password: str) -> Cluster:
    """A member with TLS, and auth with this password of root."""
    ca = Authority(directory, "ca")
    Path(ca.ca_file).replace(ca_file)
    pair = ca.issue("server")
    trust = ssl.create_default_context(cafile=ca_file)
    flags = {"cert-file": pair.cert_file, "key-file": pair.key_file}
    program = Program("etcd" if kind == "etcd" else "kvraft", flags, client_tls=trust)
    cluster = Cluster(directory, size=1, program=program)
    cluster.start()
    headers = [("Content-Type", "application/json")]
    body = f'{{"user":"root","password":"{password}"}}'.encode()
    assert cluster.members[0].http("PUT", "/v2/auth/users/root", body=body, headers=headers).status == 201
    assert cluster.members[0].http("PUT", "/v2/auth/enable").status == 200
    return cluster


async def test_the_command_with_tls_and_users_does_what_the_page_says(tmp_path: Path) -> None:
    """A CA and a root on either side."""
    with (
        _secured(tmp_path / "etcd", "etcd", str(tmp_path / "old-ca.pem"), "old") as old,
        _secured(tmp_path / "new", "kvraft", str(tmp_path / "new-ca.pem"), "new") as new,
    ):
        put(old.members[0], "/a", "1")
        _, secured = _blocks("### From a running cluster, etcd 2.3 or 3.4")
        operator = _Operator(tmp_path, old.members[0], new.members[0])
        assert "no difference" in await operator.types(secured)
        assert tree(new.members[0]) == tree(old.members[0])
