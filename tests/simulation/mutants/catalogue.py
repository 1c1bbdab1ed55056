"""All planted bugs, in the order of their numbers."""

from tests.simulation.mutants import election, replication
from tests.simulation.mutants.planting import Mutant

MUTANTS: tuple[Mutant, ...] = (*election.MUTANTS, *replication.MUTANTS)
