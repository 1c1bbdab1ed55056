"""What a member knows of its cluster before and after the others have published."""

from kvraft.keyspace.commands import Command, PublishMember, RegisterMembers, SetClusterVersion
from kvraft.keyspace.keyspace import Keyspace
from kvraft.member.cluster import CLUSTER_VERSION, MINIMUM_VERSION, Cluster
from tests.member.host import FOUNDERS, MEMBER_IDS, cluster_of


def test_founders_have_their_names_before_they_have_started() -> None:
    """Its own among them, before there was a quorum: from --initial-cluster, as in etcd; what is published wins."""
    keyspace = Keyspace()
    cluster = cluster_of(1, keyspace)
    keyspace.apply(RegisterMembers(MEMBER_IDS), 0)
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
    assert (cluster.others(), cluster.quorum(), len(cluster.members())) == ([2, 3], 2, 3)
    keyspace.apply(RegisterMembers((*MEMBER_IDS, 4)), 0)
    assert (cluster.others(), cluster.quorum(), len(cluster.members())) == ([2, 3, 4], 3, 4)
    cluster.follow(Keyspace())
    assert (cluster.others(), cluster.quorum(), len(cluster.members())) == ([2, 3], 2, 3)


def test_log_lines_call_members_as_they_are_called_now() -> None:
    """By what they have published, itself by its own name, and a stranger by its id."""
    keyspace = Keyspace()
    keyspace.apply(RegisterMembers(MEMBER_IDS), 0)
    keyspace.apply(PublishMember(2, "renamed", ()), 0)
    cluster = Cluster(7, PublishMember(1, "mine", ()), FOUNDERS, 1000, Keyspace())
    assert [cluster.peer_name(member_id) for member_id in (1, 2, 3)] == ["mine", "m2", "m3"]
    cluster.follow(keyspace)
    assert [cluster.peer_name(member_id) for member_id in (1, 2, 3, 0xAB)] == ["mine", "renamed", "m3", "ab"]


def test_cluster_is_settled_when_no_index_will_move_by_itself() -> None:
    """But for a founder that comes late: for it, only once the version that its coming brings is there."""
    keyspace = Keyspace()
    late, other = cluster_of(3, keyspace), cluster_of(1, keyspace)
    told: list[Command] = [RegisterMembers(MEMBER_IDS), PublishMember(1, "m1", ()), PublishMember(2, "m2", ())]
    for command in told:
        assert not other.is_settled()
        keyspace.apply(command, 0)
    keyspace.apply(SetClusterVersion(MINIMUM_VERSION), 0)
    assert (other.is_settled(), late.is_settled()) == (True, False)
    keyspace.apply(PublishMember(3, "m3", ()), 0)
    assert not late.is_settled()
    keyspace.apply(SetClusterVersion(CLUSTER_VERSION), 0)
    assert (other.is_settled(), late.is_settled()) == (True, True)
