"""The cluster's members as this one knows them, and the two facts that each start makes public.

A member's peer URLs, and its name until it has started once, come from what the cluster was founded with, as the data
directory keeps it; its name and client URLs from what it published through the log (as in etcd, where both cost an
index).
"""

from collections.abc import Mapping, Sequence
from typing import Final, final

from kvraft.founding import Founder
from kvraft.keyspace.commands import Command, PublishMember, RegisterMembers, SetClusterVersion, SetHistorySize
from kvraft.keyspace.keyspace import Keyspace
from kvraft.keyspace.records import PublishedMember
from kvraft.member.applier import Applier
from kvraft.records import MemberRecord

CLUSTER_VERSION: Final = "3.4.0"
"""What `/version` shows as `etcdcluster`: the surface that kvraft has (contract A.14)."""
MINIMUM_VERSION: Final = "3.0.0"
"""What it shows while a founder has never been started, whose version nobody can know (etcd's MinClusterVersion)."""
MISSING_AFTER_S: Final = 3.0
"""So long a leader waits for all founders before it settles for the minimum: usually all are started together, and the
minimum would cost them an index. Until then no member of a new cluster serves; etcd's does not wait."""


@final
class Cluster:
    """Who belongs to the cluster and what is still to be published."""

    def __init__(
        self, cluster_id: int, own: PublishMember, founders: Sequence[Founder], history_events_max: int
    ) -> None:
        self.cluster_id = cluster_id
        self.own = own
        self.founders: Mapping[int, Founder] = {founder.member_id: founder for founder in founders}
        self._history_events_max = history_events_max
        self._applier: Applier
        self._published: Mapping[int, PublishedMember] = {}
        """What each member has published, as it was seen last."""

    def follow(self, applier: Applier) -> None:
        """From now on the state that is applied here tells who has published what."""
        self._applier = applier

    def members(self) -> list[MemberRecord]:
        """Every member by ascending id, as the applied state has them."""
        return self.records(self._applier.keyspace)

    def cluster_version(self) -> str:
        """Empty while not decided."""
        return self._applier.keyspace.cluster_version

    def records(self, keyspace: Keyspace) -> list[MemberRecord]:
        """Every member by ascending id; without client URLs, and under the founder's name, until it has published."""
        records = []
        for member_id, founder in sorted(self.founders.items()):
            published = keyspace.members.get(member_id)
            name, client_urls = (published.name, published.client_urls) if published else ("", ())
            records.append(MemberRecord(member_id, name or founder.name, founder.peer_urls, tuple(sorted(client_urls))))
        return records

    def peer_name(self, member_id: int) -> str:
        """The name for log lines: the newest that is known, or the id in hex for a stranger."""
        if member_id == self.own.member_id:
            return self.own.name
        published, founder = self._published.get(member_id), self.founders.get(member_id)
        if published is not None and published.name:
            return published.name
        return founder.name if founder is not None else f"{member_id:x}"

    def unpublished(self, keyspace: Keyspace) -> Command | None:
        """What this member has to tell the cluster about itself, if anything. Who is called how is remembered."""
        self._published = keyspace.members
        published = keyspace.members.get(self.own.member_id)
        if published is None or (published.name, published.client_urls) != (self.own.name, self.own.client_urls):
            return self.own
        return None

    def leader_duty(self, keyspace: Keyspace, led_s: float) -> Command | None:
        """What a leader has to settle for a young cluster, one command at a time, `led_s` after its election."""
        is_undecided = not keyspace.cluster_version
        if not is_undecided and keyspace.cluster_version != MINIMUM_VERSION:
            return None
        if is_undecided and keyspace.history.events_max != self._history_events_max:
            return SetHistorySize(self._history_events_max)
        if is_undecided and not self.founders.keys() <= keyspace.members.keys():
            return RegisterMembers(tuple(sorted(self.founders)))
        if self._all_published(keyspace):
            return SetClusterVersion(CLUSTER_VERSION)
        if is_undecided and led_s >= MISSING_AFTER_S:
            return SetClusterVersion(MINIMUM_VERSION)
        return None

    def is_settled(self, keyspace: Keyspace) -> bool:
        """Whether no index moves by itself any more: this member is published, and the version is what it will be.

        A founder that has not been started yet moves it when it comes, as in etcd.
        """
        if self.unpublished(keyspace) is not None or not keyspace.cluster_version:
            return False
        return keyspace.cluster_version != MINIMUM_VERSION or not self._all_published(keyspace)

    def _all_published(self, keyspace: Keyspace) -> bool:
        members = keyspace.members
        return all(member_id in members and members[member_id].name for member_id in self.founders)
