"""A member that rebuilds asks whoever answers who the members are, and not the founders alone."""

import asyncio
import pathlib

import pytest

from kvraft.founding import Founder, Identity
from kvraft.settings import flags, settings
from kvraft.settings.flags import SettingsError
from kvraft.settings.settings import Settings
from kvraft.start import members_of_the_day
from kvraft.start.http_door import HttpDoor
from kvraft.start.members_of_the_day import learn_members
from kvraft.start.told_members import ToldMembers
from tests.start.fake_cluster import CLUSTER_ID, FakeCluster

OWN = "http://10.0.0.4:2380"
GONE = "http://127.0.0.1:1"
"""Nobody listens there."""


def _read(data_dir: pathlib.Path, *arguments: str, stored: Identity | None = None) -> Settings:
    return settings.from_flags(flags.read((f"--data-dir={data_dir}/d", "--name=n4", *arguments), {}), stored)


async def _learned(wanted: Settings) -> Settings:
    learned = await learn_members(wanted, asyncio.Event())
    assert learned is not None
    return learned


def _lists(first: FakeCluster, second: FakeCluster) -> None:
    """Both are members; the first has not heard yet of the newest one, and the second not of one that the first has."""
    for cluster in (first, second):
        cluster.members.clear()
        cluster.members[1] = {"id": 1, "name": "n1", "peerURLs": [first.url], "clientURLs": []}
        cluster.members[5] = {"id": 5, "name": "n5", "peerURLs": [second.url], "clientURLs": []}
        cluster.members[4] = {"id": 4, "name": "n4", "peerURLs": [OWN], "clientURLs": []}
    second.members[6] = {"id": 6, "name": "", "peerURLs": [GONE], "clientURLs": []}


async def test_everybody_of_whom_somebody_tells_is_a_member(tmp_path: pathlib.Path) -> None:
    """The directory knows of n1 alone and of one that is gone; n1 tells of n5, and n5 of the newest."""
    with FakeCluster() as first, FakeCluster() as second:
        _lists(first, second)
        known = (Founder(1, "n1", (first.url,)), Founder(2, "n2", (GONE,)), Founder(4, "n4", (OWN,)))
        stored = Identity(int(CLUSTER_ID, 16), 4, "n4", "etcd-cluster", known)
        learned = await _learned(_read(tmp_path, stored=stored))
        assert [member.member_id for member in learned.members] == [1, 5, 6, 4]
        assert (learned.member_id, learned.initial_cluster) == (4, ())


async def test_directory_that_cannot_say_whose_it_is_is_its_members_by_the_urls(tmp_path: pathlib.Path) -> None:
    """The id of one that came later is in no flag. Client URLs of --join will do as well."""
    with FakeCluster() as first, FakeCluster() as second:
        _lists(first, second)
        own = f"--initial-advertise-peer-urls={OWN}", "--listen-peer-urls=http://127.0.0.1:2380"
        for given in ((f"--initial-cluster=n1={first.url},n4={OWN}",), (*own, f"--join={first.url}")):
            learned = await _learned(_read(tmp_path, *given))
            assert (learned.member_id, f"{learned.cluster_id:x}") == (4, CLUSTER_ID)
            assert [member.member_id for member in learned.members] == [1, 5, 6, 4]


async def test_first_answer_is_waited_for_and_a_stop_heard(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """And whom it asks is said, once in a while."""
    stop, attempts = asyncio.Event(), list[Settings]()

    async def nobody(wanted: Settings, _door: HttpDoor) -> list[ToldMembers]:
        attempts.append(wanted)
        if len(attempts) == 3:
            stop.set()
        return []

    monkeypatch.setattr(members_of_the_day, "_AGAIN_S", 0.01)
    monkeypatch.setattr(members_of_the_day, "_ask_all", nobody)
    stored = Identity(7, 4, "n4", "", (Founder(2, "n2", (GONE,)), Founder(4, "n4", (OWN,))))
    assert await learn_members(_read(tmp_path, stored=stored), stop) is None
    assert len(attempts) == 3
    assert caplog.messages == ["rebuilding: no other member answers who the members are"]
    assert vars(caplog.records[0])["kvraft_fields"] == {"asked": f"n2 at {GONE}"}


async def test_member_that_is_none_any_more_is_told_so(tmp_path: pathlib.Path) -> None:
    """Its id is used up: nobody would ever answer it."""
    with FakeCluster(n1="") as cluster:
        cluster.members[1]["peerURLs"] = [cluster.url]
        stored = Identity(
            int(CLUSTER_ID, 16), 4, "n4", "", (Founder(1, "n1", (cluster.url,)), Founder(4, "n4", (OWN,)))
        )
        with pytest.raises(SettingsError, match=rf"this member at {OWN} is none of them: if it was removed, add"):
            await learn_members(_read(tmp_path, stored=stored), asyncio.Event())


async def test_other_clusters_are_not_heard(tmp_path: pathlib.Path) -> None:
    """If it is known which is this member's; otherwise two that answer leave it open."""
    with FakeCluster() as first, FakeCluster() as second:
        _lists(first, second)
        second.cluster_id = "c2"
        known = tuple(Founder(number, "", (fake.url,)) for number, fake in ((1, first), (5, second)))
        stored = Identity(int(CLUSTER_ID, 16), 4, "n4", "", (*known, Founder(4, "n4", (OWN,))))
        learned = await _learned(_read(tmp_path, stored=stored))
        assert [member.member_id for member in learned.members] == [1, 5, 4]
        wanted = _read(tmp_path, f"--initial-cluster=n1={first.url},n5={second.url},n4={OWN}")
        with pytest.raises(SettingsError, match=f"is a member of cluster {CLUSTER_ID}, and .* of c2: correct"):
            await learn_members(wanted, asyncio.Event())
