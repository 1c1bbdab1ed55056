"""Real processes come and go while clients write; beside etcd where it does otherwise."""

import asyncio
import contextlib
import http.client
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, Final, TypeVar, final

import pytest

from kvraft.testing.cluster import Cluster, ClusterError, Kind, Member
from kvraft.testing.plugin import ClusterFactory
from kvraft.testing.raw_http import Connection
from tests.cluster import operating

T = TypeVar("T")

WRITERS: Final = 8
WRITES_MORE: Final = 200
ELECTION_TIMEOUT_S: Final = 3.0
ELECTION_TIMEOUT_MS: Final = f"{ELECTION_TIMEOUT_S * 1000:.0f}"
"""Where a write or a term is not to wait for an election: longer than a busy machine holds a member up."""
WRONG: Final = "http://127.0.0.1:1"
"""A peer URL where nobody is."""
GONE: Final = "this member was removed from the cluster for good"
WITHIN_S: Final = 60.0
"""Bound on whatever should take a second at most: far beyond it, also on a busy machine."""


@final
class Writers:
    """Clients that write without pause through whoever runs, and know what was acknowledged."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._stop = asyncio.Event()
        self._last = time.monotonic()
        self.longest_gap_s = 0.0
        """The longest time in which nobody's write was acknowledged."""
        self.acknowledged = [0] * WRITERS
        self.begun = [0] * WRITERS

    @contextlib.asynccontextmanager
    async def writing(self) -> AsyncIterator["Writers"]:
        """They write as long as this is entered."""
        tasks = [asyncio.create_task(self._write_on(number)) for number in range(WRITERS)]
        self._last = time.monotonic()
        try:
            yield self
        finally:
            self._stop.set()
            await asyncio.gather(*tasks)

    async def _write_on(self, number: int) -> None:
        turn = number
        while not self._stop.is_set():
            members = self._cluster.running
            member = members[turn % len(members)]
            turn += 1
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, ValueError):
                await self._write_through(member, number)
            await asyncio.sleep(0.005)  # no whirl where nobody takes a connection

    async def _write_through(self, member: Member, number: int) -> None:
        connection = await Connection.open(member.client_url)
        try:
            while not self._stop.is_set():
                self.begun[number] = wanted = self.acknowledged[number] + 1
                async with asyncio.timeout(2 * ELECTION_TIMEOUT_S):
                    answer = await connection.request("PUT", f"/v2/keys/w/{number}", form={"value": str(wanted)})
                if answer.status not in {200, 201}:
                    return
                self.acknowledged[number] = wanted
                now = time.monotonic()
                self.longest_gap_s = max(self.longest_gap_s, now - self._last)
                self._last = now
        except TimeoutError:
            return
        finally:
            await connection.close()

    def check(self) -> None:
        """Every member holds for each writer what was acknowledged last, or what was begun after that."""
        for member in self._cluster.members:
            for number in range(WRITERS):
                answer = member.http("GET", f"/v2/keys/w/{number}?quorum=true")
                value = int(answer.json()["node"]["value"])
                assert self.acknowledged[number] <= value <= self.begun[number], (member.name, number, value)
        assert min(self.acknowledged) > 0


async def _away(work: Callable[..., T], *arguments: Any, **named: Any) -> T:
    return await asyncio.to_thread(work, *arguments, **named)


async def _grow(cluster: Cluster, size: int) -> None:
    for number in range(len(cluster.members) + 1, size + 1):
        await _until_votes(await _away(operating.add, cluster, f"n{number}"))


async def _until_votes(member: Member) -> None:
    await _away(member.wait_ready, WITHIN_S)
    await _away(member.wait_for_log, rf"members that vote .*voters=\S*\b{member.name}\b", WITHIN_S)


async def _until_gone(cluster: Cluster, member: Member) -> None:
    """Whoever is removed says so in one line and ends as one that has done its duty."""
    assert await _away(member.wait_exit, WITHIN_S) == 0
    assert GONE in member.log_tail()
    cluster.without(member)


async def _restart_soon(member: Member) -> None:
    member.kill()
    await asyncio.sleep(0.2)
    member.start()


