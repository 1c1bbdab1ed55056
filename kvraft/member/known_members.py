"""Keeps who the members are where a start finds it that cannot read the state, or has none yet."""

from collections.abc import Sequence
from typing import final

from kvraft.founding import Founder
from kvraft.member.cluster import Cluster
from kvraft.member.interfaces import IdentityStore
from kvraft.member.membership_watch import MembershipWatch


@final
class KnownMembers:
    """Called now and then by the member's housekeeping."""

    def __init__(self, cluster: Cluster, watch: MembershipWatch, identity: IdentityStore) -> None:
        self._cluster = cluster
        self._watch = watch
        self._identity = identity
        self._revision: object = None
        """Of what is kept."""

    def look(self) -> None:
        """Keep them when they have changed, and those who leave as long as they may have to vote.

        Not what a member applies that does not belong to them yet, or no more: what it has been told is newer. Nor what
        an older version has left in a log, which does not say where they are.
        """
        leaving = self._watch.leaving
        revision = self._cluster.revision, leaving
        if revision == self._revision:
            return
        self._revision = revision
        members = self._cluster.members()
        if self._cluster.own.member_id in self._cluster.member_ids() and all(member.peer_urls for member in members):
            staying = (Founder(each.member_id, each.name, each.peer_urls) for each in members)
            self._identity.keep_members([*staying, *leaving])


@final
class NoIdentity:
    """Satisfies `IdentityStore` where no later start reads it."""

    def keep_members(self, members: Sequence[Founder], /) -> None:
        """Nowhere."""

    def forget_replaced(self) -> None:
        """There is none."""
