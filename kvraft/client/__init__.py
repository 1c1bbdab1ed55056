"""An asyncio client of the etcd v2 API, of kvraft or of etcd. It knows nothing of the server.

    async with Client(["http://10.0.0.1:2379", "http://10.0.0.2:2379"]) as client:
        event = await client.set("/message", "Hello world")
        async for change in client.watch("/", from_index=event.node.modified_index + 1, recursive=True):
            ...

`client` is the door: keys, watches, and `request` and `stream` for every other path. Below it, each knowing those
before it alone:

- `errors`: what can go wrong, one class for each thing that a caller may want to do about it;
- `values`: answers, events and nodes as they come from JSON;
- `connection`: one HTTP session over several endpoints: which is asked, what is asked again, what never is;
- `watching`: a watch that goes on after a broken connection where it was.

What is asked twice: a read, if its connection fails. A write only where it cannot have arrived; otherwise
`UnknownOutcome` says that nobody knows.
"""

from kvraft.client.client import Client
from kvraft.client.errors import (
    BadAnswer,
    BrokenOff,
    ClientError,
    EtcdError,
    EventIndexCleared,
    UnknownOutcome,
    Unreachable,
)
from kvraft.client.values import Answer, Event, Node

__all__ = [
    "Answer",
    "BadAnswer",
    "BrokenOff",
    "Client",
    "ClientError",
    "EtcdError",
    "Event",
    "EventIndexCleared",
    "Node",
    "UnknownOutcome",
    "Unreachable",
]
