"""What must hold after every step, asserted in production too: a server that breaks its own rules stops at once."""

from typing import final

from kvraft.raft.state import State


@final
class Invariants:
    """Compares each step's end with the one before. Reads, never writes; a few comparisons a step."""

    __slots__ = ("_applied", "_committed", "_delivered", "_term", "_vote")

    def __init__(self, state: State) -> None:
        self._term = state.current_term
        self._vote = state.voted_for
        self._committed = state.commit_index
        self._applied = state.last_applied
        self._delivered = state.delivered_index

    def check(self, state: State) -> None:
        """Raise AssertionError if this server broke a rule of Figure 2 or Figure 3."""
        term, vote = state.current_term, state.voted_for
        commit_index, applied, delivered = state.commit_index, state.last_applied, state.delivered_index
        log = state.log
        assert term >= self._term, "terms never decrease (Figure 2)"
        if term == self._term:
            assert self._vote == vote or not self._vote, "one vote a term (section 5.2)"
        assert commit_index >= self._committed, "the commit index never decreases (Figure 2)"
        assert applied >= self._applied, "entries are applied once (Figure 2)"
        assert delivered >= self._delivered, "entries are delivered once"
        assert applied <= delivered <= commit_index, "applied <= delivered <= committed"
        assert commit_index <= log.last_index or state.installing, "what is committed is held"
        assert state.configurations, "some configuration is in force"
        assert state.configurations[-1][0] <= log.last_index, "the configuration stands in the log"
        log.check()
        state.role.check(state)
        self._term = term
        self._vote = vote
        self._committed = commit_index
        self._applied = applied
        self._delivered = delivered
