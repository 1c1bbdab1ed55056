"""Member and cluster ids, computed as etcd computes them, so that the same settings give the same ids.

Source: etcd v3.4.23 etcdserver/api/membership/member.go (`NewMember`) and cluster.go (`genID`).
"""

import hashlib
from collections.abc import Iterable


def member_id(peer_urls: Iterable[str], cluster_token: str, added_at_s: int | None = None) -> int:
    """The id of a member with these peer URLs.

    Args:
        peer_urls: in any order.
        cluster_token: `--initial-cluster-token`.
        added_at_s: Unix seconds at which it was added to a running cluster; None for an initial member.
    """
    hashed = hashlib.sha1("".join(sorted(peer_urls)).encode(), usedforsecurity=False)
    hashed.update(cluster_token.encode())
    if added_at_s is not None:
        hashed.update(str(added_at_s).encode())
    return int.from_bytes(hashed.digest()[:8], "big")


def cluster_id(member_ids: Iterable[int]) -> int:
    """The id of the cluster whose initial members have these ids, in any order."""
    ids = b"".join(member.to_bytes(8, "big") for member in sorted(member_ids))
    return int.from_bytes(hashlib.sha1(ids, usedforsecurity=False).digest()[:8], "big")


def text(identifier: int) -> str:
    """An id as etcd shows it: lower-case hexadecimal without leading zeros."""
    return f"{identifier:x}"
