"""Who belongs to the cluster, as commands change it: etcd's order of checks, its indices, and no one comes back."""

import random
from dataclasses import dataclass, field
from typing import final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvraft.keyspace.answers import Acknowledged
from kvraft.keyspace.cluster import ClusterMember, MembershipRefused, Refusal
from kvraft.keyspace.command_codec import decode_command, encode_command
from kvraft.keyspace.commands import (
    AddMember,
    Command,
    KeepMember,
    MoveMember,
    PublishMember,
    RegisterFounders,
    RegisterMembers,
    RemoveMember,
)
from kvraft.keyspace.keyspace import Keyspace
from tests.keyspace.flushes import take_changes
from tests.keyspace.helpers import CLOCK_MS, Disk, acknowledged, assert_same

FOUNDERS = RegisterFounders(((1, "m1", ("http://a:1",)), (2, "m2", ("http://b:1",))))


def founded() -> Keyspace:
    """Of two, neither of which has started."""
    keyspace = Keyspace()
    assert acknowledged(keyspace, FOUNDERS) == 2
    return keyspace


def refusal(keyspace: Keyspace, command: Command) -> Refusal:
    """Why a command is refused; checks that it changes nothing but the hash."""
    before = keyspace.cluster.copy(), keyspace.etcd_index
    answer = keyspace.apply(command, CLOCK_MS)
    assert isinstance(answer, MembershipRefused), answer
    assert (keyspace.cluster, keyspace.etcd_index) == before
    assert answer.etcd_index == keyspace.etcd_index
    return answer.reason


def test_each_change_takes_the_indices_that_it_takes_in_etcd() -> None:
    """Seen at a cluster of etcd 3.4: one to add, one to move even to where it is, two to remove."""
    keyspace = founded()
    assert acknowledged(keyspace, PublishMember(1, "m1", ())) == 1
    assert acknowledged(keyspace, AddMember(3, ("http://c:1",))) == 1
    assert keyspace.cluster.members[3] == ClusterMember(("http://c:1",))
    assert [acknowledged(keyspace, MoveMember(3, ("http://c:2",))) for _ in range(2)] == [1, 1]
    assert acknowledged(keyspace, PublishMember(3, "m3", ("http://c:3",))) == 1
    assert keyspace.cluster.members[3] == ClusterMember(("http://c:2",), "m3", ("http://c:3",), has_started=True)
    assert acknowledged(keyspace, MoveMember(3, ("http://c:1", "http://c:2"))) == 1
    assert keyspace.cluster.members[3].name == "m3"
    assert acknowledged(keyspace, RemoveMember(3)) == 2
    assert keyspace.etcd_index == keyspace.history.last_index == 3 + 1 + 2 + 1 + 1 + 2
    assert (sorted(keyspace.cluster.members), keyspace.cluster.removed_ids) == ([1, 2], {3})


def test_member_that_is_kept_is_alone_for_good() -> None:
    """The others' ids are used up, also of founders that have not been registered yet, and whatever it was itself."""
    keyspace = founded()
    acknowledged(keyspace, AddMember(3, ("http://c:1",)))
    acknowledged(keyspace, RemoveMember(3))
    acknowledged(keyspace, PublishMember(1, "m1", ("http://a:2",)))
    kept = keyspace.cluster.members[1]
    assert acknowledged(keyspace, KeepMember(1, (2, 3, 4))) == 2 * 2
    assert (keyspace.cluster.members, keyspace.cluster.removed_ids) == ({1: kept}, {2, 3, 4})
    assert acknowledged(keyspace, KeepMember(1, (2,))) == 0
    assert acknowledged(keyspace, RegisterFounders(((4, "m4", ("http://d:1",)),))) == 0
    assert acknowledged(keyspace, KeepMember(3, ())) == 2
    assert (keyspace.cluster.members, keyspace.cluster.removed_ids) == ({3: ClusterMember()}, {1, 2, 4})


