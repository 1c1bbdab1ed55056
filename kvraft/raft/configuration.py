"""The configuration: which servers vote and which only learn (paper section 6, thesis section 4)."""

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, final

_COUNTS: Final = struct.Struct("<BHH")
_SERVER: Final = struct.Struct("<Q")
_FORMAT: Final = 1


@final
@dataclass(slots=True, frozen=True)
class Configuration:
    """A set of servers. Order does not matter: both tuples are kept sorted and free of duplicates."""

    voters: tuple[int, ...]
    """Server ids whose votes and acknowledgements count."""
    learners: tuple[int, ...] = ()
    """Server ids that receive entries and never count."""

    @staticmethod
    def of(voters: Iterable[int], learners: Iterable[int] = ()) -> "Configuration":
        """A configuration from ids in any order."""
        return Configuration(tuple(sorted(set(voters))), tuple(sorted(set(learners))))

    @property
    def servers(self) -> tuple[int, ...]:
        """Voters and learners, sorted."""
        return tuple(sorted({*self.voters, *self.learners}))

    def encode(self) -> bytes:
        """The payload of a CONFIGURATION entry, and the form in snapshots."""
        parts = [_COUNTS.pack(_FORMAT, len(self.voters), len(self.learners))]
        parts.extend(_SERVER.pack(server) for server in (*self.voters, *self.learners))
        return b"".join(parts)

    @staticmethod
    def decode(payload: bytes) -> "Configuration":
        """The configuration that `encode` wrote.

        Raises:
            ValueError: another format version, or a length that does not fit the counts.
        """
        if len(payload) < _COUNTS.size:
            message = f"configuration of {len(payload)} bytes is too short"
            raise ValueError(message)
        version, voter_count, learner_count = _COUNTS.unpack_from(payload)
        if version != _FORMAT:
            message = f"configuration format {version}, expected {_FORMAT}"
            raise ValueError(message)
        expected = _COUNTS.size + _SERVER.size * (voter_count + learner_count)
        if len(payload) != expected:
            message = f"configuration of {len(payload)} bytes, expected {expected}"
            raise ValueError(message)
        servers = [server for (server,) in _SERVER.iter_unpack(payload[_COUNTS.size :])]
        return Configuration.of(servers[:voter_count], servers[voter_count:])
