"""gRPC between members: carries frames and snapshots, and lets nobody in who has no business here.

Files, from the wire to the member:

- `codec`: frames and protobuf; `envelope`: greetings, refusals and snapshots; both check everything;
- `sealing`: the checksum behind every message;
- `handshake`: decides whether a greeting is accepted (pure);
- `lanes`: which stream a frame takes, and the bounded queue in front of it (no I/O);
- `channels`: gRPC's options, on both sides;
- `peer_stream`: dials one peer, keeps its two streams open and feeds them;
- `servicer`: accepts streams from peers;
- `snapshot_stream`: sends and receives one snapshot;
- `links`: when a peer counts as connected (no I/O);
- `transport`: the facade, `GrpcTransport`;
- `generate`, `pb/`: what protoc makes of proto/raft.proto.

Every member dials every other one. Frames travel from the dialler to the acceptor, so between two members there are
four streams on four TCP connections: control and entries, each way. Control frames never wait behind entries.

Left out: etcd's `GET /members` and `/version` over HTTP on the peer port, since gRPC owns the port.
"""

import os

# Read by gRPC when it is first imported, which is behind this. Its notes on every closed connection would stand between
# our log lines; and a child process never uses what it inherits of gRPC, so nothing need be done when one is forked.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "false")

# gRPC's own sockets and poller instead of those of its event engine, which passes each message through two more
# threads: a lone client writes 4 to 30 % more (three members on 2 cores, grpcio 1.85; docs/decisions.md).
os.environ.setdefault("GRPC_EXPERIMENTS", "-event_engine_client,-event_engine_listener")
