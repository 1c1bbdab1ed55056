"""Clusters that are moved while their clients write, with real servers on both sides: nothing is missing at the end."""

import asyncio
import base64
import contextlib
import random
import signal
import ssl
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kvraft.testing.certificates import Authority
from kvraft.testing.cluster import Cluster, Member, Program
from tests.migration.importing import Importing, etcd, files, fill, put, tree, writing

pytestmark = [pytest.mark.slow, pytest.mark.landing]

_ROOT = ("Authorization", "Basic " + base64.b64encode(b"root:secret").decode())


@pytest.mark.parametrize("into", ["kvraft", "etcd"])
async def test_an_etcd_is_moved_while_its_clients_write(tmp_path: Path, into: str) -> None:
    """Keys, TTLs, hidden keys; what was acknowledged before the switch is in the target, and the process says so."""
    target = Cluster(tmp_path / "kvraft", size=3) if into == "kvraft" else etcd(tmp_path / "other")
    with etcd(tmp_path / "etcd") as old, target as new:
        source, members = old.members[0], new.members
        await fill(source.client_url, 1000)
        put(source, "/_hidden/k")
        state = f"--state={tmp_path / 'state'}"
        async with writing(source.client_url, 4, seed=1) as writers:
            to = ",".join(new.client_urls)
            run = await Importing.begin("--from", source.client_url, "--to", to, "--hidden", "/_hidden", state)
            await run.until("following")
            before = writers.acknowledged
            await asyncio.to_thread(source.wait_for, "more writes", lambda: writers.acknowledged > before + 300, 60)
            put(source, "/_hidden/later")
            await writers.stop()
        exit_code, out = await run.switch()
        assert exit_code == 0, (run.told, out)
        assert out.endswith(" keys, no difference\n")
        assert tree(members[-1], "/_hidden") == tree(source, "/_hidden")
        assert files(tree(members[-1]), "/w") == writers.expected
        assert not (tmp_path / "state").exists()


@pytest.mark.parametrize("into", ["kvraft", "etcd"])
@pytest.mark.parametrize("way", ["followed", "once", "file"])
async def test_of_a_hidden_directory_one_key_is_moved(tmp_path: Path, way: str, into: str) -> None:
    """With the directory, without what else is in it; and again, when nothing differs."""
    target = Cluster(tmp_path / "kvraft", size=1) if into == "kvraft" else etcd(tmp_path / "other")
    with etcd(tmp_path / "etcd") as old, target as new:
        source = old.members[0]
        for key in ("/_a/b/c", "/_a/other", "/vis"):
            put(source, key)
        named: tuple[str, ...] = ("--from", source.client_url, "--hidden", "/_a/b")
        if way == "file":
            named = (str(tmp_path / "tree"),)
            command = ("export", "--endpoints", source.client_url, "--hidden", "/_a/b", *named)
            export = await asyncio.create_subprocess_exec(sys.executable, "-m", "kvraft", *command)
            assert await export.wait() == 0
        state = f"--state={tmp_path / 'state'}"
        for more in ((), ("--overwrite",)):
            once = ("--once",) if way == "once" else ()
            run = await Importing.begin(*named, "--to", new.members[0].client_url, state, *once, *more)
            if way == "followed":
                await run.until("following")
                put(source, f"/_a/b/later{len(more)}")
                exit_code, out = await run.switch()
            else:
                exit_code, out = await run.end()
            assert exit_code == 0, (run.told, out)
        expected = {path: facts for path, facts in tree(source, "/_a").items() if path != "/_a/other"}
        assert tree(new.members[0], "/_a") == expected
        assert "/_a/b/c" in expected


@pytest.mark.parametrize("seed", range(2))
async def test_kills_of_either_side_and_of_the_import_change_nothing_of_its_end(tmp_path: Path, seed: int) -> None:
    """SIGKILL of source, target or the import itself, at any moment, again and again, under writes."""
    rng = random.Random(seed)
    with etcd(tmp_path / "etcd") as old, Cluster(tmp_path / "kvraft", size=1) as new:
        source, target = old.members[0], new.members[0]
        await fill(source.client_url, 800)
        arguments = ("--from", source.client_url, "--to", target.client_url, f"--state={tmp_path / 'state'}")
        run = await Importing.begin(*arguments)
        async with writing(source.client_url, 3, seed) as writers:
            for _ in range(6):
                await asyncio.sleep(rng.uniform(0.2, 2.5))
                victim = rng.choice(["source", "target", "import", "import"])
                if victim == "import":
                    await run.kill()
                    run = await Importing.begin(*arguments)
                else:
                    await asyncio.to_thread((source if victim == "source" else target).restart)
            await run.until("following")
            await writers.stop()
        exit_code, out = await run.switch()
        assert exit_code == 0, (run.told, out)
        assert tree(target) == tree(source)


