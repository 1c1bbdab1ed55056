"""Where a member listens, for clients, peers and those who look at its metrics, and what it tells clients of that."""

import itertools
from dataclasses import dataclass
from typing import Final, final

from kvraft.founding import Founder
from kvraft.settings import urls
from kvraft.settings.flags import Given, Value
from kvraft.settings.founding_flags import urls_of
from kvraft.settings.urls import Url

_CLIENT_PORTS: Final = (2379, 4001)
_PEER_PORTS: Final = (2380, 7001)


@final
@dataclass(slots=True, frozen=True)
class Listening:
    """Every URL that a member listens at, sorted, each once."""

    clients: tuple[Url, ...]
    advertised_clients: tuple[str, ...]
    peers: tuple[Url, ...]
    metrics: tuple[Url, ...]


def listening(
    given: Given, members: tuple[Founder, ...], own: Founder, *, is_stored: bool, needs_advertised: bool = True
) -> Listening:
    """What the flags say, with every default worked out.

    Args:
        given: the flags.
        members: those of the cluster that are known.
        own: this one.
        is_stored: whether they come from the data directory.
        needs_advertised: whether who says where clients are served must say where they reach that; else it is etcd's
            default.

    Raises:
        SettingsError: a URL is none to listen at, or two of them are one.
    """
    own_urls = tuple(map(urls.parse, own.peer_urls))
    clients, advertised = _client_urls(given, members, own_urls, needs_advertised=needs_advertised)
    peers = _listen_peer_urls(given, members, own_urls, is_stored=is_stored)
    metrics = _once(urls_of(given, "listen-metrics-urls"))
    if metrics:
        _refuse_names(metrics, given.values["listen-metrics-urls"], "--listen-metrics-urls")
    _refuse_overlaps(clients, peers, metrics, given)
    return Listening(clients, advertised, peers, metrics)


def proxy_urls(given: Given) -> tuple[Url, ...]:
    """Where a proxy serves clients. It advertises nothing, so nothing has to be said of that.

    Raises:
        SettingsError: a URL is none to listen at, or two of them are one.
    """
    listen: tuple[Url, ...] = ()
    for flag in ("listen-client-urls", "listen-client-http-urls"):
        urls_there = urls_of(given, flag)
        if urls_there:
            _refuse_names(urls_there, given.values[flag], f"--{flag}")
        listen += urls_there
    listen = _once(listen) or tuple(urls.parse(f"http://127.0.0.1:{port}") for port in _CLIENT_PORTS)
    _refuse_overlaps(listen, (), (), given)
    return listen


def _listen_peer_urls(
    given: Given, cluster: tuple[Founder, ...], own: tuple[Url, ...], *, is_stored: bool
) -> tuple[Url, ...]:
    listen = _once(urls_of(given, "listen-peer-urls"))
    if listen:
        _refuse_names(listen, given.values["listen-peer-urls"], "--listen-peer-urls")
        return listen
    if "discovery-srv" in given.values:  # the records have names, which nobody can listen on
        own = _once(urls_of(given, "initial-advertise-peer-urls")) or own
    is_chosen = "initial-cluster" in given.values or "initial-advertise-peer-urls" in given.values
    if is_stored or len(cluster) > 1 or is_chosen:
        value = given.values.get("initial-cluster") or given.values.get("initial-advertise-peer-urls")
        _refuse_names(own, value or Value("", "--listen-peer-urls"), "--listen-peer-urls")
        return own
    return tuple(urls.parse(f"http://127.0.0.1:{port}") for port in _PEER_PORTS)


def _client_urls(
    given: Given, cluster: tuple[Founder, ...], own: tuple[Url, ...], *, needs_advertised: bool
) -> tuple[tuple[Url, ...], tuple[str, ...]]:
    further = urls_of(given, "listen-client-http-urls")
    if further:
        _refuse_names(further, given.values["listen-client-http-urls"], "--listen-client-http-urls")
    listen = urls_of(given, "listen-client-urls")
    advertise = urls_of(given, "advertise-client-urls")
    if listen:
        value = given.values["listen-client-urls"]
        _refuse_names(listen, value, "--listen-client-urls")
        if not advertise and needs_advertised:
            raise value.error(
                "--advertise-client-urls is required when --listen-client-urls is set explicitly: "
                "add it, with the URLs at which clients reach this member"
            )
        return _once(listen + further), tuple(map(str, advertise)) or _localhost(_CLIENT_PORTS[:1])
    ports = _default_client_ports(given, cluster, own)
    listen = tuple(urls.parse(f"http://127.0.0.1:{port}") for port in ports)
    return _once(listen + further), tuple(map(str, advertise)) or _localhost(ports)


def _default_client_ports(given: Given, cluster: tuple[Founder, ...], own: tuple[Url, ...]) -> tuple[int, ...]:
    """Where clients are served if no flag says: etcd's two ports, or the one below another peer port.

    So `--name` and `--peers` are enough also for several members on one host: 2380, 22380, 32380 for peers give 2379,
    22379, 32379 for clients.
    """
    first = own[0]
    if first.port in _PEER_PORTS:
        return _CLIENT_PORTS
    port = first.port - 1
    taken = {url.port: member.name for member in cluster for url in map(urls.parse, member.peer_urls)}
    if port in taken or port < 1:
        holder = f"the peer port of {taken[port] or 'a member without a name yet'}" if port in taken else "no port"
        raise given.error(
            f"the client port beside {first} would be {port}, which is {holder}: "
            "give --listen-client-urls and --advertise-client-urls",
            "initial-cluster",
            "listen-client-urls",
        )
    return (port,)


def _refuse_names(listen: tuple[Url, ...], value: Value, flag: str) -> None:
    for url in listen:
        if url.host != "localhost" and not urls.is_ip(url.host):
            raise value.error(f"expected IP in URL for binding ({url}): give {flag} an address of this host")


def _once(listen: tuple[Url, ...]) -> tuple[Url, ...]:
    """Each URL once, as etcd takes a list in which one is there twice."""
    return tuple(dict.fromkeys(listen))


def _refuse_overlaps(clients: tuple[Url, ...], peers: tuple[Url, ...], metrics: tuple[Url, ...], given: Given) -> None:
    """The second of two would find the port held, by this very process."""
    for flag, listen in (
        ("listen-client-urls", clients),
        ("listen-peer-urls", peers),
        ("listen-metrics-urls", metrics),
    ):
        for url, other in itertools.combinations(listen, 2):
            if url.overlaps(other):
                raise given.error(
                    f"{url} and {other} cannot both be listened on, as one includes the other: leave one out", flag
                )
    for url, peer in itertools.product(clients, peers):
        if url.overlaps(peer):
            raise given.error(
                f"{url} is taken by the peers' {peer}: give clients another port",
                "listen-client-urls",
                "listen-peer-urls",
                "listen-client-urls",
            )
    for url, other in itertools.product(metrics, (*clients, *peers)):
        if url.overlaps(other):
            raise given.error(f"{url} is taken by {other}: give the metrics another port", "listen-metrics-urls")


def _localhost(ports: tuple[int, ...]) -> tuple[str, ...]:
    """What a bare etcd advertises; its ids depend on these very texts."""
    return tuple(f"http://localhost:{port}" for port in ports)
