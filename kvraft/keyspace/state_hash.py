"""The chain over every answer of the state machine: members that disagree about one never agree again (decision 8).

What an entry asks for is bound by the log's own chain; this binds what was made of it.
"""

import struct
from hashlib import blake2b
from typing import Final
from zlib import crc32

from kvraft.keyspace.accounts import AccountError, AccountsAnswer
from kvraft.keyspace.cluster import MembershipRefused
from kvraft.keyspace.errors import EtcdError
from kvraft.keyspace.events import Event
from kvraft.keyspace.records import ACTION_CODES, STATE_HASH_BYTES

NO_STATE: Final = bytes(STATE_HASH_BYTES)
"""The hash before the first command."""

_EVENT: Final = struct.Struct("<BQQQQqI")
"""Action, log clock, etcd_index, createdIndex, previous modifiedIndex, ttl, checksum of the value; then the path."""

_ANSWER: Final = struct.Struct("<BQQQ")
"""Code of error or refusal, or one of these three, log clock, etcd_index, number of changes; then the cause, or the
digest of the cluster where its members may have changed, or that of all accounts and what was wrong."""
_CHANGES: Final = 255
_ACCOUNTS: Final = 254
_REFUSED: Final = 253


def after_event(state_hash: bytes, event: Event, clock_ms: int) -> bytes:
    """The hash once `event` has happened."""
    node = event.node
    prev = event.prev_node
    head = _EVENT.pack(
        ACTION_CODES[event.action],
        clock_ms,
        node.modified_index,
        node.created_index,
        0 if prev is None else prev.modified_index,
        node.ttl_s,
        0 if node.value_json is None else crc32(node.value_json),
    )
    return blake2b(state_hash + head + node.path, digest_size=STATE_HASH_BYTES).digest()


def after_error(state_hash: bytes, error: EtcdError, clock_ms: int) -> bytes:
    """The hash once a command has failed with `error`."""
    head = _ANSWER.pack(error.code, clock_ms, error.index, 0)
    return blake2b(state_hash + head + error.cause, digest_size=STATE_HASH_BYTES).digest()


def after_refusal(state_hash: bytes, refused: MembershipRefused, clock_ms: int) -> bytes:
    """The hash once a change of the membership was refused."""
    head = _ANSWER.pack(refused.reason.value, clock_ms, refused.etcd_index, 0)
    return blake2b(state_hash + head, digest_size=STATE_HASH_BYTES).digest()


def after_accounts(state_hash: bytes, answer: AccountsAnswer, digest: bytes, clock_ms: int) -> bytes:
    """The hash once users and roles were asked to change; `digest` is that of what they are now."""
    head = _ANSWER.pack(_ACCOUNTS, clock_ms, answer.etcd_index, answer.changes)
    outcome = answer.outcome
    text = f"{outcome.status} {outcome.text}".encode() if isinstance(outcome, AccountError) else b""
    return blake2b(state_hash + head + digest + text, digest_size=STATE_HASH_BYTES).digest()


def after_other_accounts(state_hash: bytes, etcd_index: int, clock_ms: int) -> bytes:
    """The hash once a command was refused that was judged by other accounts."""
    head = _ANSWER.pack(_REFUSED, clock_ms, etcd_index, 0)
    return blake2b(state_hash + head, digest_size=STATE_HASH_BYTES).digest()


def after_changes(state_hash: bytes, changes: int, etcd_index: int, clock_ms: int, cluster_digest: bytes) -> bytes:
    """The hash once a command without an event of its own has made `changes`.

    The digest is empty but after changes of the membership, as older versions had none.
    """
    head = _ANSWER.pack(_CHANGES, clock_ms, etcd_index, changes)
    return blake2b(state_hash + head + cluster_digest, digest_size=STATE_HASH_BYTES).digest()