REFUSED: list[tuple[Command, Refusal]] = [
    (AddMember(9, ("http://b:1",)), Refusal.ID_REMOVED),
    (MoveMember(9, ("http://b:1",)), Refusal.ID_REMOVED),
    (RemoveMember(9), Refusal.ID_REMOVED),
    (AddMember(1, ("http://b:1",)), Refusal.ID_EXISTS),
    (AddMember(8, ("http://x:1", "http://b:1")), Refusal.PEER_URL_EXISTS),
    (MoveMember(8, ("http://b:1",)), Refusal.ID_NOT_FOUND),
    (MoveMember(1, ("http://a:1", "http://b:1")), Refusal.PEER_URL_EXISTS),
    (RemoveMember(8), Refusal.ID_NOT_FOUND),
]


@pytest.mark.parametrize(("command", "reason"), REFUSED, ids=repr)
def test_change_is_refused_for_the_first_reason_that_etcd_finds(command: Command, reason: Refusal) -> None:
    """In the order of `ValidateConfigurationChange`."""
    keyspace = founded()
    acknowledged(keyspace, AddMember(9, ("http://gone:1",)))
    acknowledged(keyspace, RemoveMember(9))
    assert refusal(keyspace, command) is reason


def test_urls_of_a_removed_member_are_free_and_its_id_is_not() -> None:
    """Nor does it come back by telling of itself, or by being founded once more."""
    keyspace = founded()
    assert acknowledged(keyspace, RemoveMember(2)) == 2
    for command in (PublishMember(2, "m2", ()), FOUNDERS, RegisterMembers((2,))):
        assert acknowledged(keyspace, command) == 0
    assert refusal(keyspace, AddMember(2, ("http://new:1",))) is Refusal.ID_REMOVED
    assert acknowledged(keyspace, AddMember(3, ("http://b:1",))) == 1
    assert sorted(keyspace.cluster.members) == [1, 3]


def test_whoever_holds_the_data_alone_is_not_removed() -> None:
    """Not by two removals at once, either, each of which would have been fine; one that never started may go."""
    keyspace = founded()
    assert acknowledged(keyspace, PublishMember(1, "m1", ())) == 1
    assert refusal(keyspace, RemoveMember(1)) is Refusal.NOBODY_LEFT
    assert acknowledged(keyspace, PublishMember(2, "m2", ())) == 1
    assert acknowledged(keyspace, RemoveMember(1)) == 2
    assert refusal(keyspace, RemoveMember(2)) is Refusal.NOBODY_LEFT
    assert acknowledged(keyspace, AddMember(3, ("http://c:1",))) == 1
    assert refusal(keyspace, RemoveMember(2)) is Refusal.NOBODY_LEFT
    assert acknowledged(keyspace, RemoveMember(3)) == 2


def test_founders_of_an_older_version_get_their_peer_urls_for_no_index() -> None:
    """Their names too, if they have none; what they published and where they were moved since stays."""
    keyspace = Keyspace()
    log = "920c920102", "940d01a4746f6c6491a3753a31", "920aa5332e342e30"
    for data in log:
        keyspace.apply(decode_command(bytes.fromhex(data)), CLOCK_MS)
    assert keyspace.etcd_index == 4
    assert acknowledged(keyspace, FOUNDERS) == 0
    assert keyspace.cluster.members == {
        1: ClusterMember(("http://a:1",), "told", ("u:1",), has_started=True),
        2: ClusterMember(("http://b:1",), "m2"),
    }
    assert acknowledged(keyspace, MoveMember(1, ("http://a:2",))) == 1
    assert acknowledged(keyspace, FOUNDERS) == 0
    assert keyspace.cluster.members[1].peer_urls == ("http://a:2",)


def test_state_hash_tells_two_memberships_apart() -> None:
    """Ids and URLs are in no event that would."""
    changes: list[Command] = [AddMember(3, ("u",)), AddMember(4, ("u",)), AddMember(3, ("v",)), MoveMember(1, ("u",))]
    hashes = set()
    for command in changes:
        keyspace = founded()
        acknowledged(keyspace, command)
        hashes.add(keyspace.state_hash)
    assert len(hashes) == len(changes)
    refused = {refusal(keyspace := founded(), command): keyspace.state_hash for command, _ in REFUSED[3:]}
    assert len(set(refused.values())) == len(refused) == 3


