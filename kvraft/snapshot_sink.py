"""Joins the transport's snapshot streams to storage's spool; part of the composition root."""

from typing import final

from kvraft.peer_frames import SnapshotHeader
from kvraft.raft.messages import InstallSnapshot
from kvraft.storage.errors import CorruptStorageError
from kvraft.storage.spool import IncomingSnapshot, Spool


@final
class SpoolSink:
    """Satisfies `transport.interfaces.SnapshotSink`."""

    def __init__(self, spool: Spool) -> None:
        self._spool = spool

    def open(self, header: SnapshotHeader) -> "SpooledSnapshot":
        """Begin or resume a transfer: equal ids mean equal bytes, so the id alone names what is there."""
        return SpooledSnapshot(self._spool.receive(header.snapshot_id, header.size_bytes), header)


@final
class SpooledSnapshot:
    """Satisfies `transport.interfaces.SnapshotSpool`."""

    def __init__(self, incoming: IncomingSnapshot, header: SnapshotHeader) -> None:
        self._incoming = incoming
        self._header = header

    @property
    def offset(self) -> int:
        """How many bytes are already here."""
        return self._incoming.offset

    def write(self, data: bytes) -> None:
        """Append the next bytes."""
        self._incoming.write(self._incoming.offset, data)

    def finish(self) -> InstallSnapshot:
        """Verify the whole, and that it is what its sender announced.

        Raises:
            ValueError: it is not; the next transfer starts anew.
        """
        try:
            snapshot = self._incoming.finish()
        except CorruptStorageError as error:
            raise ValueError(str(error)) from error
        if (snapshot.position, snapshot.configuration) != (self._header.position, self._header.configuration):
            problem = f"snapshot {snapshot.snapshot_id} is not what its header announced"
            raise ValueError(problem)
        return self._header.install()

    def abort(self) -> None:
        """Keep what has arrived for a later transfer."""
        self._incoming.close()
