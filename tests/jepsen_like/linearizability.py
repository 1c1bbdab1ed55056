"""Linearizability of a register, key by key: the search of Wing and Gong with Lowe's cache, as in Porcupine.

An operation is an interval between two moments of one monotonic clock. A history is linearizable if every operation can
be given one moment inside its interval such that, in the order of these moments, each answer is right. Keys are
independent (linearizability is local: Herlihy and Wing 1990, theorem 1), so each is searched alone, which keeps the
search small. An operation of unknown outcome has an interval without end and need not have happened at all.

Prior art: Wing and Gong 1993 (the search), Lowe 2017 (undoing in a linked list, the cache of visited configurations),
anishathalye/porcupine `checker.go` (both, and the partition by key). The search is exponential in the number of
operations at one time: keep clients per key to 8 and operations per key to 200, values unique, and leave a key for a
new one after an unknown outcome. A search that exceeds its steps is `UNDECIDED`, which is nobody's pass.
"""

import dataclasses
import enum
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Literal, TypeAlias, final

STEPS_MAX: Final = 2_000_000
"""Tried operations per key, some ten seconds; counted and not timed, so that a verdict does not depend on the load."""
CLIENTS_MAX: Final = 8
OPERATIONS_PER_KEY_MAX: Final = 200

Action: TypeAlias = Literal["read", "write", "cas", "create", "delete"]
Outcome: TypeAlias = Literal["ok", "failed", "unknown"]
State: TypeAlias = str | None
"""The register's value; None while there is no such key, as at first."""


@final
@dataclasses.dataclass(slots=True, frozen=True)
class Operation:
    """What one client did to one key and what it was told."""

    action: Action
    value: State
    """Read: what was read. Write, cas, create: what was written. Delete: None."""
    start: int
    end: int | None
    """When the answer came; None for an unknown outcome."""
    outcome: Outcome = "ok"
    """`failed`: the answer says that the condition did not hold. What certainly was not done is left out."""
    compared: State = None
    """The value that a cas wants to find, and a delete too if it is not None."""


class Verdict(enum.Enum):
    """What is known of a history."""

    LINEARIZABLE = "linearizable"
    VIOLATED = "violated"
    UNDECIDED = "undecided"


@final
@dataclasses.dataclass(slots=True, frozen=True)
class Result:
    """A verdict, and for a violation how far the search came."""

    verdict: Verdict
    steps: int
    stuck_at: Operation | None = None
    """Of all orders tried, in the one that explained most operations this is the first that it could not explain."""


def apply(state: State, operation: Operation) -> tuple[bool, State]:
    """Whether the operation can take effect with this outcome on this state, and the state after it.

    An unknown operation that had no effect is one that is left out, so here it only counts with its effect.
    """
    if operation.action == "read":
        return operation.value == state, state
    if operation.action == "write":
        holds = True
    elif operation.action == "cas":
        holds = state is not None and state == operation.compared
    elif operation.action == "create":
        holds = state is None
    else:
        holds = state is not None and operation.compared in {None, state}
    if operation.outcome == "failed":
        return not holds, state
    return holds, operation.value


def check_keys(histories: Mapping[str, Sequence[Operation]], steps_max: int = STEPS_MAX) -> dict[str, Result]:
    """Check each key by itself."""
    return {key: check(operations, steps_max) for key, operations in histories.items()}


def check(operations: Iterable[Operation], steps_max: int = STEPS_MAX) -> Result:
    """Search for an order of the operations on one key that explains every answer. The key is absent at first."""
    # A read of unknown outcome says nothing and changes nothing.
    known = [operation for operation in operations if operation.outcome != "unknown" or operation.action != "read"]
    return _Search(known, steps_max).run()


@final
class _Search:
    """A doubly linked list of calls and returns in the order of time; what is linearized is taken out of it.

    Positions count from 1, and 0 is the list's head. The entry of a call holds its operation's number and that of a
    return the number's complement, as signs tell them apart.
    """

    def __init__(self, operations: Sequence[Operation], steps_max: int) -> None:
        self._operations = operations
        self._steps_max = steps_max
        moments = [(operation.start, 0, number) for number, operation in enumerate(operations)]
        for number, operation in enumerate(operations):
            if operation.outcome != "unknown":
                assert operation.end is not None, "an answer came at some time"
                moments.append((operation.end, 1, number))
        moments.sort()  # at one moment calls come first: such operations count as concurrent, which accepts more
        self._entries = [0, *(~number if ended else number for _, ended, number in moments)]
        count = len(self._entries)
        self._next = [*range(1, count), 0]
        self._before = [count - 1, *range(count - 1)]
        self._return_at = {~entry: at for at, entry in enumerate(self._entries) if entry < 0}

    def run(self) -> Result:
        state: State = None
        done = 0  # a bit for each operation
        visited: set[tuple[int, State]] = set()
        taken: list[tuple[int, State, int]] = []
        steps, furthest, stuck_at = 0, -1, None
        at = self._next[0]
        while at:
            entry = self._entries[at]
            if entry >= 0:
                steps += 1
                if steps > self._steps_max:
                    return Result(Verdict.UNDECIDED, steps)
                possible, after = apply(state, self._operations[entry])
                if possible and (configuration := (done | 1 << entry, after)) not in visited:
                    visited.add(configuration)
                    taken.append((at, state, done))
                    done, state = configuration
                    self._take_out(at)
                    at = self._next[0]
                else:
                    at = self._next[at]
                continue
            # The answer of an operation that is not linearized yet: this order cannot be continued.
            if len(taken) > furthest:
                furthest, stuck_at = len(taken), self._operations[~entry]
            if not taken:
                return Result(Verdict.VIOLATED, steps, stuck_at)
            at, state, done = taken.pop()
            self._put_back(at)
            at = self._next[at]
        # No answer is left unexplained; calls that are left are unknown operations that had no effect.
        return Result(Verdict.LINEARIZABLE, steps)

    def _take_out(self, call_at: int) -> None:
        for at in (call_at, self._return_at.get(self._entries[call_at], 0)):
            if at:
                before, after = self._before[at], self._next[at]
                self._next[before], self._before[after] = after, before

    def _put_back(self, call_at: int) -> None:
        """The reverse of `_take_out`, in the reverse order: a removed entry still knows its neighbours."""
        for at in (self._return_at.get(self._entries[call_at], 0), call_at):
            if at:
                self._next[self._before[at]] = at
                self._before[self._next[at]] = at
