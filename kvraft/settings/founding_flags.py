"""Which cluster a member is of: by the `--initial-*` flags on its first start, by its data directory ever after."""

import ipaddress
import pathlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, final

from kvraft import ids
from kvraft.founding import Founder, Identity
from kvraft.settings import urls
from kvraft.settings.flags import Given, SettingsError, Value, one_line
from kvraft.settings.urls import Url

_PEER_PORTS: Final = (2380, 7001)


@final
@dataclass(slots=True, frozen=True)
class Founded:
    """A cluster, and which of its members this one is."""

    cluster: tuple[Founder, ...]
    """The founders, by name; none if this member came later."""
    members: tuple[Founder, ...]
    """Of the newest day that is known."""
    own: Founder
    """Among the members."""
    cluster_id: int
    token: str
    name: str
    """Of this member now; the founder's may be older."""
    advertised: tuple[str, ...] = ()
    """What `--initial-advertise-peer-urls` says in other words than `--initial-cluster`: whether it is the same is for
    who looks names up to tell."""
    ignored: tuple[str, ...] = ()
    """Flags given that differ from what the data directory keeps, each with both values."""


def urls_of(given: Given, flag: str) -> tuple[Url, ...]:
    """The URLs of a flag; none if it was not given.

    Raises:
        SettingsError: one of them is none.
    """
    value = given.values.get(flag)
    if value is None:
        return ()
    try:
        return urls.parse_list(value.text)
    except ValueError as error:
        raise value.error(f"{error} (use http://host:port, several by commas)") from None


def new_cluster(given: Given, name: str, token: str) -> Founded:
    """The cluster that the flags name.

    Raises:
        SettingsError: they name none, or none with this member.
    """
    cluster = _initial_cluster(given, name, token)
    cluster_id = ids.cluster_id(member.member_id for member in cluster)
    own, advertised = _own_entry(given, cluster, name)
    return Founded(cluster, cluster, own, cluster_id, token, name, advertised)


def named_peer_urls(given: Given, name: str) -> tuple[str, ...]:
    """Every peer URL that `--initial-cluster` names, sorted: to a proxy, which is no member, they are all that counts.

    Raises:
        SettingsError: it names none.
    """
    return tuple(sorted(url for member in _initial_cluster(given, name, "") for url in member.peer_urls))


def stored_cluster(given: Given, name: str, directory: pathlib.Path, stored: Identity) -> Founded:
    """The cluster whose data the directory holds. A host may have a new name; without `--name` it keeps its own.

    Raises:
        SettingsError: the data is that of another member than the flags mean: two disks were swapped.
    """
    members = stored.known_members
    own = next(member for member in members if member.member_id == stored.member_id)
    if "name" not in given.values:
        name = stored.name
    _refuse_swapped(given, name, directory, stored, own)
    ignored = _ignored(given, name, stored, own)
    return Founded(stored.founders, members, own, stored.cluster_id, stored.token, name, ignored=ignored)


def _refuse_swapped(given: Given, name: str, directory: pathlib.Path, stored: Identity, own: Founder) -> None:
    """Tell a swapped disk from a new name: by the URLs that the flags give this member, or by a name that is taken."""
    if name == stored.name and "name" in given.values:
        return
    others = [member for member in stored.known_members if member is not own]
    told = _told_urls(given, name, stored.token)
    meant = next((member for member in others if told & set(member.peer_urls)), None)
    if meant is None and not told & set(own.peer_urls):
        meant = next((member for member in others if member.name == name), None)
    if meant is not None:
        raise given.error(
            f"the data directory {directory} is that of member {ids.text(own.member_id)} ({stored.name!r}, "
            f"{','.join(own.peer_urls)}), and the flags are those of {ids.text(meant.member_id)} "
            f"({','.join(meant.peer_urls)}): give each member its own --data-dir, or --name={stored.name} here",
            "name",
        )


def _told_urls(given: Given, name: str, token: str) -> set[str]:
    """Where the flags say that this member is; empty if they do not, or what they say is no value at all."""
    for flag in ("initial-advertise-peer-urls", "initial-cluster", "listen-peer-urls"):
        if flag not in given.values:
            continue
        try:
            if flag != "initial-cluster":
                return {str(url) for url in urls_of(given, flag)}
            cluster = _initial_cluster(given, name, token)
        except SettingsError:
            continue
        told = {url for member in cluster if member.name == name for url in member.peer_urls}
        if told:
            return told
    return set()


def _ignored(given: Given, name: str, stored: Identity, own: Founder) -> tuple[str, ...]:
    """The flags that say something else than the data directory, which wins: `flag=value (in force: ...)`.

    `--initial-cluster-state` is not among them: unit files keep it as it was at the first start. Names in
    `--initial-cluster` are not compared: a member that has a new one publishes it. Nor is the flag itself at a member
    that came later: what it names were the members of that day.
    """
    held = {"initial-cluster-token": stored.token, "initial-advertise-peer-urls": ",".join(own.peer_urls)}
    if "discovery-srv" in given.values:
        del held["initial-advertise-peer-urls"]  # by which it was found among the records, whose URLs count
    if stored.founders:
        founders = (f"{member.name}={url}" for member in stored.founders for url in member.peer_urls)
        held = {"initial-cluster": ",".join(founders)} | held
    return tuple(
        f"{given.values[flag].shown} (in force: {one_line(text)})"
        for flag, text in held.items()
        if flag in given.values and not _agrees(given, flag, name, stored, own)
    )


