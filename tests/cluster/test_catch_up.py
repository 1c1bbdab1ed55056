"""A member that was away while the log was compacted comes back by snapshot, while writes and watches go on."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from kvraft.testing.cluster import Cluster, Member
from kvraft.testing.raw_http import Connection
from tests.cluster.load import write_many, write_until_compacted

MISSED_WRITES = 50_000
KEYS = 2_000


def _state(member: Member) -> tuple[Any, Any, bytes]:
    """Indices, state hash and whole tree of one member, by local reads."""
    tree = member.http("GET", "/v2/keys/?recursive=true&sorted=true").body
    variables = member.http("GET", "/debug/vars").json()["kvraft"]
    return variables["etcd_index"], variables["state_hash"], tree


def _agree(cluster: Cluster) -> bool:
    return len({_state(member) for member in cluster.members}) == 1


async def _events_until(connection: Connection, last: str) -> list[int]:
    """Indices of a stream watch's events, up to the one that wrote `last`."""
    indices = []
    while True:
        event = json.loads(await connection.read_chunk(timeout_s=60))
        indices.append(event["node"]["modifiedIndex"])
        if event["node"].get("value") == last:
            return indices


@pytest.mark.slow
def test_follower_that_is_far_behind_lets_a_client_wait_for_what_comes_next(tmp_path: Path) -> None:
    """The client knows the index from another member; only an index beyond all members' is refused (401)."""
    with Cluster(tmp_path / "cluster") as cluster:
        away = cluster.followers()[0]
        serving = next(member for member in cluster.members if member is not away)

        async def story() -> None:
            away.pause()
            await write_many(serving.client_url, 1_000, "/away/k")
            known = serving.http("GET", "/v2/keys/").etcd_index
            async with await Connection.open(away.client_url) as watching:
                # It waits in the socket of the paused member, which answers before it has caught up.
                await watching.send("GET", f"/v2/keys/next?wait=true&waitIndex={known + 1}")
                away.resume()
                assert (await watching.read_head()).status == 200
                serving.http("PUT", "/v2/keys/next", form={"value": "1"})
                assert json.loads(await watching.read_chunk())["node"]["modifiedIndex"] == known + 1

        asyncio.run(story())
        for member in cluster.members:
            refused = member.http("GET", "/v2/keys/next?wait=true&waitIndex=100000")
            assert (refused.status, refused.json()["errorCode"]) == (400, 401)


@pytest.mark.slow
@pytest.mark.landing
@pytest.mark.timeout(240)
def test_follower_catches_up_by_snapshot_with_a_watch_open_on_it(tmp_path: Path) -> None:
    """50,000 writes and a compacted log later a paused follower gets a snapshot; its open watch misses no event."""
    with Cluster(tmp_path / "cluster", flags={"snapshot-count": "1000"}) as cluster:
        away = cluster.followers()[0]
        serving = next(member for member in cluster.members if member is not away)

        async def story() -> list[int]:
            async with await Connection.open(away.client_url) as watching:
                await watching.stream("/v2/keys/away?wait=true&recursive=true&stream=true")
                await write_many(serving.client_url, 10, "/away/before-")
                missed_from = int(serving.http("GET", "/v2/keys/").header("X-Raft-Index") or "") + 1
                away.pause()
                await write_many(serving.client_url, MISSED_WRITES, "/away/k", distinct=KEYS)
                await asyncio.to_thread(write_until_compacted, cluster.leader(), missed_from)
                away.resume()
                writing = asyncio.create_task(write_many(serving.client_url, 2_000, "/away/meanwhile-"))
                await asyncio.to_thread(away.wait_for_log, "snapshot installed", 60)
                await writing
                serving.http("PUT", "/v2/keys/away/end", form={"value": "the end"})
                return await _events_until(watching, "the end")

        indices = asyncio.run(story())
        assert len(indices) == 10 + MISSED_WRITES + 2_000 + 1
        assert indices == sorted(set(indices))
        cluster.wait_for("agreement of all members", lambda: _agree(cluster), 60)
        print(f"{MISSED_WRITES} writes missed; the watch on the absent member saw all {len(indices)} events in order")


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_follower_killed_before_compaction_catches_up_by_snapshot(tmp_path: Path) -> None:
    """The same with a process that was gone: its old state is replaced, and it survives another restart."""
    with Cluster(tmp_path / "cluster", flags={"snapshot-count": "1000"}) as cluster:
        away = cluster.followers()[0]
        serving = next(member for member in cluster.members if member is not away)
        asyncio.run(write_many(serving.client_url, 3_000, "/gone/before-", distinct=500))
        missed_from = int(serving.http("GET", "/v2/keys/").header("X-Raft-Index") or "") + 1
        away.kill()
        asyncio.run(write_many(serving.client_url, 10_000, "/gone/k", distinct=KEYS))
        serving.http("DELETE", "/v2/keys/gone/before-1")
        giver = cluster.leader()
        write_until_compacted(giver, missed_from)
        away.start()
        away.wait_for_log("snapshot installed", 60)
        assert b"etcd_disk_backend_snapshot_duration_seconds_count 1.0" in giver.http("GET", "/metrics").body
        away.wait_ready()
        cluster.wait_for("agreement of all members", lambda: _agree(cluster), 60)
        away.restart()
        assert away.http("GET", "/v2/keys/gone/before-1").status == 404
        cluster.wait_for("agreement of all members", lambda: _agree(cluster), 60)
