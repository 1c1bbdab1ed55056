"""`python -m tests.keyspace.replay SEED`: apply a log that follows from a seed, and print what the state is then."""

import hashlib
import random
import sys
import time

from kvraft.keyspace.keyspace import Keyspace
from tests.keyspace.flushes import take_changes
from tests.keyspace.helpers import CLOCK_MS, Disk
from tests.keyspace.test_persistence import random_command

COMMANDS = 1000


def replay(seed: int) -> str:
    """The state in one line: its hash, its index, and a digest of all that a disk would hold."""
    rng = random.Random(seed)
    keyspace, disk = Keyspace(), Disk()
    clock_ms = CLOCK_MS
    for number in range(COMMANDS):
        clock_ms += rng.choice((0, 1, 700))
        keyspace.apply(random_command(rng), clock_ms)
        if number % 200 == 199:
            disk.store(take_changes(keyspace))
    held = hashlib.sha256(repr((sorted(disk.nodes.items()), sorted(disk.history.items()), disk.meta)).encode())
    return f"{keyspace.state_hash.hex()} {keyspace.etcd_index} {held.hexdigest()}"


if __name__ == "__main__":
    sys.stdout.write(f"{replay(int(sys.argv[1]))}\n{time.gmtime().tm_year} {hash('a')}\n")
