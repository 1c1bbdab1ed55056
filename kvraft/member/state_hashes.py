"""Members compare state hashes at the same log index, so that a member whose state went astray is named and stops."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, final

from kvraft.keyspace.records import STATE_HASH_BYTES

_KEPT_INDICES: Final = 64
"""How many compared indices are remembered: members differ in applied index by far less than this many intervals."""

_ANSWERS: Final = slice(0, STATE_HASH_BYTES)
_NODES: Final = slice(STATE_HASH_BYTES, None)
"""A member that is still counting what was removed reports no hash of its nodes."""


@final
@dataclass(slots=True, frozen=True)
class Disagreement:
    """Two answers to the same log."""

    index: int
    members: tuple[int, ...]
    """The members whose hash differs from the majority's."""


@final
class StateHashes:
    """What each member reported at each compared index."""

    def __init__(self, quorum: Callable[[], int]) -> None:
        self._quorum = quorum
        self._reports: dict[int, dict[int, bytes]] = {}

    def report(self, member_id: int, index: int, state_hash: bytes) -> Disagreement | None:
        """Record one report; a disagreement is returned once a quorum agrees on another hash than somebody has."""
        reports = self._reports.setdefault(index, {})
        reports[member_id] = state_hash
        quorum = self._quorum()
        if len(self._reports) > _KEPT_INDICES:
            del self._reports[min(self._reports)]
        for part in (_ANSWERS, _NODES):
            parts = {member: value[part] for member, value in reports.items() if value[part]}
            hashes = list(parts.values())
            for candidate in set(hashes):
                if hashes.count(candidate) >= quorum:
                    astray = tuple(sorted(member for member, value in parts.items() if value != candidate))
                    if astray:
                        return Disagreement(index, astray)
        return None
