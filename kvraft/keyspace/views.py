"""Nodes as events and errors show them, and how long what a command writes lives. Pure functions."""

from typing import Final

from kvraft.keyspace.commands import NO_TTL, CompareAndSwap, Create, CreateInOrder, Set, Update
from kvraft.keyspace.events import NodeView
from kvraft.keyspace.tree import AnyNode, Directory, File, Lifetime, ttl_at

TTL_S_MAX: Final = 9_223_372_036
"""Longest TTL, 292 years: what nanoseconds in 64 signed bits hold. Longer ones saturate, where etcd wraps around."""


def lifetime_of(command: Set | Create | CreateInOrder | Update | CompareAndSwap, clock_ms: int) -> Lifetime | None:
    """When a node that `command` writes expires; a TTL beyond `TTL_S_MAX` saturates."""
    if command.ttl_s == NO_TTL:
        return None
    return Lifetime(clock_ms + min(command.ttl_s, TTL_S_MAX) * 1000, command.expiration_ns)


def view_of(path: bytes, node: AnyNode, clock_ms: int) -> NodeView:
    """The node as an event shows it, with its TTL counted from `clock_ms`."""
    lifetime = node.lifetime
    ttl_s = 0 if lifetime is None else ttl_at(lifetime, clock_ms)
    expiration_ns = 0 if lifetime is None else lifetime.expiration_ns
    if isinstance(node, Directory):
        return NodeView(path, True, None, ttl_s, expiration_ns, node.modified_index, node.created_index)
    return NodeView(path, False, node.value_json, ttl_s, expiration_ns, node.modified_index, node.created_index)


def compare_cause(node: File, prev_value: bytes | None, prev_index: int) -> bytes:
    """Which conditions the file does not meet, as the error names them; empty if it meets all."""
    causes = []
    if prev_value:
        value = node.value()
        if value != prev_value:
            causes.append(b"[%b != %b]" % (prev_value, value))
    if prev_index and prev_index != node.modified_index:
        causes.append(b"[%d != %d]" % (prev_index, node.modified_index))
    return b" ".join(causes)
