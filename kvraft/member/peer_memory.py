"""What this member says of itself to its peers, and whether it believes what they say (design decision 5).

A member that lost its disk, or got an old copy of it back, has forgotten votes and acknowledgements that the others
counted. It must not take part as if it remembered. So each member keeps durably which peers it has seen promise
something, and the highest committed index that each has acknowledged.
"""

from collections.abc import Callable
from typing import Final, final

from kvraft.member.interfaces import LogStore
from kvraft.peer_frames import PeerHello, Refusal, RefusalKind
from kvraft.raft.core import Raft
from kvraft.raft.restored import LogPosition

REMEDY: Final = "start it once with --rebuild, or restore its newest data directory"


@final
class PeerMemory:
    """Satisfies the transport's `LocalMember`."""

    def __init__(
        self,
        cluster_id: int,
        member_id: int,
        raft: Raft,
        log_store: LogStore,
        durable_position: Callable[[], LogPosition],
        *,
        created_now: bool,
    ) -> None:
        self._cluster_id = cluster_id
        self._member_id = member_id
        self._raft = raft
        self._log_store = log_store
        self._durable_position = durable_position
        self._created_now = created_now
        self._seen: set[int] = set()

    def local_hello(self) -> PeerHello:
        """This member now. Fresh as long as it has promised nothing: no term, so no vote, and no entry."""
        last = self._durable_position()
        rebuilding = self._raft.is_rebuilding
        fresh = self._created_now and last.index == 0 and self._raft.current_term == 0 and not rebuilding
        return PeerHello(
            self._cluster_id,
            self._member_id,
            self._raft.current_term,
            last.index,
            last.term,
            last.chain_hash,
            fresh,
            rebuilding,
        )

    def judge(self, hello: PeerHello) -> Refusal | None:
        """Refuse a member that has forgotten what this one remembers of it, unless it knows and asks for it."""
        if hello.rebuilding:
            self.saw(hello.member_id, 1)  # It has taken part, or it would have nothing to forget.
            return None
        remembered = self._log_store.peer_seen(hello.member_id)
        if remembered is None:
            if hello.last_log_index > 0:  # That is on its disk; its term may not be, and then has promised nothing yet.
                self.saw(hello.member_id, hello.current_term)
            return None
        if hello.fresh or hello.current_term == 0:  # What it sent here came out of a term that was on its disk.
            return Refusal(
                RefusalKind.WIPED,
                f"its data directory is empty but it has taken part before: {REMEDY}",
            )
        if hello.last_log_index < remembered:
            return Refusal(
                RefusalKind.SHORTER_LOG,
                f"its log ends at {hello.last_log_index} but it has acknowledged {remembered}: its data directory is "
                f"an old copy; {REMEDY}",
            )
        return None

    def saw(self, member_id: int, term: int) -> None:
        """A peer sent something in `term`: from term 1 on it has a vote to remember."""
        if member_id not in self._seen and term > 0:
            self._seen.add(member_id)
            self._log_store.remember_peer(member_id, 0)

    def remember_acknowledged(self) -> None:
        """Keep what each follower is known to hold and is committed; never more, as the rest may be truncated."""
        commit_index = self._raft.commit_index
        for member_id, progress in self._raft.progress.items():
            if progress.match_index:
                self._log_store.remember_peer(member_id, min(progress.match_index, commit_index))
