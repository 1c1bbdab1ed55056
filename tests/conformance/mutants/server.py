"""`python -m tests.conformance.mutants.server NUMBER --port=P --history-size=N`: the memory server, one bug planted."""

import sys

from tests.api_v2 import memory_server
from tests.conformance.mutants.catalogue import MUTANTS

if __name__ == "__main__":
    number = int(sys.argv.pop(1))
    list(MUTANTS.values())[number]()
    memory_server.main()
