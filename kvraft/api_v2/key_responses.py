"""What the keyspace says becomes the bytes of a /v2/keys answer here, and nowhere else. Pure.

Field order, omissions and escapes are those of etcd's structs under Go's encoding/json: `value` is present for every
file that has one, `dir` only when true, `ttl` and the indices only when not 0, and each body ends with a line feed.
"""

from dataclasses import replace
from functools import lru_cache
from typing import Final

from kvraft.api_v2.answers import Answer
from kvraft.api_v2.backend import Written
from kvraft.api_v2.go_json import quote
from kvraft.keyspace.errors import HTTP_STATUSES, MESSAGES, ErrorCode, EtcdError
from kvraft.keyspace.events import Action, Event, NodeView
from kvraft.keyspace.listing import format_expiration

_QUIET_ACTIONS: Final = frozenset((Action.SET, Action.CREATE, Action.UPDATE, Action.COMPARE_AND_SWAP))
"""The successes that noValueOnSuccess shortens."""

_ACTIONS: Final = {action: b'{"action":"' + action.value.encode() + b'"' for action in Action}

_ERRORS: Final = {
    code: b'{"errorCode":%d,"message":%b' % (code.value, quote(message.encode())) for code, message in MESSAGES.items()
}


def node_json(node: NodeView) -> bytes:
    """A node as an event shows it."""
    value = node.value_json
    path = quote(node.path)
    if value is not None and not node.expiration_ns:
        return b'{"key":%b,"value":%b,"modifiedIndex":%d,"createdIndex":%d}' % (
            path,
            value,
            node.modified_index,
            node.created_index,
        )
    parts = [b'{"key":', path]
    if value is not None:
        parts += (b',"value":', value)
    if node.directory:
        parts.append(b',"dir":true')
    if node.expiration_ns:
        parts += (b',"expiration":"', format_expiration(node.expiration_ns), b'"')
    if node.ttl_s:
        parts.append(b',"ttl":%d' % node.ttl_s)
    parts.append(b',"modifiedIndex":%d,"createdIndex":%d}' % (node.modified_index, node.created_index))
    return b"".join(parts)


def event_json(event: Event) -> bytes:
    """An event as its writer and every watcher sees it, with its line feed."""
    prev_node = event.prev_node
    if prev_node is None:
        return b'%b,"node":%b}\n' % (_ACTIONS[event.action], node_json(event.node))
    return b'%b,"node":%b,"prevNode":%b}\n' % (_ACTIONS[event.action], node_json(event.node), node_json(prev_node))


def error_json(error: EtcdError) -> bytes:
    """An error's body, with its line feed."""
    cause = b',"cause":' + quote(error.cause) if error.cause else b""
    return b'%b%b,"index":%d}\n' % (_ERRORS[error.code], cause, error.index)


@lru_cache(maxsize=4)
def json_headers(cluster_id: int) -> bytes:
    """The header lines that every JSON answer of /v2/keys and /v2/members begins with."""
    return b"Content-Type: application/json\r\nX-Etcd-Cluster-Id: %x\r\n" % cluster_id


def key_headers(cluster_id: int, etcd_index: int, raft_index: int, raft_term: int) -> bytes:
    """Header lines of a success on /v2/keys."""
    return b"%bX-Etcd-Index: %d\r\nX-Raft-Index: %d\r\nX-Raft-Term: %d\r\n" % (
        json_headers(cluster_id),
        etcd_index,
        raft_index,
        raft_term,
    )


headers_of_reads: Final = lru_cache(maxsize=1)(key_headers)
"""`key_headers` for whoever only reads: the same lines until the next write."""


def error_answer(error: EtcdError, cluster_id: int) -> Answer:
    """An error on /v2/keys: its index is its X-Etcd-Index too, and the raft headers stay away (etcd v2error.go)."""
    headers = b"%bX-Etcd-Index: %d\r\n" % (json_headers(cluster_id), error.index)
    return Answer(HTTP_STATUSES.get(error.code, 400), headers, error_json(error))


def written_answer(written: Written, cluster_id: int, *, quiet: bool, blind: bool = False) -> Answer:
    """The answer to a write that this member has applied.

    With `blind` it tells nothing of what stood there before: whoever asks may write the key and not read it.
    """
    event = written.event
    if isinstance(event, EtcdError):
        if blind and event.code is ErrorCode.TEST_FAILED:
            event = EtcdError(event.code, b"", event.index)
        return error_answer(event, cluster_id)
    assert isinstance(event, Event), "no client can ask for a command without an event"
    action = event.action
    created = action is Action.CREATE or (action is Action.SET and event.prev_node is None)
    if quiet and action in _QUIET_ACTIONS:
        body = _ACTIONS[action] + b"}\n"
    else:
        body = _unseen_json(event) if blind else event_json(event)
    headers = key_headers(cluster_id, event.etcd_index, written.raft_index, written.raft_term)
    return Answer(201 if created else 200, headers, body)


def _unseen_json(event: Event) -> bytes:
    """The event without what its writer has not brought himself: a refresh keeps the value that stood there.

    Of what stood there the key is named, which he knows: etcdctl takes `prevNode` for granted and panics without it
    (etcdctl/ctlv2/command/format.go, `printResponseKey`).
    """
    node = replace(event.node, value_json=None) if event.refresh else event.node
    previous = event.prev_node
    if previous is None:
        return event_json(Event(event.action, node, None, event.refresh))
    stood = b'{"key":%b,"dir":true}' if previous.directory else b'{"key":%b}'
    return b'%b,"node":%b,"prevNode":%b}\n' % (_ACTIONS[event.action], node_json(node), stood % quote(previous.path))
