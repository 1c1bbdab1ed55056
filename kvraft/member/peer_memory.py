"""What this member says of itself to its peers, and whether it believes what they say (design decision 5).

A member that lost its disk, or got an old copy of it back, has forgotten votes and acknowledgements that the others
counted. It must not take part as if it remembered. So each member keeps durably which peers it has seen promise
something, and the highest committed index that each is known to hold. The leader knows those and tells everybody, its
own among them: whom it has not told could otherwise form a majority with the one that forgot.
"""

from collections import Counter
from collections.abc import Collection, Iterable
from typing import Final, final

from kvraft.member.cluster import Cluster
from kvraft.member.interfaces import LogStore
from kvraft.peer_frames import GreetingRefusalReason, GreetingRefused, MatchIndices, PeerHello
from kvraft.raft.core import Raft
from kvraft.raft.effects import Role

_TELL_EVERY_MS: Final = 1000
"""Though nothing has changed, for those that were not connected."""

REMEDY: Final = "start it once with --rebuild, or restore its newest data directory"
REMOVED: Final = (
    "it was removed from the cluster for good: to take part again it has to be added as a new member, with an empty "
    "data directory"
)


@final
class PeerMemory:
    """Satisfies the transport's `LocalMember`."""

    def __init__(
        self,
        cluster: Cluster,
        raft: Raft,
        log_store: LogStore,
        *,
        created_now: bool,
    ) -> None:
        self._cluster = cluster
        self._member_id = cluster.own.member_id
        self._raft = raft
        self._log_store = log_store
        self._created_now = created_now
        self._seen: set[int] = set()
        self._accepted: dict[int, bytes] = {}
        """The process of each peer that was last accepted."""
        self._forgetful: set[int] = set()
        """Who gets its data back, by its greeting or its questions, and has answered no leader here since."""
        self._told: MatchIndices | None = None
        self._told_ms = 0

    def local_hello(self) -> PeerHello:
        """This member now. Fresh as long as it has promised nothing: no term, so no vote, and no entry."""
        last = self._raft.durable_position
        rebuilding = self._raft.is_rebuilding
        fresh = self._created_now and last.index == 0 and self._raft.current_term == 0 and not rebuilding
        return PeerHello(
            self._cluster.cluster_id,
            self._member_id,
            self._raft.current_term,
            last.index,
            last.term,
            last.chain_hash,
            fresh,
            rebuilding,
            self._raft.founding,
        )

    def judge(self, hello: PeerHello, instance: bytes) -> GreetingRefused | None:
        """Refuse a member that has forgotten what this one remembers of it, unless it knows and asks for it.

        A process that was accepted once has not lost its disk since: its next stream may greet with what was true
        before its first one carried a vote. Not so where an index tells how old a greeting is: the whole machine of a
        member may be rolled back, memory and all.
        """
        removal = self.removal(hello.member_id)
        if removal is not None:
            return removal
        refusal = self._judge(hello)
        if refusal is None:
            self._accepted[hello.member_id] = instance
            if hello.rebuilding:
                self._forgetful.add(hello.member_id)
            else:
                self._forgetful.discard(hello.member_id)
        elif not refusal.remembered_index and self._accepted.get(hello.member_id) == instance:
            return None
        return refusal

    def removal(self, member_id: int) -> GreetingRefused | None:
        """What a member hears that was removed; what is remembered of it stays, as its id is used up for good.

        Not before its removal is committed: until then its vote and its acknowledgements may be needed.
        """
        configuration = self._raft.committed_configuration
        never_came = self._cluster.is_removed(member_id) and member_id not in configuration.servers
        if member_id not in configuration.removed and not never_came:
            return None
        return GreetingRefused(GreetingRefusalReason.REMOVED, REMOVED)

    def voters(self) -> Collection[int]:
        """The voting servers of the configuration in force."""
        return self._raft.configuration.voters

    def _judge(self, hello: PeerHello) -> GreetingRefused | None:
        if hello.rebuilding:
            self.saw(hello.member_id, 1)  # It has taken part, or it would have nothing to forget.
            return None
        remembered = self._log_store.peer_seen(hello.member_id)
        if remembered is None:
            if hello.last_log_index > 0:  # That is on its disk; its term may not be, and then has promised nothing yet.
                self.saw(hello.member_id, hello.current_term)
            return None
        if hello.fresh or hello.current_term == 0:  # What it sent here came out of a term that was on its disk.
            return GreetingRefused(
                GreetingRefusalReason.WIPED,
                f"its data directory is empty but it has taken part before: {REMEDY}",
                remembered,
            )
        if hello.last_log_index < remembered:
            return GreetingRefused(
                GreetingRefusalReason.SHORTER_LOG,
                _shorter(hello.last_log_index, remembered),
                remembered,
            )
        return None

    def saw(self, member_id: int, term: int) -> None:
        """A peer sent something in `term`: from term 1 on it has a vote to remember."""
        if member_id not in self._seen and term > 0:
            self._seen.add(member_id)
            self._log_store.remember_peer(member_id, 0)

    def asks(self, member_id: int) -> None:
        """A peer asks what it has forgotten; an answer from its last life may have come after its greeting."""
        self._forgetful.add(member_id)

    def took_part(self, member_id: int) -> None:
        """A peer answered this leader, as none does that still asks what it has forgotten."""
        self._forgetful.discard(member_id)

    def has_forgotten(self, member_id: int) -> bool:
        """For a leader: whether a peer that can be reached is no help, as it neither votes nor acknowledges yet."""
        return member_id in self._forgetful

    def look_around(self, now_ms: int) -> MatchIndices | None:
        """On a leader: remember what each member holds and is committed; the others are to hear it if it is returned.

        Never more than what is committed, as the rest may be truncated.
        """
        if self._raft.role is not Role.LEADER:
            return None
        commit_index = self._raft.commit_index
        # Not where the log on disk ends: that may be the end of a truncated history still.
        held = {self._member_id: self._raft.durable_index}
        held |= {member_id: progress.match_index for member_id, progress in self._raft.progress.items()}
        found = MatchIndices(tuple((member, min(index, commit_index)) for member, index in held.items() if index))
        if not found.indices or not commit_index or (found == self._told and now_ms - self._told_ms < _TELL_EVERY_MS):
            return None
        self._told, self._told_ms = found, now_ms
        self.remember(found)
        return found

    def remember(self, told: MatchIndices) -> None:
        """Keep what a leader says about the others."""
        for member_id, index in told.indices:
            if member_id != self._member_id:
                self._log_store.remember_peer(member_id, index)

    def contradiction(self, told: MatchIndices) -> str | None:
        """What is wrong with this member, if it does not hold what a leader says that it does.

        It passed as new, or as it was, with a peer that remembered nothing of it.
        """
        last_index = self._raft.durable_position.index
        held = dict(told.indices).get(self._member_id, 0)
        if held <= last_index or self._raft.is_rebuilding:
            return None
        return _shorter(last_index, held)


def holders_of_one_history(hellos: Iterable[PeerHello]) -> set[int]:
    """Of the members that say so of themselves, those that hold the cluster's data: of the history that most have.

    One that does not know its founding yet may be of any.
    """
    holders = [hello for hello in hellos if hello.last_log_index and not hello.fresh and not hello.rebuilding]
    foundings = Counter(hello.founding for hello in holders if hello.founding)
    most = foundings.most_common(1)[0][0] if foundings else b""
    return {hello.member_id for hello in holders if hello.founding in {most, b""}}


def _shorter(last_index: int, acknowledged: int) -> str:
    known = f"its log ends at {last_index} but it has acknowledged {acknowledged}"
    return f"{known}: its data directory is an old copy; {REMEDY}"
