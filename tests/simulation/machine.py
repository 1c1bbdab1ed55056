"""The applied state of a server, behind one interface: the real keyspace, or a stand-in of a few lines."""

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Final, Protocol, final

from kvraft.keyspace.commands import Command
from kvraft.keyspace.state_records import StateChanges, StateImage
from tests.simulation.model import Model, ModelNode, Result

REQUEST_ID_BYTES: Final = 24
"""(member id, boot nonce, counter) before every command, as members write it."""


class Machine(Protocol):
    """A deterministic state machine."""

    @property
    def etcd_index(self) -> int:
        """The store's counter."""
        ...

    @property
    def state_hash(self) -> bytes:
        """Equal states have equal hashes, different ones do not."""
        ...

    def encode(self, command: Command) -> bytes:
        """A command as it stands in an entry, behind the request id."""
        ...

    def apply(self, payload: bytes, clock_ms: int) -> Result:
        """Carry out one entry's payload, request id included."""
        ...

    def read(self, path: bytes) -> tuple[bytes, int] | None:
        """Value and modifiedIndex of a file; None if there is none."""
        ...

    def next_deadline_ms(self) -> int | None:
        """The earliest deadline of any node."""
        ...

    def take_changes(self) -> StateChanges:
        """What changed since the last call, for the disk."""
        ...


MachineFactory = Callable[[StateImage], Machine]
"""A machine from a stored state."""


@final
class StandIn:
    """The model as a state machine. Commands travel by number: an entry names one of `commands`."""

    def __init__(self, image: StateImage, commands: Mapping[bytes, Command]) -> None:
        self._commands = commands
        self._model = Model()
        if image.meta:
            self._model.etcd_index, self._hash = int(image.meta.split(b" ")[0]), image.meta.split(b" ")[1]
        else:
            self._hash = b"0"
        for key, record in image.nodes:
            value, created, modified, deadline = json.loads(record)
            self._model.nodes[key] = ModelNode(value.encode("latin-1"), created, modified, deadline)
        self._stored: set[bytes] = set(self._model.nodes)

    @property
    def etcd_index(self) -> int:
        return self._model.etcd_index

    @property
    def state_hash(self) -> bytes:
        return self._hash

    def encode(self, command: Command) -> bytes:
        return b""

    def apply(self, payload: bytes, clock_ms: int) -> Result:
        result = self._model.apply(self._commands[payload[:REQUEST_ID_BYTES]], clock_ms)
        step = repr((payload, clock_ms, result)).encode()
        self._hash = hashlib.blake2b(self._hash + step, digest_size=8).hexdigest().encode()
        return result

    def read(self, path: bytes) -> tuple[bytes, int] | None:
        node = self._model.nodes.get(path)
        return (node.value, node.modified_index) if node else None

    def next_deadline_ms(self) -> int | None:
        return min((n.deadline_ms for n in self._model.nodes.values() if n.deadline_ms is not None), default=None)

    def take_changes(self) -> StateChanges:
        nodes = [
            (
                path,
                json.dumps(
                    [node.value.decode("latin-1"), node.created_index, node.modified_index, node.deadline_ms]
                ).encode(),
            )
            for path, node in self._model.nodes.items()
        ]
        removed = sorted(self._stored - set(self._model.nodes))
        self._stored = set(self._model.nodes)
        return StateChanges(nodes, removed, [], 0, b"%d %s" % (self._model.etcd_index, self._hash))
