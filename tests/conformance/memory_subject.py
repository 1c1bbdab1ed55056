"""kvraft's HTTP API over its keyspace in memory, started with the command line of a kvraft member.

Usage: memory_subject.py COMMAND... --listen-client-urls=http://127.0.0.1:PORT --history-size=N ...
"""

import os
import sys
from pathlib import Path
from urllib.parse import urlsplit

MUTANT_VARIABLE = "CONFORMANCE_MUTANT"
"""Number of the planted bug, for `tests.conformance.mutants`."""

if __name__ == "__main__":
    repository = Path(__file__).resolve().parents[2]
    flags = dict(word.removeprefix("--").split("=", 1) for word in sys.argv if word.startswith("--") and "=" in word)
    port = urlsplit(flags["listen-client-urls"]).port
    mutant = os.environ.get(MUTANT_VARIABLE)
    module = ["tests.api_v2.memory_server"] if mutant is None else ["tests.conformance.mutants.server", mutant]
    os.chdir(repository)
    os.execv(
        sys.executable,
        [sys.executable, "-m", *module, f"--port={port}", f"--history-size={flags['history-size']}"],
    )