def _agrees(given: Given, flag: str, name: str, stored: Identity, own: Founder) -> bool:
    """Whether a flag that was given says what the data directory keeps. What is no value at all does not."""
    try:
        if flag == "initial-cluster":
            cluster = _initial_cluster(given, name, stored.token)
            return {member.member_id for member in cluster} == {member.member_id for member in stored.founders}
        if flag == "initial-advertise-peer-urls":
            return tuple(str(url) for url in urls_of(given, flag)) == own.peer_urls
    except SettingsError:
        return False
    return given.values[flag].text == stored.token


def _initial_cluster(given: Given, name: str, token: str) -> tuple[Founder, ...]:
    value = given.values.get("initial-cluster")
    if value is None:
        peers = urls_of(given, "initial-advertise-peer-urls") or urls_of(given, "listen-peer-urls")
        own = tuple(str(url) for url in peers) or tuple(f"http://localhost:{port}" for port in _PEER_PORTS)
        return (_founder(name, dict.fromkeys(own), token),)
    # `member add` prints others that were added and have not started yet without a name.
    is_existing = given.values.get("initial-cluster-state", Value("new", "")).text == "existing"
    return named_cluster(value, token, needs_names=not is_existing)


def named_cluster(value: Value, token: str, *, needs_names: bool = True) -> tuple[Founder, ...]:
    """The members that a text names as `--initial-cluster` does, sorted by name.

    Raises:
        SettingsError: it names none, or one of them wrongly, or two have a URL in common.
    """
    parts = [part.strip() for part in value.text.split(",") if part.strip()]
    if not parts:
        raise value.error("it names no member: name every one, this one included, as in n1=http://host:2380")
    if not any("=" in part for part in parts):
        raise value.error("this is etcd 0.4's form: name every member, this one included, as in n1=http://host:2380")
    by_name: dict[str, list[str]] = {}
    for part in parts:
        member, equals, text = part.partition("=")
        member = member.rstrip()
        if not equals or not (member or not needs_names):
            raise value.error(f"{part!r} has no name: write every member as name=http://host:port")
        try:
            by_name.setdefault(member, []).append(str(urls.parse(text)))
        except ValueError as error:
            raise value.error(f"{member}: {error} (use {member}=http://host:port)") from None
    owner: dict[str, str] = {}
    for member, peer_urls in by_name.items():
        for url in peer_urls:
            if url in owner:
                both = "give it once" if owner[url] == member else f"give {owner[url]} and {member} each its own"
                raise value.error(f"duplicate url {url}: {both}")
            owner[url] = member
    return tuple(_founder(member, by_name[member], token) for member in sorted(by_name))


def _founder(name: str, peer_urls: Iterable[str], token: str) -> Founder:
    own = tuple(sorted(peer_urls))
    return Founder(ids.member_id(own, token), name, own)


def _own_entry(given: Given, cluster: tuple[Founder, ...], name: str) -> tuple[Founder, tuple[str, ...]]:
    """This member's, and what it advertises if that is not the same text."""
    own = next((member for member in cluster if member.name == name), None)
    if own is None:
        names = ", ".join(repr(member.name) if " " in member.name else member.name for member in cluster)
        raise given.error(
            f'couldn\'t find local name "{name}" in the initial cluster configuration: use one of {names}', "name"
        )
    advertised = tuple(dict.fromkeys(str(url) for url in urls_of(given, "initial-advertise-peer-urls")))
    if len(own.peer_urls) > 1 and not advertised and "initial-cluster" in given.values:
        raise given.values["initial-cluster"].error(
            f"{name} stands there {len(own.peer_urls)} times: give every member a name of its own "
            "(one that has several peer URLs needs --initial-advertise-peer-urls too)"
        )
    if not advertised or advertised == own.peer_urls:
        return own, ()
    if not _may_be_same(advertised, own.peer_urls):
        raise elsewhere(given, name, own.peer_urls)
    return own, advertised


def elsewhere(given: Given, name: str, peer_urls: Sequence[str], why: str = "") -> SettingsError:
    """The error of a member that advertises other places than `--initial-cluster` has."""
    text = f"--initial-cluster has {name}={','.join(peer_urls)}: make the two the same"
    return given.error(f"{text} ({why})" if why else text, "initial-advertise-peer-urls")


def _may_be_same(advertised: Sequence[str], own: Sequence[str]) -> bool:
    """Whether they may lead to the same places: where one of them has a name, only who looks it up can tell."""
    first, second = (sorted(_place(urls.parse(text)) for text in texts) for texts in (advertised, own))
    hosts = (url.host for url in map(urls.parse, (*advertised, *own)))
    is_named = any(host != "localhost" and not urls.is_ip(host) for host in hosts)
    return len(first) == len(second) and (is_named or first == second)


def _place(url: Url) -> tuple[bool, int, str]:
    """An address has several spellings; `localhost` is none, as etcd has it (v3.4.23 pkg/netutil, `resolveURL`)."""
    return url.is_secure, url.port, str(ipaddress.ip_address(url.host)) if urls.is_ip(url.host) else url.host
