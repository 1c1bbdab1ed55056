"""A member with an empty directory finds out who founds the cluster with it, before anything is written."""

import threading
from dataclasses import replace

from kvraft import ids
from kvraft.discovery import founders, srv_records
from kvraft.discovery.interfaces import DiscoveryError, FullClusterError, RegisteredBeforeError
from kvraft.founding import Founder
from kvraft.settings.discovery_flags import NO_DISCOVERY, Discovery
from kvraft.settings.flags import SettingsError, one_line
from kvraft.settings.settings import Settings
from kvraft.start.service_door import ServiceDoor
from kvraft.transport.names import look_up


def discover(wanted: Settings, *, has_been: bool) -> tuple[Settings, bool]:
    """The settings that `--initial-cluster` would have made, and whether this member has been there before.

    Args:
        wanted: as the flags have it, with this member alone.
        has_been: it may have been: it is told to rebuild, or its data cannot be read.

    Raises:
        SettingsError: the others cannot be found out; one line with the remedy.
        FullClusterError: this member is one too many, and is to serve as a proxy of the others.
    """
    asked = wanted.discovery
    own = next(member for member in wanted.members if member.member_id == wanted.member_id)
    was_registered = False
    try:
        if asked.url:
            door = ServiceDoor(asked.url, asked.proxy)
            cluster, was_registered = founders.by_token(asked, own, door, has_been=has_been, pause=_pause)
        else:
            from kvraft.discovery.name_server import NameServers  # noqa: PLC0415 -- for those who ask for SRV records

            token = wanted.initial_cluster_token
            cluster, own = founders.by_srv_records(asked, own, token, NameServers(), _addresses)
    except FullClusterError as error:
        if asked.falls_back:
            raise
        raise SettingsError(
            f"{asked.source}: {error}: its members are at {one_line(','.join(error.peer_urls))}: add this one with "
            "--join or `member add`, or give --discovery-fallback=proxy"
        ) from error
    except RegisteredBeforeError as error:
        raise SettingsError(
            f"{asked.source}: {error}: member {one_line(repr(wanted.name))} has previously registered there, and "
            f"{wanted.data_dir} holds no member's data: give its --data-dir if that bootstrap succeeded, or a new "
            "token if it failed"
        ) from error
    except DiscoveryError as error:
        raise SettingsError(f"{asked.source}: {one_line(str(error))}") from error
    return _founded(wanted, cluster, own), was_registered


def members_urls(asked: Discovery) -> tuple[str, ...]:
    """The peer URLs of the members, for a proxy, which is none of them (etcdmain/etcd.go, `startProxy`).

    Raises:
        SettingsError: they cannot be found out; one line with the remedy.
    """
    try:
        if asked.url:
            return founders.urls_by_token(asked, ServiceDoor(asked.url, asked.proxy), _pause)
        from kvraft.discovery.name_server import NameServers  # noqa: PLC0415 -- for those who ask for SRV records

        return srv_records.urls_of(asked, NameServers(), _addresses)
    except DiscoveryError as error:
        raise SettingsError(f"{asked.source}: {one_line(str(error))}") from error


def _founded(wanted: Settings, cluster: tuple[Founder, ...], own: Founder) -> Settings:
    return replace(
        wanted,
        initial_cluster=cluster,
        members=cluster,
        member_id=own.member_id,
        cluster_id=ids.cluster_id(member.member_id for member in cluster),
        discovery=NO_DISCOVERY,
    )


def _pause(seconds: float) -> None:
    """Nothing else is done meanwhile; a signal ends the process."""
    threading.Event().wait(seconds)


def _addresses(host: str, port: int) -> frozenset[tuple[str, int]]:
    found = look_up(host, port)
    return frozenset() if isinstance(found, OSError) else frozenset(each.sockaddr[:2] for each in found)
