"""The configuration: which servers vote and which only learn (paper section 6, thesis section 4), and which never will.

Three forms on disk and on the wire. Form 1: voters and learners. Form 2: those removed as well. Form 3: the founding,
too, which every configuration has but the one that a cluster starts from. Each is written in the lowest form that holds
it, so the bytes of a configuration stay the same.
"""

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, final

_COUNTS: Final = struct.Struct("<BHH")
_REMOVED_COUNT: Final = struct.Struct("<I")
"""Behind the counts in form 2: the one list that only grows."""
_SERVER: Final = struct.Struct("<Q")
_FORMAT: Final = 1
_FORMAT_WITH_REMOVED: Final = 2
_FORMAT_WITH_FOUNDING: Final = 3

FOUNDING_BYTES: Final = 16
"""Length of a founding: long enough that two of them never meet by accident."""


@final
@dataclass(slots=True, frozen=True)
class Configuration:
    """A set of servers. Order does not matter: all tuples are kept sorted and free of duplicates."""

    voters: tuple[int, ...]
    """Server ids whose votes and acknowledgements count."""
    learners: tuple[int, ...] = ()
    """Server ids that receive entries and never count."""
    removed: tuple[int, ...] = ()
    """Server ids that an earlier configuration had: used up for good.

    A server that comes back under its id may have an older log, or none, than what it once acknowledged and voted on,
    and peers that have not heard of the removal still count it. etcd remembers removed members for the same reason
    (`membership.RaftCluster.removed`).
    """
    founding: bytes = b""
    """Tells this history from every other that began with the same servers: random, by the first leader of all, and the
    same in every later configuration. Empty before. The ids cannot tell them apart: servers that lose their disks and
    start anew with the same addresses have the same ids.
    """

    @staticmethod
    def of(
        voters: Iterable[int], learners: Iterable[int] = (), removed: Iterable[int] = (), founding: bytes = b""
    ) -> "Configuration":
        """A configuration from ids in any order."""
        return Configuration(
            tuple(sorted(set(voters))), tuple(sorted(set(learners))), tuple(sorted(set(removed))), founding
        )

    def founded_as(self, founding: bytes) -> "Configuration":
        """This configuration with its founding."""
        assert not self.founding, "a cluster is founded once"
        assert len(founding) == FOUNDING_BYTES, "of one length"
        return Configuration(self.voters, self.learners, self.removed, founding)

    def followed_by(self, voters: Iterable[int], learners: Iterable[int]) -> "Configuration":
        """The configuration after this one: whoever is in neither list any more is removed, like those before."""
        after = Configuration.of(voters, learners)
        removed = {*self.removed, *self.servers}.difference(after.servers)
        return Configuration.of(voters, learners, removed, self.founding)

    @property
    def servers(self) -> tuple[int, ...]:
        """Voters and learners, sorted."""
        return tuple(sorted({*self.voters, *self.learners}))

    def encode(self) -> bytes:
        """The payload of a CONFIGURATION entry, and the form in snapshots."""
        form = _FORMAT_WITH_FOUNDING if self.founding else _FORMAT_WITH_REMOVED if self.removed else _FORMAT
        parts = [_COUNTS.pack(form, len(self.voters), len(self.learners))]
        if form != _FORMAT:
            parts.append(_REMOVED_COUNT.pack(len(self.removed)))
        parts.append(self.founding)
        parts.extend(_SERVER.pack(server) for server in (*self.voters, *self.learners, *self.removed))
        return b"".join(parts)

    @staticmethod
    def decode(payload: bytes) -> "Configuration":
        """The configuration that `encode` wrote.

        Raises:
            ValueError: another format version, a length that does not fit the counts, or a server both removed and in.
        """
        if len(payload) < _COUNTS.size:
            message = f"configuration of {len(payload)} bytes is too short"
            raise ValueError(message)
        version, voter_count, learner_count = _COUNTS.unpack_from(payload)
        if not _FORMAT <= version <= _FORMAT_WITH_FOUNDING:
            message = f"configuration format {version}, expected {_FORMAT} to {_FORMAT_WITH_FOUNDING}"
            raise ValueError(message)
        start, removed_count, founding = _COUNTS.size, 0, b""
        if version != _FORMAT:
            removed_count = int.from_bytes(payload[start : start + _REMOVED_COUNT.size], "little")
            start += _REMOVED_COUNT.size
        if version == _FORMAT_WITH_FOUNDING:
            founding = payload[start : start + FOUNDING_BYTES]
            start += FOUNDING_BYTES
        in_count = voter_count + learner_count
        expected = start + _SERVER.size * (in_count + removed_count)
        if len(payload) != expected:
            message = f"configuration of {len(payload)} bytes, expected {expected}"
            raise ValueError(message)
        servers = [server for (server,) in _SERVER.iter_unpack(payload[start:])]
        if not set(servers[:in_count]).isdisjoint(servers[in_count:]):
            message = f"configuration has servers that it says were removed: {servers}"
            raise ValueError(message)
        return Configuration.of(servers[:voter_count], servers[voter_count:in_count], servers[in_count:], founding)
