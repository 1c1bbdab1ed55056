"""The cluster that a restore founds: computed from the backup and the arguments alone.

So one call for each member, on a machine of its own, gives the same cluster as long as the arguments are the same; and
with other arguments, another one, whose members refuse these.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final, final

from kvraft import ids
from kvraft.backup.contents import moment
from kvraft.founding import Founder
from kvraft.raft.configuration import FOUNDING_BYTES, Configuration
from kvraft.raft.entries import HASH_BYTES
from kvraft.raft.restored import LogPosition
from kvraft.records import BackupFacts
from kvraft.storage.errors import BackupError
from kvraft.storage.spool import SpoolHeader

_NS_PER_MS: Final = 1_000_000


@final
@dataclass(slots=True, frozen=True)
class Wanted:
    """What the operator asks for, the same on every machine."""

    peers: tuple[tuple[str, tuple[str, ...]], ...]
    """Name and peer URLs of every new member."""
    token: str = ""
    """`--initial-cluster-token` of the new cluster; empty: made of everything else."""
    bump_index: int = 0
    """How far beyond the backup the indices go on."""
    ttl_from_ns: int | None = None
    """Unix nanoseconds until which TTLs have counted on since the backup. None: they stood still."""


@final
@dataclass(slots=True, frozen=True)
class NewCluster:
    """Who is in it, and where its log begins."""

    token: str
    founders: tuple[Founder, ...]
    cluster_id: int
    configuration: Configuration
    position: LogPosition
    bump_index: int

    def founder(self, name: str) -> Founder:
        """The member of this name.

        Raises:
            BackupError: there is none.
        """
        found = next((founder for founder in self.founders if founder.name == name), None)
        if found is None:
            names = ", ".join(founder.name for founder in self.founders)
            raise BackupError(f"--name={name} is not among --peers: use one of {names}")
        return found


def found_cluster(wanted: Wanted, copy_id: str, facts: BackupFacts, header: SpoolHeader) -> NewCluster:
    """The cluster for a verified backup.

    Raises:
        BackupError: the arguments would give the ids of the cluster that the backup is of, or TTLs that went back.
    """
    shift_ms = _shift_ms(wanted, facts)
    seed = repr((copy_id, sorted(wanted.peers), wanted.token, wanted.bump_index, shift_ms)).encode()
    token = wanted.token or f"restored-{_digest(b'token', seed, 8).hex()}"
    founders = _founders(wanted.peers, token)
    cluster_id = ids.cluster_id(founder.member_id for founder in founders)
    if cluster_id == header.cluster_id:
        raise BackupError(f"--token={token} is that of the cluster that the backup is of: give another one, or none")
    old = header.position
    position = LogPosition(
        old.index + wanted.bump_index,
        old.term,
        _digest(b"position" + old.chain_hash, seed, HASH_BYTES),
        max(old.clock_ms, facts.clock_ms) + shift_ms,
    )
    configuration = Configuration.of(
        (founder.member_id for founder in founders), founding=_digest(b"founding", seed, FOUNDING_BYTES)
    )
    return NewCluster(token, founders, cluster_id, configuration, position, wanted.bump_index)


def _shift_ms(wanted: Wanted, facts: BackupFacts) -> int:
    if wanted.ttl_from_ns is None:
        return 0
    if wanted.ttl_from_ns < facts.taken_ns:
        raise BackupError(f"--ttl-from is before the backup was taken ({moment(facts.taken_ns)}): give a later moment")
    return (wanted.ttl_from_ns - facts.taken_ns) // _NS_PER_MS


def _founders(peers: Sequence[tuple[str, tuple[str, ...]]], token: str) -> tuple[Founder, ...]:
    sorted_urls = ((name, tuple(sorted(urls))) for name, urls in sorted(peers))
    return tuple(Founder(ids.member_id(urls, token), name, urls) for name, urls in sorted_urls)


def _digest(purpose: bytes, seed: bytes, size: int) -> bytes:
    return blake2b(purpose + seed, digest_size=size).digest()
