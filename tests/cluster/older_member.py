"""A member as it was before members could be changed: it speaks protocol 1, and stops at commands that came later.

python -m tests.cluster.older_member PYTHON -m kvraft FLAGS...
"""

import dataclasses
import sys
from collections.abc import Callable
from typing import Final

from kvraft import cli
from kvraft.keyspace import command_codec, records
from kvraft.keyspace.commands import Command, RegisterMembers
from kvraft.member.cluster import Cluster
from kvraft.transport.handshake import Gate, Greeting, Lane

FIRST_LATER_COMMAND: Final = 15

_greeting = Gate.greeting
_decode_meta = records.decode_meta


def _older_greeting(gate: Gate, to_member_id: int, lane: Lane, session: int) -> Greeting:
    return dataclasses.replace(_greeting(gate, to_member_id, lane, session), protocol_version_max=1)


def _older_registration(cluster: Cluster, _led_s: float, _newest: Callable[[int], int]) -> Command | None:
    founders = frozenset(cluster.member_ids())
    return None if founders <= cluster.revision[0].members.keys() else RegisterMembers(tuple(sorted(founders)))


def _older_meta(record: bytes) -> records.Meta:
    if record[:1] != b"\x01":
        raise records.RecordError("a later version wrote it")
    return _decode_meta(record)


def _older_members(_cluster: Cluster, _newest: Callable[[int], int]) -> list[int]:
    return []


_METHODS: Final = (
    (Gate, "greeting", _older_greeting),
    (Cluster, "_registration", _older_registration),
    (Cluster, "older_members", _older_members),
)


def main() -> int:
    """Grow old, and run."""
    for number in [number for number in command_codec._DECODERS if number >= FIRST_LATER_COMMAND]:
        del command_codec._DECODERS[number]
    for owner, name, method in _METHODS:
        setattr(owner, name, method)
    for module in [module for name, module in sys.modules.items() if name.startswith("kvraft.")]:
        if getattr(module, "decode_meta", None) is _decode_meta:
            vars(module)["decode_meta"] = _older_meta
    return cli.main(sys.argv[4:])


if __name__ == "__main__":
    sys.exit(main())
