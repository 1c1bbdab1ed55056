"""Who is wanted in the cluster, replicated like the keys: its members, the ids that were removed, and its version.

Commands change it where they are applied, so that every member refuses the same ones, in etcd's order (v3.4.23
etcdserver/api/membership/cluster.go, `ValidateConfigurationChange`). What each costs in etcd_indices is etcd's too: one
for each node that it writes to or deletes from its own part of the store.
Raft's configuration follows this, one server at a time; which of them votes at a moment stands in the log, not here.
"""

import enum
import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import Final, final

from kvraft.keyspace.commands import (
    AddMember,
    KeepMember,
    MembershipCommand,
    MoveMember,
    PublishMember,
    PublishMemberAlone,
    RegisterFounders,
    RegisterMembers,
    RemoveMember,
    SetClusterVersion,
)

_REMOVAL_INDICES: Final = 2
"""etcd deletes the member, and writes down that its id is used up."""
_DIGEST_BYTES: Final = 16


class Refusal(enum.Enum):
    """Why the membership stays as it is. The numbers are in the state hash, for ever."""

    ID_REMOVED = 1
    ID_EXISTS = 2
    ID_NOT_FOUND = 3
    PEER_URL_EXISTS = 4
    NOBODY_LEFT = 5
    """Nobody would remain who holds the data. etcd has no such check here, and where it was told not to be strict, or
    is told twice at once, an empty cluster."""


@final
@dataclass(slots=True, frozen=True)
class MembershipRefused:
    """The answer to a change of the membership that cannot be."""

    reason: Refusal
    etcd_index: int
    """The store's, which the refusal did not move."""


@final
@dataclass(slots=True, frozen=True)
class ClusterMember:
    """One member that is wanted."""

    peer_urls: tuple[str, ...] = ()
    """Sorted. Empty only in states and logs from before peer URLs were replicated, until a leader fills them in."""
    name: str = ""
    """What it published; before that, what it was founded as, and empty for one that was added."""
    client_urls: tuple[str, ...] = ()
    has_started: bool = False
    """Whether it has ever published itself."""


@final
@dataclass(slots=True)
class ClusterState:
    """All of it."""

    members: dict[int, ClusterMember] = field(default_factory=dict)
    removed_ids: set[int] = field(default_factory=set)
    """For ever: who comes back under one of them is refused."""
    version: str = ""
    """Empty while not decided."""
    revision: int = field(default=0, compare=False)
    """How often this object may have changed; nothing of the state."""

    def copy(self) -> "ClusterState":
        """As of now, for good."""
        return ClusterState(dict(self.members), set(self.removed_ids), self.version)

    def digest(self) -> bytes:
        """Equal for equal states, and only for those."""
        facts = json.dumps([*cluster_facts(self), self.version])
        return blake2b(facts.encode(), digest_size=_DIGEST_BYTES).digest()

    # -- what commands change; each says how many etcd_indices it takes -------------------------------------------

    def set_version(self, command: SetClusterVersion) -> int:
        """The version that all members have."""
        self.revision += 1
        if self.version == command.version:
            return 0
        self.version = command.version
        return 1

    def publish(self, command: RegisterMembers | PublishMember | PublishMemberAlone) -> int:
        """What a member tells of itself; removed ones are not heard."""
        self.revision += 1
        if isinstance(command, RegisterMembers):
            return sum(self._register(member_id, ClusterMember()) for member_id in command.member_ids)
        if command.member_id in self.removed_ids:
            return 0
        changes = 0
        if isinstance(command, PublishMember):
            changes += self._register(command.member_id, ClusterMember())
        old = self.members.get(command.member_id)
        peer_urls = () if old is None else old.peer_urls
        member = ClusterMember(peer_urls, command.name, command.client_urls, has_started=True)
        self.members[command.member_id] = member
        return changes + (member != old)

    def change(self, command: MembershipCommand) -> int | Refusal:
        """Who belongs to it, and where; refused for the first reason that etcd would find."""
        self.revision += 1
        if isinstance(command, RegisterFounders):
            return self._register_founders(command)
        if isinstance(command, KeepMember):
            return self._keep(command)
        if command.member_id in self.removed_ids:
            return Refusal.ID_REMOVED
        if isinstance(command, AddMember):
            return self._add(command)
        member = self.members.get(command.member_id)
        if member is None:
            return Refusal.ID_NOT_FOUND
        return self._move(command, member) if isinstance(command, MoveMember) else self._remove(command, member)

    def _add(self, command: AddMember) -> int | Refusal:
        if command.member_id in self.members:
            return Refusal.ID_EXISTS
        if self._in_use(command.peer_urls, self.members.values()):
            return Refusal.PEER_URL_EXISTS
        self.members[command.member_id] = ClusterMember(command.peer_urls)
        return 1

    def _move(self, command: MoveMember, member: ClusterMember) -> int | Refusal:
        """Count URLs that stay the same, too: etcd writes them again."""
        others = (other for other_id, other in self.members.items() if other_id != command.member_id)
        if self._in_use(command.peer_urls, others):
            return Refusal.PEER_URL_EXISTS
        self.members[command.member_id] = replace(member, peer_urls=command.peer_urls)
        return 1

    def _remove(self, command: RemoveMember, member: ClusterMember) -> int | Refusal:
        """Unless nobody is left who holds the data: a member that has never started has nothing to leave behind."""
        others = [other for other_id, other in self.members.items() if other_id != command.member_id]
        if not others or (member.has_started and not any(other.has_started for other in others)):
            return Refusal.NOBODY_LEFT
        del self.members[command.member_id]
        self.removed_ids.add(command.member_id)
        return _REMOVAL_INDICES

    def _register_founders(self, command: RegisterFounders) -> int:
        """Those that are not known yet; of the others, what an older version did not replicate."""
        changes = 0
        for member_id, name, peer_urls in command.founders:
            changes += self._register(member_id, ClusterMember(peer_urls, name))
            member = self.members.get(member_id)
            if member is not None and not member.peer_urls:
                self.members[member_id] = replace(member, peer_urls=peer_urls, name=member.name or name)
        return changes

    def _keep(self, command: KeepMember) -> int:
        """It is a member, whatever it was before: the one that is left decides."""
        kept = command.member_id
        removed = {*self.members, *command.removed_ids} - {kept} - self.removed_ids
        self.members = {kept: self.members.get(kept, ClusterMember())}
        self.removed_ids = self.removed_ids - {kept} | removed
        return _REMOVAL_INDICES * len(removed)

    def _register(self, member_id: int, member: ClusterMember) -> bool:
        """Whether the member was not known before, and may be."""
        if member_id in self.members or member_id in self.removed_ids:
            return False
        self.members[member_id] = member
        return True

    @staticmethod
    def _in_use(peer_urls: tuple[str, ...], members: Iterable[ClusterMember]) -> bool:
        return any(not set(peer_urls).isdisjoint(member.peer_urls) for member in members)


def cluster_facts(state: ClusterState) -> tuple[list[list[object]], list[int]]:
    """Members and removed ids as JSON has them, in the order of the ids."""
    members: list[list[object]] = [
        [member_id, member.name, list(member.client_urls), list(member.peer_urls), member.has_started]
        for member_id, member in sorted(state.members.items())
    ]
    return members, sorted(state.removed_ids)