def test_state_hash_of_older_logs_is_what_it_was() -> None:
    """A member that replays one must agree with those that applied it with an older version."""
    keyspace = Keyspace()
    for data in ("920c920102", "940d01a4746f6c6491a3753a31", "920aa5332e342e30", "920ecd03e8"):
        keyspace.apply(decode_command(bytes.fromhex(data)), CLOCK_MS)
    assert keyspace.state_hash.hex() == "4f30382c9e7e814df41e025a072dee04"


IDS = st.integers(0, 5)
URLS = st.lists(st.sampled_from("abcdef"), min_size=1, max_size=3, unique=True).map(lambda urls: tuple(sorted(urls)))
CHANGES = st.one_of(
    st.builds(AddMember, IDS, URLS),
    st.builds(MoveMember, IDS, URLS),
    st.builds(RemoveMember, IDS),
    st.builds(PublishMember, IDS, st.sampled_from(("x", "y")), URLS),
    st.builds(
        RegisterFounders,
        st.lists(st.tuples(IDS, st.just("f"), URLS), max_size=3, unique_by=lambda it: it[0]).map(tuple),
    ),
)


@final
@dataclass
class Model:
    """The rules once more, as sentences about sets."""

    urls: dict[int, frozenset[str]] = field(default_factory=dict)
    told: dict[int, tuple[str, tuple[str, ...]]] = field(default_factory=dict)
    gone: set[int] = field(default_factory=set)

    def taken(self, *, besides: int) -> frozenset[str]:
        """The peer URLs of the others."""
        return frozenset().union(*(urls for member_id, urls in self.urls.items() if member_id != besides))

    def apply(self, command: Command) -> int | Refusal:
        """How many indices, or why not."""
        if isinstance(command, RegisterFounders):
            new = 0
            for member_id, _, urls in command.founders:
                if member_id not in self.gone:
                    new += member_id not in self.urls
                    self.urls[member_id] = self.urls.get(member_id) or frozenset(urls)
            return new
        assert isinstance(command, PublishMember | AddMember | MoveMember | RemoveMember)
        member_id = command.member_id
        if isinstance(command, PublishMember):
            if member_id in self.gone:
                return 0
            told = command.name, command.client_urls
            costs = (member_id not in self.urls) + (self.told.get(member_id) != told)
            self.urls.setdefault(member_id, frozenset())
            self.told[member_id] = told
            return costs
        if member_id in self.gone:
            return Refusal.ID_REMOVED
        if (member_id in self.urls) is isinstance(command, AddMember):
            return Refusal.ID_EXISTS if isinstance(command, AddMember) else Refusal.ID_NOT_FOUND
        if isinstance(command, RemoveMember):
            others = self.urls.keys() - {member_id}
            if not others or (member_id in self.told and not others & self.told.keys()):
                return Refusal.NOBODY_LEFT
            del self.urls[member_id]
            self.told.pop(member_id, None)
            self.gone.add(member_id)
            return 2
        if self.taken(besides=member_id) & set(command.peer_urls):
            return Refusal.PEER_URL_EXISTS
        self.urls[member_id] = frozenset(command.peer_urls)
        return 1


@given(st.lists(CHANGES, max_size=25), st.integers(0, 2**32))
def test_membership_follows_a_model_through_codecs_and_snapshots(commands: list[Command], seed: int) -> None:
    """Whatever is asked in whatever order, and whenever the state is stored and loaded between."""
    chance = random.Random(seed)
    model, keyspace, disk = Model(), Keyspace(), Disk()
    for command in commands:
        expected = model.apply(command)
        answer = keyspace.apply(decode_command(encode_command(command)), CLOCK_MS)
        if isinstance(answer, MembershipRefused):
            assert answer.reason is expected
        else:
            assert isinstance(answer, Acknowledged)
            assert answer.changes == expected
        state = keyspace.cluster
        assert {member_id: frozenset(member.peer_urls) for member_id, member in state.members.items()} == model.urls
        started = {key: (it.name, it.client_urls) for key, it in state.members.items() if it.has_started}
        assert (started, state.removed_ids) == (model.told, model.gone)
        if chance.random() < 0.2:
            disk.store(take_changes(keyspace))
            loaded = Keyspace()
            loaded.load(disk.image())
            assert_same(loaded, keyspace)
            keyspace = loaded
