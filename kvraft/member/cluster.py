"""Who belongs to the cluster, and what is still to be published.

Whoever asks for the members asks here, and gets the members of the day: those that the applied state has registered.
Only as long as not all founders are registered, in a young cluster whose members come one by one, its founders are its
members. A member's peer URLs, and its name until it has started once, come from what the cluster was founded with,
as the data directory keeps it; its name and client URLs from what it published through the log (as in etcd, where both
cost an index).
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Final, final

from kvraft.founding import Founder
from kvraft.keyspace.commands import Command, PublishMember, RegisterMembers, SetClusterVersion, SetHistorySize
from kvraft.keyspace.keyspace import Keyspace
from kvraft.keyspace.records import PublishedMember
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
    """One member's view of it."""

    def __init__(
        self,
        cluster_id: int,
        own: PublishMember,
        founders: Sequence[Founder],
        history_events_max: int,
        keyspace: Keyspace,
    ) -> None:
        self.cluster_id = cluster_id
        self.own = own
        self._founders: Mapping[int, Founder] = {founder.member_id: founder for founder in founders}
        self._history_events_max = history_events_max
        self._keyspace = keyspace

    def follow(self, keyspace: Keyspace) -> None:
        """The applied state is another object from now on (an installed snapshot)."""
        self._keyspace = keyspace

    # -- the members of the day ---------------------------------------------------------------------------------

    def member_ids(self) -> Collection[int]:
        """The members of the day."""
        registered, founders = self._keyspace.members.keys(), self._founders.keys()
        return founders if founders - registered else registered

    def others(self) -> list[int]:
        """All but this one, ascending."""
        return sorted(member_id for member_id in self.member_ids() if member_id != self.own.member_id)

    def quorum(self) -> int:
        """How many of them are a majority."""
        return len(self.member_ids()) // 2 + 1

    def members(self) -> list[MemberRecord]:
        """Every member by ascending id; without client URLs, and under the founder's name, until it has published."""
        return [self._record(member_id) for member_id in sorted(self.member_ids())]

    def _record(self, member_id: int) -> MemberRecord:
        founder = self._founders.get(member_id, Founder(member_id, "", ()))
        published = self._keyspace.members.get(member_id, PublishedMember("", ()))
        client_urls = tuple(sorted(published.client_urls))
        return MemberRecord(member_id, published.name or founder.name, founder.peer_urls, client_urls)

    def peer_name(self, member_id: int) -> str:
        """The name for log lines: the newest that is known, or the id in hex for a stranger."""
        own = self.own
        return own.name if member_id == own.member_id else self._record(member_id).name or f"{member_id:x}"

    def cluster_version(self) -> str:
        """Empty while not decided."""
        return self._keyspace.cluster_version

    # -- what is to be published --------------------------------------------------------------------------------

    def unpublished(self) -> Command | None:
        """What this member has to tell the cluster about itself, if anything."""
        published = self._keyspace.members.get(self.own.member_id)
        if published is None or (published.name, published.client_urls) != (self.own.name, self.own.client_urls):
            return self.own
        return None

    def leader_duty(self, led_s: float) -> Command | None:
        """What a leader has to settle for a young cluster, one command at a time, `led_s` after its election."""
        keyspace = self._keyspace
        is_undecided = not keyspace.cluster_version
        if not is_undecided and keyspace.cluster_version != MINIMUM_VERSION:
            return None
        if is_undecided and keyspace.history.events_max != self._history_events_max:
            return SetHistorySize(self._history_events_max)
        if is_undecided and not self._founders.keys() <= keyspace.members.keys():
            return RegisterMembers(tuple(sorted(self._founders)))
        if self._all_published():
            return SetClusterVersion(CLUSTER_VERSION)
        if is_undecided and led_s >= MISSING_AFTER_S:
            return SetClusterVersion(MINIMUM_VERSION)
        return None

    def is_settled(self) -> bool:
        """Whether no index moves by itself any more: this member is published, and the version is what it will be.

        A founder that has not been started yet moves it when it comes, as in etcd.
        """
        version = self._keyspace.cluster_version
        if self.unpublished() is not None or not version:
            return False
        return version != MINIMUM_VERSION or not self._all_published()

    def _all_published(self) -> bool:
        members = self._keyspace.members
        return all(member_id in members and members[member_id].name for member_id in self.member_ids())
