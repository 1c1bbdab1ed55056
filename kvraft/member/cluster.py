"""Who belongs to the cluster, and what is still to be published.

Whoever asks for the members asks here, and gets the members of the day: those that are wanted in the applied state.
Only as long as not all founders are registered there, in a young cluster, its founders are members as well, as the data
directory keeps them: with those names and peer URLs.
One that came later goes by what it was told, until it has applied something.
Which servers vote at the moment is Raft's configuration, which follows.
"""

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Final, final

from kvraft.founding import Founder
from kvraft.keyspace.cluster import ClusterMember, ClusterState
from kvraft.keyspace.commands import (
    Command,
    PublishMember,
    RegisterFounders,
    RegisterMembers,
    SetClusterVersion,
    SetHistorySize,
)
from kvraft.keyspace.keyspace import Keyspace
from kvraft.records import MemberRecord

CLUSTER_VERSION: Final = "3.4.0"
"""What `/version` shows as `etcdcluster`: the surface that kvraft has (contract A.14)."""
MINIMUM_VERSION: Final = "3.0.0"
"""What it shows while a founder has never been started, whose version nobody can know (etcd's MinClusterVersion)."""
MISSING_AFTER_S: Final = 3.0
"""So long a leader waits for all founders before it settles for the minimum: usually all are started together, and the
minimum would cost them an index. Until then no member of a new cluster serves; etcd's does not wait."""
PROTOCOL_OF_MEMBERSHIP: Final = 2
"""Members that speak an older protocol stop at commands that change members or rights: those are kept from the log
while one of them is known, so that a cluster can be upgraded member by member."""
UNHEARD_AFTER_S: Final = 60.0
"""So long a leader waits for members that it has not heard, before it writes what an older version cannot read."""
_UNKNOWN: Final = ClusterMember()


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
        told: Sequence[Founder] = (),
    ) -> None:
        """`told` are the members of whom one that came later knows before it has applied anything."""
        self.cluster_id = cluster_id
        self.own = own
        self._founders: Mapping[int, Founder] = {founder.member_id: founder for founder in founders}
        self._told: Mapping[int, Founder] = {
            member.member_id: member for member in told if member.member_id != own.member_id
        }
        """Itself it belongs to the cluster once it has applied that it was added."""
        self._history_events_max = history_events_max
        self._keyspace = keyspace

    def follow(self, keyspace: Keyspace) -> None:
        """The applied state is another object from now on (an installed snapshot)."""
        self._keyspace = keyspace

    @property
    def revision(self) -> tuple[ClusterState, int]:
        """Equal as long as the applied membership is: cheap, and compared by identity."""
        state = self._state
        return state, state.revision

    # -- the members of the day ---------------------------------------------------------------------------------

    def member_ids(self) -> AbstractSet[int]:
        """The members of the day."""
        state = self._state
        if not state.members and not self._founders:
            return self._told.keys()
        young = self._founders.keys() - state.members.keys() - state.removed_ids
        return state.members.keys() | young if young else state.members.keys()

    def others(self) -> list[int]:
        """All but this one, ascending."""
        return sorted(member_id for member_id in self.member_ids() if member_id != self.own.member_id)

    def members(self) -> list[MemberRecord]:
        """Every member by ascending id; without client URLs, and under the founder's name, until it has published."""
        return [self._record(member_id) for member_id in sorted(self.member_ids())]

    def record(self, member_id: int) -> MemberRecord | None:
        """One of them; None for who does not belong to the cluster, or no more."""
        return self._record(member_id) if member_id in self.member_ids() else None

    def is_removed(self, member_id: int) -> bool:
        """Whether it belonged to the cluster once, and never will again."""
        return member_id in self._state.removed_ids

    def removed_ids(self) -> frozenset[int]:
        """Everybody of whom that is so."""
        return frozenset(self._state.removed_ids)

    def urls_at_start(self, member_id: int) -> tuple[str, ...]:
        """Where a server was, as far as this process was told when it started; empty if it was told of none."""
        known = self._told.get(member_id) or self._founders.get(member_id)
        return () if known is None else known.peer_urls

    def has_started(self, member_id: int) -> bool:
        """Whether it has ever told of itself."""
        return self._state.members.get(member_id, _UNKNOWN).has_started

    def peer_name(self, member_id: int) -> str:
        """The name for log lines: the newest that is known, or the id in hex for a stranger."""
        own = self.own
        return own.name if member_id == own.member_id else self._record(member_id).name or f"{member_id:x}"

    def cluster_version(self) -> str:
        """Empty while not decided."""
        return self._state.version

    @property
    def _state(self) -> ClusterState:
        return self._keyspace.cluster

    def _record(self, member_id: int) -> MemberRecord:
        founder = self._founders.get(member_id) or self._told.get(member_id) or Founder(member_id, "", ())
        member = self._state.members.get(member_id, _UNKNOWN)
        client_urls = tuple(sorted(member.client_urls))
        return MemberRecord(member_id, member.name or founder.name, member.peer_urls or founder.peer_urls, client_urls)

    # -- what is to be published --------------------------------------------------------------------------------

    def unpublished(self) -> Command | None:
        """What this member has to tell of itself, if anything; nothing while it does not belong to the cluster."""
        own = self.own
        if own.member_id not in self.member_ids():
            return None
        told = self._state.members.get(own.member_id, _UNKNOWN)
        is_told = told.has_started and (told.name, told.client_urls) == (own.name, own.client_urls)
        return None if is_told else own

    def leader_duty(self, led_s: float, newest_protocol: Callable[[int], int]) -> Command | None:
        """What a leader has to settle for a young or an upgraded cluster, one command at a time.

        `led_s` after its election; `newest_protocol` is what each member speaks, 0 for one that was not heard.
        """
        version = self._state.version
        if not version and self._keyspace.history.events_max != self._history_events_max:
            return SetHistorySize(self._history_events_max)
        registration = self._registration(led_s, newest_protocol)
        if registration is not None:
            return registration
        if version not in ("", MINIMUM_VERSION):
            return None
        if self._all_started():
            return SetClusterVersion(CLUSTER_VERSION)
        if not version and led_s >= MISSING_AFTER_S:
            return SetClusterVersion(MINIMUM_VERSION)
        return None

    def older_members(self, newest_protocol: Callable[[int], int]) -> list[int]:
        """Those that are known to speak an older protocol, ascending."""
        return [each for each in self.others() if 0 < newest_protocol(each) < PROTOCOL_OF_MEMBERSHIP]

    def _registration(self, led_s: float, newest_protocol: Callable[[int], int]) -> Command | None:
        """What registers founders that the state lacks, or, where an older version wrote it, where they are reached."""
        state = self._state
        founders = {each: it for each, it in self._founders.items() if each not in state.removed_ids}
        lacks_some = not founders.keys() <= state.members.keys()
        if not lacks_some and all(state.members[each].peer_urls or not it.peer_urls for each, it in founders.items()):
            return None
        if self.older_members(newest_protocol):
            return RegisterMembers(tuple(sorted(founders))) if lacks_some else None
        if not lacks_some and led_s < UNHEARD_AFTER_S and not all(map(newest_protocol, self.others())):
            return None
        return RegisterFounders(tuple((each, it.name, it.peer_urls) for each, it in sorted(self._founders.items())))

    def is_settled(self) -> bool:
        """Whether no index moves by itself any more: this member is published, and the version is what it will be.

        A founder that has not been started yet moves it when it comes, as in etcd.
        """
        version = self._state.version
        if self.unpublished() is not None or not version:
            return False
        return version != MINIMUM_VERSION or not self._all_started()

    def _all_started(self) -> bool:
        return all(self.has_started(member_id) for member_id in self.member_ids())
