"""A large etcd that is moved under writes, and from its directory once it is killed: nothing is missing."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from kvraft.testing.cluster import Cluster
from tests.migration import importing
from tests.migration.importing import Importing, Writers, etcd, files, fill, put, tree

pytestmark = [pytest.mark.slow, pytest.mark.torture, pytest.mark.timeout(3600)]

_JSON = [("Content-Type", "application/json")]


async def test_an_etcd_with_100_000_keys_is_moved_live_and_from_its_directory(
    tmp_path: Path, scaled: Callable[[int, str], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """TTLs, users, roles, hidden keys and eight writers; then the same from the directory of that etcd, killed."""
    monkeypatch.setattr(importing, "WITHIN_S", 1800)
    count = scaled(100_000, "keys moved")
    with etcd(tmp_path / "etcd") as old, Cluster(tmp_path / "new", size=3) as new:
        source, target = old.members[0], new.members[0]
        began = time.monotonic()
        await fill(source.client_url, count)
        print(f"filled with {count} keys in {time.monotonic() - began:.0f} s")
        put(source, "/_hidden/k")
        for path, body in (
            ("roles/r", b'{"role":"r","permissions":{"kv":{"read":["/data/*"],"write":[]}}}'),
            ("users/u", b'{"user":"u","password":"word","roles":["r"]}'),
        ):
            assert source.http("PUT", f"/v2/auth/{path}", body=body, headers=_JSON).status in {200, 201}
        (tmp_path / "passwords").write_text("u:word\n")
        writers = Writers(source.client_url, 8, seed=5)
        began = time.monotonic()
        run = await Importing.begin(
            *("--from", source.client_url, "--to", ",".join(new.client_urls), "--hidden=/_hidden"),
            *(f"--passwords={tmp_path / 'passwords'}", f"--state={tmp_path / 'state'}"),
        )
        await run.until("following")
        print(f"copied in {time.monotonic() - began:.0f} s, {writers.acknowledged} writes meanwhile")
        await asyncio.sleep(5)
        await writers.stop()
        began = time.monotonic()
        exit_code, out = await run.switch()
        print(f"switched over in {time.monotonic() - began:.0f} s: {out}", *run.told, sep="\n")
        assert exit_code == 0
        shown = tree(source, "/_hidden")
        assert len(shown) > count
        assert tree(target, "/_hidden") == shown
        assert files(tree(target), "/w") == writers.expected
        users = target.http("GET", "/v2/auth/users").json()["users"]
        assert [(user["user"], [role["role"] for role in user["roles"]]) for user in users] == [("u", ["r"])]
        source.kill()
        with Cluster(tmp_path / "other", size=1) as other:
            began = time.monotonic()
            run = await Importing.begin(
                *("--from-data-dir", str(source.data_dir), "--to", other.members[0].client_url),
                *(f"--passwords={tmp_path / 'passwords'}", f"--state={tmp_path / 'state'}"),
            )
            exit_code, out = await run.end()
            print(f"from its directory in {time.monotonic() - began:.0f} s: {out}", *run.told, sep="\n")
            assert exit_code == 0
            assert tree(other.members[0], "/_hidden") == shown
