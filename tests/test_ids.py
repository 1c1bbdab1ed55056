import json
import pathlib

from kvraft import ids
from kvraft.testing.cluster import CLUSTER_TOKEN, Cluster


def test_ids_of_a_known_etcd_are_reproduced() -> None:
    """Observed on etcd 3.4.23 with token `etcd-cluster` (contract A.8)."""
    member = ids.member_id(["http://127.0.0.1:33801"], "etcd-cluster")
    assert ids.text(member) == "cc4ac920d46ff089"
    assert ids.text(ids.cluster_id([member])) == "a511a62ef3d4eb6a"


def test_ids_of_the_bare_etcds_of_both_series_are_reproduced() -> None:
    """The ids that etcd's documentation shows for a member started without flags, 2.x and 3.x."""
    both = ["http://localhost:7001", "http://localhost:2380"]
    assert ids.text(ids.member_id(both, "etcd-cluster")) == "ce2a822cea30bfca"
    assert ids.text(ids.member_id(both[1:], "etcd-cluster")) == "8e9e05c52164694d"


def test_order_of_urls_and_members_does_not_matter() -> None:
    """Etcd sorts both before it hashes."""
    urls = ["http://10.0.0.2:2380", "http://10.0.0.1:2380"]
    assert ids.member_id(urls, "t") == ids.member_id(reversed(urls), "t")
    assert ids.cluster_id([1, 2, 3]) == ids.cluster_id([3, 1, 2])


def test_time_of_addition_changes_the_id() -> None:
    """A member that is added again with the same URLs is another member."""
    urls = ["http://10.0.0.1:2380"]
    assert len({ids.member_id(urls, "t"), ids.member_id(urls, "t", 1_700_000_000), ids.member_id(urls, "t", 1)}) == 3


def test_id_is_shown_without_leading_zeros() -> None:
    """`X-Etcd-Cluster-Id` is unpadded (contract A.2)."""
    assert ids.text(0x00AB) == "ab"


def test_ids_of_three_real_members_are_reproduced(etcd_cluster: Cluster) -> None:
    """The real etcd with three members shows the ids that we compute from the same settings."""
    answer = etcd_cluster.members[0].http("GET", "/v2/members")
    shown = {member["name"]: member["id"] for member in json.loads(answer.body)["members"]}
    ours = {member.name: ids.member_id([member.peer_url], "kvraft-testing") for member in etcd_cluster.members}
    assert shown == {name: ids.text(identifier) for name, identifier in ours.items()}
    assert answer.header("X-Etcd-Cluster-Id") == ids.text(ids.cluster_id(ours.values()))


def test_readme_shows_the_id_of_the_cluster_of_make_run() -> None:
    """On the default ports it is always the same, so a reader may compare."""
    members = [ids.member_id([f"http://127.0.0.1:{port}"], CLUSTER_TOKEN) for port in (2380, 22380, 32380)]
    readme = (pathlib.Path(__file__).parents[1] / "README.md").read_text()
    assert f"X-Etcd-Cluster-Id: {ids.text(ids.cluster_id(members))}\n" in readme
