"""All planted bugs, in the order of their numbers."""

from tests.simulation.mutants import (
    accounts,
    applying,
    coming_and_going,
    disks,
    election,
    links,
    membership,
    peers,
    reads,
    rebuilding,
    replication,
    snapshots,
    waiting,
    watching,
)
from tests.simulation.mutants.planting import Mutant

MUTANTS: tuple[Mutant, ...] = (
    *election.MUTANTS,
    *links.MUTANTS,
    *replication.MUTANTS,
    *applying.MUTANTS,
    *membership.MUTANTS,
    *snapshots.MUTANTS,
    *reads.MUTANTS,
    *watching.MUTANTS,
    *rebuilding.MUTANTS,
    *peers.MUTANTS,
    *disks.MUTANTS,
    *waiting.MUTANTS,
    *coming_and_going.MUTANTS,
    *accounts.MUTANTS,
)
