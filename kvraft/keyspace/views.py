"""Nodes as events show them, and the lifetimes that commands give them."""

from typing import Final

from kvraft.keyspace.commands import NO_TTL, CompareAndSwap, Create, CreateInOrder, Set, Update
from kvraft.keyspace.events import NodeView
from kvraft.keyspace.tree import AnyNode, Directory, Lifetime, ttl_at

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