@pytest.mark.parametrize("victim", ["source", "target", "import"])
@pytest.mark.parametrize("phase", ["reading the source", "copying", "following", "comparing"])
async def test_a_kill_in_any_phase_changes_nothing_of_the_end(tmp_path: Path, phase: str, victim: str) -> None:
    """SIGKILL as soon as the phase has begun: the import goes on once the other is back, or its next run does."""
    with etcd(tmp_path / "etcd") as old, Cluster(tmp_path / "kvraft", size=1) as new:
        source, target = old.members[0], new.members[0]
        await fill(source.client_url, 3000)
        arguments = ("--from", source.client_url, "--to", target.client_url, f"--state={tmp_path / 'state'}")
        run = await Importing.begin(*arguments)

        async def kill() -> Importing:
            await run.until(phase)
            if victim != "import":
                await asyncio.to_thread((source if victim == "source" else target).restart)
                return run
            await run.kill()
            assert run.process.returncode == -signal.SIGKILL, run.told
            return await Importing.begin(*arguments)

        async with writing(source.client_url, 3, seed=1) as writers:
            if phase != "comparing":
                run = await kill()
                before = writers.acknowledged
                await asyncio.to_thread(source.wait_for, "more writes", lambda: writers.acknowledged > before + 100, 60)
            await run.until("following")
            await writers.stop()
        if phase == "comparing":
            run.process.send_signal(signal.SIGINT)
            run = await kill()
        if phase == "comparing" and victim != "import":
            exit_code, out = await run.end()
        else:
            await run.until("following")
            exit_code, out = await run.switch()
        assert exit_code == 0, (run.told, out)
        assert out.endswith(" keys, no difference\n")
        assert tree(target) == tree(source)
        if victim != "source":  # of what was under way then, its writers do not know what came
            assert files(tree(target), "/w") == writers.expected


async def test_a_killed_etcds_directory_is_imported_and_an_import_that_is_killed_begins_again(tmp_path: Path) -> None:
    """Every acknowledged write is in the target; the second run goes on although the target is not empty any more."""
    with etcd(tmp_path / "etcd") as old, Cluster(tmp_path / "kvraft", size=1) as new:
        source, target = old.members[0], new.members[0]
        await fill(source.client_url, 2000)
        async with writing(source.client_url, 4, seed=3) as writers:
            await asyncio.to_thread(source.wait_for, "writes", lambda: writers.acknowledged > 300, 60)
            await writers.stop()
        shown = tree(source)
        source.kill()
        arguments = ("--from-data-dir", str(old.directory / "n1"), "--to", target.client_url)
        state = f"--state={tmp_path / 'state'}"
        run = await Importing.begin(*arguments, state)
        await run.until("copying")
        await asyncio.to_thread(target.wait_for, "some keys", lambda: tree(target) or None, 60)
        await run.kill()
        run = await Importing.begin(*arguments, state)
        exit_code, out = await run.end()
        assert exit_code == 0, (run.told, out)
        assert tree(target) == shown


def _secured(kind: str, directory: Path, ca: Authority) -> Cluster:
    """One member with TLS, client certificates and auth."""
    server = ca.issue(f"{directory.name}-server")
    flags = {
        "cert-file": server.cert_file,
        "key-file": server.key_file,
        "client-cert-auth": "true",
        "trusted-ca-file": ca.ca_file,
    }
    client = ca.issue(f"{directory.name}-client", common_name="nobody")
    trust = ssl.create_default_context(cafile=ca.ca_file)
    trust.load_cert_chain(client.cert_file, client.key_file)
    if kind == "etcd":
        flags["log-level"] = "error"
    return Cluster(directory, size=1, program=Program("etcd" if kind == "etcd" else "kvraft", flags, client_tls=trust))


def _turn_auth_on(member: Member) -> None:
    for method, path, body in (
        ("PUT", "users/root", b'{"user":"root","password":"secret"}'),
        ("PUT", "enable", None),
        ("DELETE", "roles/guest", None),
    ):
        headers = [("Content-Type", "application/json"), _ROOT]
        assert member.http(method, f"/v2/auth/{path}", body=body, headers=headers).status in {200, 201}


@pytest.mark.parametrize(("one", "other"), [("etcd", "kvraft"), ("kvraft", "etcd")])
async def test_tls_and_users_on_both_sides(tmp_path: Path, one: str, other: str) -> None:
    """Each with a CA and a root of its own; without them nothing is copied."""
    authorities = {side: Authority(tmp_path / side, side) for side in ("from", "to")}
    with contextlib.ExitStack() as stack:
        old = stack.enter_context(_secured(one, tmp_path / "old", authorities["from"])).members[0]
        new = stack.enter_context(_secured(other, tmp_path / "new", authorities["to"])).members[0]
        for member in (old, new):
            _turn_auth_on(member)
        put(old, "/a/k", "secured", [_ROOT])
        pairs = {"from": "old-client", "to": "new-client"}
        files_of: Callable[[str, str], list[str]] = lambda side, prefix: [  # noqa: E731 -- two lists of one shape
            f"--{prefix}cacert={authorities[side].ca_file}",
            f"--{prefix}cert={authorities[side].directory / (pairs[side] + '.pem')}",
            f"--{prefix}key={authorities[side].directory / (pairs[side] + '.key')}",
        ]
        base = ["--from", old.client_url, "--to", new.client_url, "--once", f"--state={tmp_path / 'state'}"]
        tls = [*files_of("from", "from-"), *files_of("to", "")]
        for missing, exit_code in (([], 2), (tls, 3)):
            run = await Importing.begin(*base, "--patience=1", *missing)
            assert (await run.end())[0] == exit_code, run.told
        run = await Importing.begin(*base, *tls, "--from-user=root:secret", "--user=root:secret")
        assert (await run.end())[0] == 0, run.told
        assert new.http("GET", "/v2/keys/a/k", headers=[_ROOT]).json()["node"]["value"] == "secured"
