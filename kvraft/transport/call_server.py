"""The gRPC server behind `calls.py`, and the only file that imports gRPC: a start does not wait for it."""

import os
from typing import Final, final

# Read by gRPC when it is first imported, which is behind this. Its notes on every closed connection would stand between
# our log lines; and a child process never uses what it inherits of gRPC, so nothing need be done when one is forked.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")

import grpc
import grpc.aio

from kvraft.transport.envelope import encode_status
from kvraft.transport.interfaces import LocalMember
from kvraft.transport.pb import raft_pb2 as pb

_PEER_SERVICE: Final = pb.DESCRIPTOR.services_by_name["Peer"]
SERVICE: Final = _PEER_SERVICE.full_name
STATUS: Final = _PEER_SERVICE.methods_by_name["Status"].name
_CALLS_MAX: Final = 64
_STREAMS_MAX: Final = 8
"""Of one connection."""
_REQUEST_BYTES_MAX: Final = 64 << 10


@final
class CallServer:
    """Serves `Peer` of proto/raft.proto. Requests stay bytes until we read them ourselves."""

    def __init__(self, local: LocalMember, idle_call_ms: int) -> None:
        self._local = local
        options = [
            ("grpc.max_receive_message_length", _REQUEST_BYTES_MAX),
            ("grpc.max_concurrent_streams", _STREAMS_MAX),
            ("grpc.server_handshake_timeout_ms", idle_call_ms),
            ("grpc.max_connection_idle_ms", idle_call_ms),
        ]
        self._server = grpc.aio.server(options=options, maximum_concurrent_rpcs=_CALLS_MAX)
        handlers = {STATUS: grpc.unary_unary_rpc_method_handler(self._status, None, None)}
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))

    async def start(self, address: str) -> None:
        """Serve on this address."""
        self._server.add_insecure_port(address)
        await self._server.start()

    async def stop(self) -> None:
        """End every call."""
        await self._server.stop(None)

    async def _status(self, _request: bytes, _context: object) -> bytes:
        return encode_status(self._local.local_hello())
