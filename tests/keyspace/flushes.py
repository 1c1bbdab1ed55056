"""A flush at one stroke, where nobody waits for a turn of the loop."""

from kvraft.keyspace.keyspace import Keyspace
from kvraft.keyspace.state_records import StateChanges


def take_changes(keyspace: Keyspace) -> StateChanges:
    """What has changed since the last flush began, all slices at once."""
    pending = keyspace.begin_changes()
    while pending.encode_some():
        pass
    return pending.changes
