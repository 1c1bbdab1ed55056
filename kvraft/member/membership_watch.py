"""Sees when other members are wanted or other servers vote, and tells the transport and the operator.

The transport's peers are the members that are wanted and the servers of Raft's configuration. A server that is not
wanted any more stays a peer until its removal is committed, as its vote and its acknowledgements may still be needed;
then the transport tells it, and lets it go. The state has forgotten where it is, so that is kept for the next start:
two that only together are a majority may know of each other by this alone, if one of them moves meanwhile.
While nobody leads, members are looked for where entries have them that are not applied yet (`pending_urls.py`), too.
"""

from collections.abc import Collection
from typing import final

from kvraft import logs
from kvraft.founding import Founder
from kvraft.member.applier import Applier
from kvraft.member.cluster import Cluster
from kvraft.member.interfaces import Transport
from kvraft.member.pending_urls import PendingUrls
from kvraft.raft.configuration import Configuration
from kvraft.raft.core import Raft

log = logs.get(__name__)


@final
class MembershipWatch:
    """One member's."""

    def __init__(self, cluster: Cluster, raft: Raft, applier: Applier, transport: Transport) -> None:
        self._cluster = cluster
        self._raft = raft
        self._applier = applier
        self._transport = transport
        self._pending = PendingUrls(raft)
        self._revision = (cluster.revision, applier.configuration)
        """What was applied at the last look."""
        self._said = ("", "")
        """The names of voters and learners that the operator was told."""
        self._urls: dict[int, tuple[str, ...]] = {}
        """Where each peer is, or was when it was last wanted."""
        self.leaving: tuple[Founder, ...] = ()
        """Who is not wanted any more and may still have to vote."""
        self._told: tuple[dict[int, tuple[str, ...]], frozenset[int]] | None = None
        own = cluster.record(cluster.own.member_id)
        self._own_urls = () if own is None else own.peer_urls

    def look(self) -> bool:
        """Whether the applied state has another membership or configuration than at the last look; cheap if not."""
        configuration = self._applier.configuration
        revision, before = self._revision
        if before is configuration and revision == self._cluster.revision:
            return False
        self._revision = (self._cluster.revision, configuration)
        self.follow()
        self._tell_of(configuration)
        return True

    def look_ahead(self) -> None:
        """Follow what the log says of where members are while nobody leads; called now and then."""
        if self._pending.look():
            self.follow()

    def follow(self) -> None:
        """Tell the transport who its peers are, if that has changed."""
        own_id = self._cluster.own.member_id
        committed = self._raft.committed_configuration
        peers = {record.member_id: record.peer_urls for record in self._cluster.members()}
        self._look_at_own(peers.pop(own_id, self._own_urls))
        for server in {*self._raft.configuration.servers, *committed.servers} - {own_id}:
            # One that is to come may be in the log before it is wanted in the state that is applied here.
            if server not in peers:
                peers[server] = self._last_urls(server, peers.values())
        gone = self._cluster.removed_ids()
        self.leaving = tuple(Founder(server, "", urls) for server, urls in peers.items() if server in gone and urls)
        removed = gone.union(committed.removed)
        for member_id, urls in self._urls.items():
            # Only who was removed goes: a member that catches up comes through states from before its leader was added.
            if member_id not in removed:
                peers.setdefault(member_id, urls)
        for member_id, urls in self._pending.urls.items():
            if member_id in peers and member_id not in removed:
                peers[member_id] = tuple(dict.fromkeys((*peers[member_id], *urls)))
        told = peers, removed
        if told != self._told:
            self._urls, self._told = peers, told
            self._transport.set_peers(peers)

    def _last_urls(self, server: int, wanted: Collection[tuple[str, ...]]) -> tuple[str, ...]:
        """Where a server may be that is not wanted (any more): as the state last said here, or somebody before it did.

        Either may be the older one: a state that was loaded is behind what this member had heard in its last life.
        Not where somebody is who is wanted: a URL is free again as soon as its member is removed.
        """
        known = (*self._urls.get(server, ()), *self._cluster.urls_at_start(server))
        taken = {*self._own_urls}.union(*wanted)
        return tuple(url for url in dict.fromkeys(known) if url not in taken)

    def _look_at_own(self, urls: tuple[str, ...]) -> None:
        """The others look for this member elsewhere from now on; where it listens is its flags' to say."""
        before, self._own_urls = self._own_urls, urls
        if before not in {(), urls}:
            log.warning(
                "the peer URLs of this member were changed: if it does not listen there, start it with "
                "--listen-peer-urls that do",
                member=self._cluster.own.name,
                url=",".join(urls),
            )

    def _tell_of(self, configuration: Configuration) -> None:
        """Once for each configuration, and once more when a member has published the name that it has."""
        voters, learners = (
            ",".join(sorted(map(self._cluster.peer_name, servers)))
            for servers in (configuration.voters, configuration.learners)
        )
        if (voters, learners) != self._said:
            self._said = (voters, learners)
            log.info("members that vote", member=self._cluster.own.name, voters=voters, learners=learners)
