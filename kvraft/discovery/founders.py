"""Who founds the cluster, this member among them: the door of this room."""

from collections import Counter
from typing import Final

from kvraft.discovery import srv_records
from kvraft.discovery.interfaces import (
    Addresses,
    DiscoveryError,
    FullClusterError,
    Pause,
    Records,
    RegisteredBeforeError,
    Service,
)
from kvraft.discovery.token import Token
from kvraft.founding import Founder
from kvraft.settings import founding_flags
from kvraft.settings.discovery_flags import Discovery
from kvraft.settings.flags import Value

_NOBODY: Final = 0
"""No member has this id."""


def by_token(
    wanted: Discovery, own: Founder, service: Service, *, has_been: bool, pause: Pause
) -> tuple[tuple[Founder, ...], bool]:
    """Those that have registered with a token, and whether this member had done so before.

    Args:
        wanted: where.
        own: this member; its id is made with the token's URL.
        service: who asks there.
        has_been: whether this member may have registered before, and lost its data since. It is an error otherwise.
        pause: waits between attempts.

    Raises:
        FullClusterError: all places are taken by others.
        RegisteredBeforeError: as said.
        DiscoveryError: the token is none, or what stands in it makes no cluster.
        SettingsError: somebody has registered with no URL.
    """
    token = Token(wanted, own.member_id, service, pause)
    was_registered = False
    try:
        values = token.join(",".join(f"{own.name}={url}" for url in own.peer_urls))
    except RegisteredBeforeError:
        if not has_been:
            raise
        values, was_registered = token.look(), True
    names = [{part.partition("=")[0].strip() for part in value.split(",")} for value in values]
    twice = [name for name, times in Counter(name for own_names in names for name in own_names).items() if times > 1]
    if twice:
        raise DiscoveryError(
            f"discovery: found duplicate name: {twice[0]} has registered more than once: give each member a --name of "
            "its own, and make a new token"
        )
    source = f"{wanted.source}: discovery: invalid URL"
    return founding_flags.named_cluster(Value(",".join(values), source), wanted.url), was_registered


def urls_by_token(wanted: Discovery, service: Service, pause: Pause) -> tuple[str, ...]:
    """The peer URLs of those that have registered, once all have: for a proxy, which takes no place.

    Raises:
        DiscoveryError: the token is none.
    """
    try:
        Token(wanted, _NOBODY, service, pause).look()
    except FullClusterError as full:
        return full.peer_urls
    raise DiscoveryError("discovery: the token names a member with id 0, which none has: make a new token")


def by_srv_records(
    wanted: Discovery, own: Founder, token: str, records: Records, addresses: Addresses
) -> tuple[tuple[Founder, ...], Founder]:
    """Those whom the records of a domain name, and this one of them.

    Args:
        wanted: where.
        own: this member, with the peer URLs that it advertises.
        token: the cluster's, which goes into all ids.
        records: who knows the records.
        addresses: who knows addresses.

    Raises:
        DiscoveryError: there are none, or this member is not among them.
        SettingsError: one of them makes no URL.
    """
    text = srv_records.cluster_of(wanted, own.name, own.peer_urls, records, addresses)
    cluster = founding_flags.named_cluster(Value(text, wanted.source), token)
    return cluster, next(member for member in cluster if member.name == own.name)
