"""What a member knows of its cluster before and after the others have published."""

from kvraft.keyspace.commands import PublishMember
from kvraft.keyspace.keyspace import Keyspace
from tests.member.host import cluster_of


def test_founders_have_their_names_before_they_have_started() -> None:
    """Its own among them, before there was a quorum: from --initial-cluster, as in etcd; what is published wins."""
    keyspace = Keyspace()
    cluster = cluster_of(1)
    assert [(record.name, record.client_urls) for record in cluster.records(keyspace)] == [
        ("m1", ()),
        ("m2", ()),
        ("m3", ()),
    ]
    keyspace.apply(PublishMember(2, "renamed", ("http://b:1", "http://a:1")), 0)
    assert [(record.name, record.client_urls) for record in cluster.records(keyspace)] == [
        ("m1", ()),
        ("renamed", ("http://a:1", "http://b:1")),
        ("m3", ()),
    ]