@pytest.mark.slow
@pytest.mark.landing
@pytest.mark.timeout(400)
async def test_a_cluster_grows_and_shrinks_and_loses_its_leaders_while_clients_write(clusters: ClusterFactory) -> None:
    """1 to 3 to 5 and back to 3, the leader removed twice: nothing acknowledged is lost, and writes hardly pause."""
    cluster = clusters("kvraft", size=1, election_timeout=ELECTION_TIMEOUT_MS)
    async with Writers(cluster).writing() as writers:
        await _grow(cluster, 3)
        await _grow(cluster, 5)
        for _ in range(2):
            leader = await _away(cluster.leader)
            await _away(operating.remove, cluster, leader)
            await _until_gone(cluster, leader)
        await asyncio.sleep(0.5)
    print(f"longest write gap: {writers.longest_gap_s:.3f} s, {sum(writers.acknowledged)} writes")
    writers.check()
    assert writers.longest_gap_s < ELECTION_TIMEOUT_S


@pytest.mark.slow
@pytest.mark.landing
@pytest.mark.timeout(400)
async def test_kills_in_the_middle_of_changes_lose_nothing(clusters: ClusterFactory) -> None:
    """Every member is replaced by another, and in each change one process is killed: mostly the leader's."""
    cluster = clusters("kvraft", size=3)
    async with Writers(cluster).writing() as writers:
        for number, old in enumerate(cluster.members, 4):
            added = await _away(operating.add, cluster, f"n{number}")
            leader = await _away(cluster.leader)
            await _restart_soon(old if leader is added else leader)
            await _until_votes(added)
            victim = await _away(cluster.leader) if number % 2 else cluster.members[-1]
            removal = asyncio.create_task(_away(_remove_at_last, cluster, old))
            if victim is not old:
                await _restart_soon(victim)
            await removal
            await _until_gone(cluster, old)
        for member in cluster.members:
            await _away(member.wait_ready, WITHIN_S)
    print(f"longest write gap: {writers.longest_gap_s:.3f} s, {sum(writers.acknowledged)} writes")
    writers.check()


def _remove_at_last(cluster: Cluster, member: Member) -> None:
    """Whoever is asked may be killed meanwhile; whether it did what was asked shows in the list."""

    def is_gone() -> bool:
        others = [other for other in cluster.running if other is not member]
        with contextlib.suppress(OSError, http.client.HTTPException, ValueError, ClusterError):
            listed = [other.http("GET", "/v2/members?quorum=true").body.decode() for other in others]
            if all(member.peer_url not in members for members in listed):
                return True
            operating.remove(cluster, member, through=others[0])
        return False

    cluster.wait_for(f"removal of {member.name}", is_gone, WITHIN_S)


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 2, 3])
async def test_a_member_at_a_wrong_address_never_stops_writes(clusters: ClusterFactory, size: int) -> None:
    """And one command undoes it, whatever the size: what was stopped would never come to so many writes."""
    cluster = clusters("kvraft", size=size, election_timeout=ELECTION_TIMEOUT_MS)
    async with Writers(cluster).writing() as writers:
        wrong_id = await _away(operating.add_url, cluster.members[0], WRONG)
        await _more_writes(cluster, writers)
        answer = await _away(cluster.members[-1].http, "DELETE", f"/v2/members/{wrong_id}")
        assert answer.status == 204
        await _more_writes(cluster, writers)
    print(f"longest write gap: {writers.longest_gap_s:.3f} s")
    writers.check()
    assert writers.longest_gap_s < ELECTION_TIMEOUT_S


async def _more_writes(cluster: Cluster, writers: Writers) -> None:
    wanted = sum(writers.acknowledged) + WRITES_MORE
    await _away(cluster.wait_for, "writes that go on", lambda: sum(writers.acknowledged) >= wanted, WITHIN_S)


def _added_wrong(member: Member) -> str | None:
    """Its id; etcd adds nobody before all have been connected for 5 s."""
    try:
        return operating.add_url(member, WRONG)
    except ClusterError:
        return None


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["kvraft", "etcd"])
def test_a_member_at_a_wrong_address_and_one_of_three_that_dies(clusters: ClusterFactory, kind: Kind) -> None:
    """Two of the three that were there are enough for us; etcd wants three of four, and stands still."""
    cluster = clusters(kind, size=3)
    leader, dies = cluster.leader(), cluster.followers()[0]
    wrong_id = cluster.wait_for("a member at a wrong address", lambda: _added_wrong(leader), WITHIN_S)
    assert leader.http("PUT", "/v2/keys/a", form={"value": "1"}).status == 201
    dies.kill()
    goes_on = kind == "kvraft"
    assert leader.http("PUT", "/v2/keys/a", form={"value": "2"}, timeout_s=20).status == (200 if goes_on else 500)
    answer = leader.http("DELETE", f"/v2/members/{wrong_id}", timeout_s=20)
    assert answer.status == (204 if goes_on else 500)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["kvraft", "etcd"])
