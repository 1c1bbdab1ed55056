"""What a member knows of its cluster before and after the others have published."""

from kvraft.keyspace.commands import (
    AddMember,
    Command,
    MoveMember,
    PublishMember,
    RegisterMembers,
    RemoveMember,
    SetClusterVersion,
)
from kvraft.keyspace.keyspace import Keyspace
from kvraft.member.cluster import CLUSTER_VERSION, MINIMUM_VERSION, UNHEARD_AFTER_S, Cluster
from tests.member.host import FOUNDERS, HISTORY_EVENTS, MEMBER_IDS, REGISTRATION, cluster_of


def test_founders_have_their_names_before_they_have_started() -> None:
    """Its own among them, before there was a quorum: from --initial-cluster, as in etcd; what is published wins."""
    keyspace = Keyspace()
    cluster = cluster_of(1, keyspace)
    keyspace.apply(REGISTRATION, 0)
    assert [(record.name, record.client_urls) for record in cluster.members()] == [
        ("m1", ()),
        ("m2", ()),
        ("m3", ()),
    ]
    keyspace.apply(PublishMember(2, "renamed", ("http://b:1", "http://a:1")), 0)
    assert [(record.name, record.client_urls) for record in cluster.members()] == [
        ("m1", ()),
        ("renamed", ("http://a:1", "http://b:1")),
        ("m3", ()),
    ]


def test_members_of_the_day_are_the_registered_ones_once_all_founders_are() -> None:
    """Before that they come one by one, and a majority of those that have come so far is none."""
    keyspace = Keyspace()
    cluster = cluster_of(1, keyspace)
    keyspace.apply(PublishMember(2, "m2", ()), 0)
    assert (cluster.others(), len(cluster.members())) == ([2, 3], 3)
    keyspace.apply(REGISTRATION, 0)
    keyspace.apply(AddMember(4, ("http://d:1",)), 0)
    assert (cluster.others(), len(cluster.members())) == ([2, 3, 4], 4)
    cluster.follow(Keyspace())
    assert (cluster.others(), len(cluster.members())) == ([2, 3], 3)


def test_log_lines_call_members_as_they_are_called_now() -> None:
    """By what they have published, itself by its own name, and a stranger by its id."""
    keyspace = Keyspace()
    keyspace.apply(REGISTRATION, 0)
    keyspace.apply(PublishMember(2, "renamed", ()), 0)
    cluster = Cluster(7, PublishMember(1, "mine", ()), FOUNDERS, 1000, Keyspace())
    assert [cluster.peer_name(member_id) for member_id in (1, 2, 3)] == ["mine", "m2", "m3"]
    cluster.follow(keyspace)
    assert [cluster.peer_name(member_id) for member_id in (1, 2, 3, 0xAB)] == ["mine", "renamed", "m3", "ab"]


def test_cluster_is_settled_when_no_index_will_move_by_itself() -> None:
    """But for a founder that comes late: for it, only once the version that its coming brings is there."""
    keyspace = Keyspace()
    late, other = cluster_of(3, keyspace), cluster_of(1, keyspace)
    told: list[Command] = [REGISTRATION, PublishMember(1, "m1", ()), PublishMember(2, "m2", ())]
    for command in told:
        assert not other.is_settled()
        keyspace.apply(command, 0)
    keyspace.apply(SetClusterVersion(MINIMUM_VERSION), 0)
    assert (other.is_settled(), late.is_settled()) == (True, False)
    keyspace.apply(PublishMember(3, "m3", ()), 0)
    assert not late.is_settled()
    keyspace.apply(SetClusterVersion(CLUSTER_VERSION), 0)
    assert (other.is_settled(), late.is_settled()) == (True, True)


def test_members_come_move_and_go() -> None:
    """With the peer URLs of the day; who was removed is known as such, and is a founder no more either."""
    keyspace = Keyspace()
    removed, added = cluster_of(3, keyspace), cluster_of(4, keyspace)
    changes: list[Command] = [
        REGISTRATION,
        AddMember(4, ("http://d:1",)),
        MoveMember(2, ("http://b:2",)),
        RemoveMember(3),
    ]
    assert added.unpublished() is None, "it would be registered by it, without peer URLs"
    for command in changes:
        assert not removed.is_removed(3)
        keyspace.apply(command, 0)
    assert removed.member_ids() == {1, 2, 4}
    moved, there = removed.record(2), removed.record(4)
    assert moved is not None
    assert there is not None
    assert (moved.name, moved.peer_urls) == ("m2", ("http://b:2",))
    assert (there.name, there.peer_urls, there.client_urls) == ("", ("http://d:1",), ())
    assert removed.record(3) is None
    assert (removed.is_removed(3), set(removed.removed_ids())) == (True, {3})
    assert (removed.unpublished(), added.unpublished()) == (None, added.own)


def test_leader_fills_in_where_the_members_of_an_older_version_are_reached() -> None:
    """Whatever the version is; once, and nothing for those that were removed."""
    keyspace = Keyspace()
    keyspace.history.set_events_max(HISTORY_EVENTS)
    keyspace.apply(RegisterMembers(MEMBER_IDS), 0)
    keyspace.apply(RemoveMember(3), 0)
    keyspace.apply(SetClusterVersion(CLUSTER_VERSION), 0)
    cluster, index = cluster_of(1, keyspace), keyspace.etcd_index
    duty = cluster.leader_duty(0, lambda _: 2)
    assert duty == REGISTRATION
    keyspace.apply(duty, 0)
    assert (cluster.leader_duty(0, lambda _: 2), keyspace.etcd_index) == (None, index)
    assert [record.peer_urls for record in cluster.members()] == [founder.peer_urls for founder in FOUNDERS[:2]]


def test_leader_writes_nothing_that_a_member_of_an_older_version_would_stop_at() -> None:
    """While one is known, and, where there were such members, while one has not been heard, for a minute.

    A young cluster is founded as an older version would: it must not wait.
    """
    keyspace = Keyspace()
    keyspace.history.set_events_max(HISTORY_EVENTS)
    cluster = cluster_of(1, keyspace)
    spoken = {2: 0, 3: 1}
    assert cluster.leader_duty(0, spoken.__getitem__) == RegisterMembers(MEMBER_IDS)
    keyspace.apply(RegisterMembers(MEMBER_IDS), 0)
    assert cluster.leader_duty(0, spoken.__getitem__) is None
    assert cluster.leader_duty(UNHEARD_AFTER_S, spoken.__getitem__) == SetClusterVersion(MINIMUM_VERSION)
    assert cluster.older_members(spoken.__getitem__) == [3]
    spoken[3] = 2
    assert cluster.leader_duty(0, spoken.__getitem__) is None
    assert cluster.leader_duty(UNHEARD_AFTER_S, spoken.__getitem__) == REGISTRATION
    spoken[2] = 3
    assert cluster.leader_duty(0, spoken.__getitem__) == REGISTRATION
    assert cluster.older_members(spoken.__getitem__) == []
    assert cluster_of(1, Keyspace()).leader_duty(0, {2: 0, 3: 0}.__getitem__) != RegisterMembers(MEMBER_IDS)
