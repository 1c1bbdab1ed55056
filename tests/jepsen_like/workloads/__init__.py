"""What clients do, and how it is judged: one file a workload.

base.py       what they share: the arena, and paced clients
register.py   one value a key: linearizability, and the order of indices over the whole store
sets.py       elements are only added: each acknowledged one is there, once, and stays
watches.py    every event to every watcher, in order, once (the judge of the kill rounds)
locks.py      compare-and-swap locks without a TTL: one holder at a time
ttls.py       keys that expire: never early, not late, once, alike on all members
directories.py  a tree that grows and is removed: every listing is the tree at its index
backups.py    backups of every member, beside the clients and watchers of watches.py
"""

from typing import Final

from tests.jepsen_like.workloads import backups, base, directories, locks, register, sets, ttls, watches

WORKLOADS: Final[dict[str, base.Workload]] = {
    "register": register.Register(),
    "set": sets.Sets(),
    "watch": watches.Watches(),
    "lock": locks.Locks(),
    "ttl": ttls.Ttls(),
    "directory": directories.Directories(),
    "backup": backups.Backups(),
}
"""What `--workload` takes."""
