"""What an operator does to the members of a cluster, over the API and with the flags that etcdctl prints."""

import json

from kvraft.testing.cluster import READY_WITHIN_S, Cluster, ClusterError, Member
from kvraft.testing.raw_http import Answer


def add(cluster: Cluster, name: str, *, through: Member | None = None) -> Member:
    """Add a member, and start it with what `etcdctl member add` prints; it may take a while until it serves.

    Raises:
        ClusterError: it was not added.
    """
    asked = through or _serving(cluster)
    member = cluster.more(name, initial_cluster_state="existing")
    try:
        added_id = add_url(asked, member.peer_url)
        listed = asked.http("GET", "/v2/members").json()["members"]
    except BaseException:
        cluster.without(member)
        raise
    known = [
        f"{member.name if each['id'] == added_id else each['name']}={url}"
        for each in listed
        for url in each["peerURLs"]
    ]
    member.cluster_flags["initial-cluster"] = ",".join(known)
    member.start()
    return member


def add_url(asked: Member, peer_url: str) -> str:
    """Add a member without starting one; its id.

    Raises:
        ClusterError: it was not added.
    """
    answer = _send_url(asked, "POST", "/v2/members", peer_url)
    if answer.status != 201:
        raise ClusterError(f"{asked.name} does not add {peer_url}: {answer.status} {answer.body!r}")
    added: str = answer.json()["id"]
    return added


def move(asked: Member, member: Member, peer_url: str) -> Answer:
    """Tell the cluster that a member is to be found at another peer URL."""
    return _send_url(asked, "PUT", f"/v2/members/{id_of(asked, member)}", peer_url)


def id_of(asked: Member, member: Member) -> str:
    """A member's id, by where its peers find it.

    Raises:
        ClusterError: it belongs to the cluster no more, or not yet.
    """
    for each in asked.http("GET", "/v2/members").json()["members"]:
        if member.peer_url in each["peerURLs"]:
            found: str = each["id"]
            return found
    raise ClusterError(f"{asked.name} knows no member {member.name}")


def remove(cluster: Cluster, member: Member, *, through: Member | None = None) -> None:
    """Remove a member; its process is left to end by itself.

    Raises:
        ClusterError: it was not removed.
    """
    asked = through or _serving(cluster, besides=member)
    answer = asked.http("DELETE", f"/v2/members/{id_of(asked, member)}")
    if answer.status != 204:
        raise ClusterError(f"{asked.name} does not remove {member.name}: {answer.status} {answer.body!r}")


def _serving(cluster: Cluster, *, besides: Member | None = None) -> Member:
    """A member that answers: one whose process lives may be on its way there, most of all where a test kills some."""

    def found() -> Member | None:
        return next((each for each in cluster.running if each is not besides and each.self_stats()), None)

    return cluster.wait_for("member that serves", found, READY_WITHIN_S)


def _send_url(asked: Member, method: str, target: str, peer_url: str) -> Answer:
    body = json.dumps({"peerURLs": [peer_url]}).encode()
    return asked.http(method, target, body=body, headers=[("Content-Type", "application/json")])
