"""Taking part again after the own disk was lost (Viewstamped Replication Revisited, section 4.3; PAR, FAST'18).

A server that lost its disk has forgotten its votes, and entries that it acknowledged and others counted. If it went on
as an empty follower, it could vote twice in a term, and elect a leader that lacks committed entries. So it takes
everything back from the others in two stages, and each is durable:

1. *Asking.* It is dead to all but these two messages: no vote, no acknowledgement, no answer to a heartbeat. It asks
   every other server of the configuration for its term and the end of its log. A leader that is asked forgets what it
   knew of this server. One in term 0 is silent: it may have lost its disk without knowing it yet.
2. *Below the floor.* All have answered. It takes the greatest term of the answers, M, with its vote in M spent, and
   the greatest (term, index) of their logs as its floor. From now on it follows, acknowledges and votes, but as if its
   log reached to the floor at least: no candidate below it gets its vote, and it does not stand itself.
   Once its own durable log has reached the floor, it is a server like any other.

Why that is safe:

- *Votes.* A candidate's term is durable before it asks, so no term in which this server may have voted is above M,
  except its own candidacies, which ended with its memory. In terms up to M it votes no more.
- *Acknowledgements.* Let entry e be committed with a forgotten acknowledgement. Somebody else who still stands holds
  it, too (below), and holds it when asked, so the floor is at or above e. A later election without this server's vote
  meets that holder; with its vote, the candidate's log reaches the floor, and so contains e by the same argument that
  section 5.4.3 makes for a voter that has e. An acknowledgement may be counted late, by a leader that has not been
  asked yet: its own log is in the floor then, and once it has been asked, it counts anew.
- *Old messages.* What this server sent before the loss must not reach a server behind the question. Streams of peers
  belong to one process, and its question comes on the streams that replaced them, so nothing older is read behind it.
- *Several at once.* One that asks answers others that it knows nothing. That is enough as long as each majority with
  this server in it contains one that knows: fewer than a majority may have lost their disks. Until it lost its own, it
  may have led and counted a forgotten vote or acknowledgement, though, together with those of servers that had answered
  before they gave theirs. So after the first such answer of a server all others are asked again.

- *A configuration of another day.* What this server knows of it may be old, so each answer has the configurations of
  the replier's log, and whoever stands in one of them is asked as well, learners too. A change commits with a majority
  of the servers that stand in the configuration before it, with a learner that it promotes: so somebody who is asked
  knows of it, and of the next one in turn. Who is removed by a committed one is needed no more: to lead, it would need
  the vote of one that holds that entry.

The price is that *all* other servers must answer once: a candidate's term may stand on its disk alone. And a floor may
name what never was committed: if its only holder loses its disk, too, and the two are half of the voters, nobody can be
elected any more (simulator: `Nemesis._strands`).
What an operator can do besides is to restore the disk, or (with membership changes) to replace the member.
"""

import random
from typing import Final, final

from kvraft.raft.configuration import Configuration
from kvraft.raft.effects import Rebuilding
from kvraft.raft.messages import RebuildReply, RebuildRequest
from kvraft.raft.progress import Progress
from kvraft.raft.quorum import majority
from kvraft.raft.roles import Leader, become_follower
from kvraft.raft.state import State

_NONCE_BITS: Final = 62


@final
class Asking:
    """The answers so far. They live in memory: a crash in the middle begins anew, with another nonce."""

    __slots__ = ("blank", "next_ms", "nonce", "random", "replies")

    def __init__(self, rng: random.Random, now_ms: int) -> None:
        self.random = rng
        self.nonce = rng.getrandbits(_NONCE_BITS)
        """Answers to an earlier question say nothing about what happened since."""
        self.replies: dict[int, RebuildReply] = {}
        """Of those that know something."""
        self.blank: set[int] = set()
        """Who has answered that it has lost its disk, too."""
        self.next_ms = now_ms
        """When those that have not answered are asked again."""

    def begin_anew(self, now_ms: int) -> None:
        """Ask everyone again; what they said before, or say now to the question before, does not count."""
        self.nonce = self.random.getrandbits(_NONCE_BITS)
        self.replies.clear()
        self.next_ms = now_ms


def enough_know(knowing: int, voters: int) -> bool:
    """Whether each majority of the voters has one in it that knows, if so many others do."""
    return knowing > voters - majority(voters)


