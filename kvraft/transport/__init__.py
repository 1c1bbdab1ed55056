"""Sessions between members: carries frames and snapshots, and lets nobody in who has no business here.

Files, from the wire to the member:

- `codec`: frames and protobuf; `envelope`: greetings, refusals and snapshots; both check everything;
- `framing`: where a message ends in a stream of bytes, and its checksum (no I/O);
- `handshake`: decides whether a greeting is accepted (pure);
- `lanes`: which of two connections a frame takes, and the bounded queue in front of it (no I/O);
- `links`: which session with a peer counts, and when the peer is connected (no I/O);
- `repeats`, `traffic`, `round_trips`, `reports`: what is told to the member, the log and the metrics;
- `connection`: one TCP connection with messages and signs of life; `session`: two of them, frames both ways;
- `names`: `getaddrinfo` off the loop; `dialler`: dials one peer for as long as there is no session with it;
- `listening`, `doorway`: the peer port, which tells by its first bytes what comes;
- `arrivals`: the acceptor's side of the greeting; `peer_http`: `/members` and `/version`, `peer_requests`: how
  they are asked for;
- `calls`, `call_server`: gRPC behind the same port, loaded by the first call;
- `snapshot_stream`: sends and receives one snapshot; `snapshots`: all of them, and who dials;
- `transport`: the facade, `PeerTransport`; `survey`: asking peers what they hold, without taking part;
- `generate`, `pb/`: what protoc makes of proto/raft.proto.

Members dial each other; one session carries both directions, whichever side dialled it. Control frames never wait
behind entries. There is no task for a message: what arrives is taken in by the callback that reads it, and what a step
sends is written before the step's turn of the loop ends.
"""