def test_removal_without_the_strict_check_while_the_others_are_no_majority(
    clusters: ClusterFactory, kind: Kind
) -> None:
    """That etcd carries out, and stands still; here the member votes until the others can do without it."""
    cluster = clusters(kind, size=3, strict_reconfig_check="false")
    leader, (away, leaving) = cluster.leader(), cluster.followers()
    away.kill()
    operating.remove(cluster, leaving, through=leader)
    if kind == "etcd":
        assert leader.http("PUT", "/v2/keys/a", form={"value": "1"}, timeout_s=20).status == 500
        return
    leader.wait_for_log(f"a removal waits until the others .* leaving={leaving.name}", WITHIN_S)
    assert leader.http("PUT", "/v2/keys/a", form={"value": "1"}).status == 201
    away.start()
    assert leaving.wait_exit(WITHIN_S) == 0
    leaving.wait_for_text(GONE)
    cluster.without(leaving)
    assert leader.http("PUT", "/v2/keys/a", form={"value": "2"}).status == 200


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["kvraft", "etcd"])
def test_last_member_is_removed_without_the_strict_check_by_etcd_alone(clusters: ClusterFactory, kind: Kind) -> None:
    """With all that it holds."""
    cluster = clusters(kind, size=1, strict_reconfig_check="false")
    (member,) = cluster.members
    assert member.http("PUT", "/v2/keys/a", form={"value": "1"}).status == 201
    target = f"/v2/members/{operating.id_of(member, member)}"
    if kind == "etcd":
        with pytest.raises((OSError, http.client.HTTPException)):
            member.http("DELETE", target, timeout_s=20)
        for _ in range(2):
            assert member.wait_exit(WITHIN_S) != 0
            member.start()
        assert member.wait_exit(WITHIN_S) != 0
        assert member.log_text().count("panic: removed all voters") == 3
        return
    answer = member.http("DELETE", target)
    assert (answer.status, answer.json()) == (500, {"message": "Internal Server Error"})
    assert member.http("GET", "/v2/keys/a?quorum=true").json()["node"]["value"] == "1"


@pytest.mark.slow
async def test_etcd_of_one_is_stopped_by_a_member_at_a_wrong_address(clusters: ClusterFactory) -> None:
    """Where ours goes on: the second member counts at once, so that neither a write nor the removal is decided."""
    cluster = clusters("etcd", size=1)
    member = cluster.members[0]
    wrong_id = operating.add_url(member, WRONG)
    written, removed = await asyncio.gather(
        _away(member.http, "PUT", "/v2/keys/a", form={"value": "1"}, timeout_s=20),
        _away(member.http, "DELETE", f"/v2/members/{wrong_id}", timeout_s=20),
    )
    assert (written.status, removed.status) == (500, 500)


@pytest.mark.slow
def test_a_member_that_was_away_hears_of_its_removal_when_it_comes_back(clusters: ClusterFactory) -> None:
    """From any of the others, and each time anew; it neither serves nor asks for votes."""
    cluster = clusters("kvraft", size=3, election_timeout=ELECTION_TIMEOUT_MS)
    away, *others = cluster.followers()
    away.kill()
    operating.remove(cluster, away)
    term = others[0].http("GET", "/v2/keys/?quorum=true").header("X-Raft-Term")
    for _ in range(2):
        away.start()
        assert away.wait_exit(WITHIN_S) == 0
    assert away.log_text().count(GONE) == 2
    assert others[0].http("GET", "/v2/keys/?quorum=true").header("X-Raft-Term") == term


@pytest.mark.slow
def test_a_member_moves_to_another_address(clusters: ClusterFactory) -> None:
    """Its peers find it there; what it was started with before says nothing any more."""
    cluster = clusters("kvraft", size=3)
    moving, *others = cluster.followers()
    asked = cluster.leader()
    spare = cluster.more("spare")
    cluster.without(spare)
    assert operating.move(asked, moving, spare.peer_url).status == 204
    moving.wait_for_log("the peer URLs of this member were changed", WITHIN_S)
    moving.kill()
    moving.peer_port, moving.peer_url = spare.peer_port, spare.peer_url
    moving.start()
    moving.wait_ready(WITHIN_S)
    shown = asked.http("GET", "/v2/members").json()["members"]
    assert [each["peerURLs"] for each in shown if each["name"] == moving.name] == [[spare.peer_url]]
    # With another member down, the moved one is needed.
    others[0].kill()
    assert asked.http("PUT", "/v2/keys/a", form={"value": "1"}).status == 201
    assert moving.http("GET", "/v2/keys/a?quorum=true").json()["node"]["value"] == "1"