def to_ask(state: State, asking: Asking) -> Configuration:
    """Everybody who is to be asked: in the configuration that this server began with, or in one that it was told of.

    Who votes is known by those alone whose logs say so; it began with what somebody could tell it.
    """
    told = [reply.configurations for reply in asking.replies.values() if reply.configurations]
    if not told:
        return state.configuration
    removed = {server for committed, *_ in told for server in committed.removed}
    known = [configuration for configurations in told for configuration in configurations]
    voters = {server for configuration in known for server in configuration.voters} - removed
    servers = {server for configuration in known for server in configuration.servers} - removed
    servers |= set(state.configuration.servers) - removed
    return Configuration.of(voters, servers - voters, removed)


def unanswered(state: State, asking: Asking) -> list[int]:
    """The servers whose answer is missing; one that knows nothing may answer better later."""
    return [server for server in to_ask(state, asking).servers if server not in {state.server_id, *asking.replies}]


def ask(state: State, asking: Asking) -> None:
    """Ask everybody, once a heartbeat interval: also who has answered, as long as somebody has not.

    Whoever is missed may be removed meanwhile, which is the remedy, and only those others can tell.
    """
    if state.now_ms < asking.next_ms:
        return
    asking.next_ms = state.now_ms + state.settings.heartbeat_interval_ms
    for server in to_ask(state, asking).servers:
        if server != state.server_id:
            state.send(server, RebuildRequest(state.current_term, asking.nonce))


def handle_rebuild_request(state: State, from_server: int, message: RebuildRequest) -> None:
    """A server that lost its disk asks. A leader starts from nothing with it, or else would send what comes behind it.

    It does not count as heard: it cannot vote or acknowledge, and a leader that hears nobody else must step down.
    The answer waits for the disk: its term may be what keeps the asker from voting twice.
    """
    rebuilding = state.rebuilding
    if rebuilding is not None and rebuilding.asking:
        state.send(from_server, RebuildReply(0, message.nonce, 0, 0, True))
        return
    if state.current_term == 0:
        return  # Either it is new, or it has lost its disk and will hear so from somebody who remembers it.
    role = state.role
    log = state.log
    if isinstance(role, Leader) and from_server in role.progress:
        role.progress[from_server] = Progress(log.last_index, role.progress[from_server].last_contact_ms)
    last_term, last_index = position_to_reach(state)
    configurations = tuple(held for _, held in state.configurations[_committed(state) :])
    reply = RebuildReply(state.current_term, message.nonce, last_index, last_term, False, configurations)
    state.send_after_persist(from_server, reply)


def _committed(state: State) -> int:
    """The place of the latest configuration that is known to be committed."""
    return max(place for place, (index, _) in enumerate(state.configurations) if index <= state.commit_index)


def handle_rebuild_reply(state: State, asking: Asking, from_server: int, message: RebuildReply) -> bool:
    """Count an answer. True if it was the last one that was needed: from now on this server takes part."""
    if message.nonce != asking.nonce or from_server not in to_ask(state, asking).servers:
        return False
    if not message.blank:
        asking.replies[from_server] = message
    elif from_server not in asking.blank:
        asking.blank.add(from_server)
        asking.begin_anew(state.now_ms)
        return False
    voters = to_ask(state, asking).voters
    if not asking.blank.issuperset(unanswered(state, asking)):
        return False
    if not enough_know(sum(voter in asking.replies for voter in voters), len(voters)):
        return False
    knowing = asking.replies.values()
    term = max(reply.term for reply in knowing)
    last_log_term, last_log_index = max((reply.last_log_term, reply.last_log_index) for reply in knowing)
    become_follower(state, term, 0)
    state.voted_for = state.server_id  # Whomever it was given to: it is spent.
    state.rebuilding = Rebuilding(False, last_log_term, last_log_index)
    return True


def position_to_reach(state: State) -> tuple[int, int]:
    """(term, index) of the log that this server speaks for: its own, or the floor while that is higher."""
    log = state.log
    last = (log.last_term, log.last_index)
    rebuilding = state.rebuilding
    return last if rebuilding is None else max(last, (rebuilding.last_log_term, rebuilding.last_log_index))


def settle(state: State) -> None:
    """Forget the floor once the durable log has reached it."""
    rebuilding = state.rebuilding
    if rebuilding is None or rebuilding.asking or state.installing is not None:
        return
    durable_index = state.log.durable_index
    held = (state.log.term_at(durable_index), durable_index)
    if held >= (rebuilding.last_log_term, rebuilding.last_log_index):
        state.rebuilding = None
