"""What servers send each other beside the core's messages."""

from dataclasses import dataclass
from typing import final

from kvraft.raft.messages import InstallSnapshot, Message
from tests.simulation.disk import StoredState


@final
@dataclass(slots=True, frozen=True)
class Forwarded:
    """A command on its way from the member that took it to the leader of `term`."""

    term: int
    payload: bytes


@final
@dataclass(slots=True, frozen=True)
class ForwardRefused:
    """That command is in no log."""

    request_id: bytes


@final
@dataclass(slots=True, frozen=True)
class SnapshotStream:
    """A whole snapshot with what the core is told about it."""

    message: InstallSnapshot
    state: StoredState


Frame = Message | Forwarded | ForwardRefused | SnapshotStream
"""Whatever travels between servers."""
