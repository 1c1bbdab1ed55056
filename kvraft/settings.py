"""What an operator may set, checked before any file is touched; and every limit, with the answer a client sees.

`from_flags` turns what was given (`kvraft/flags.py`) into `Settings`, whose rules are etcd's: its texts are kept where
they help. What the cluster was founded with (`initial_*`) comes from the flags on a member's first start, and from its
data directory ever after: the flags then change nothing, as in etcd.
"""

import dataclasses
import itertools
import logging
import pathlib
from collections.abc import Iterable
from typing import Final, Literal, final

from kvraft import ids, logs, urls
from kvraft.flags import Given, SettingsError, Value, one_line
from kvraft.founding import Founder, Identity
from kvraft.urls import Url

ETCD_VERSION: Final = "3.4.23"
"""The etcd whose answers are given: `etcdserver` in /version."""

ELECTION_TIMEOUT_MS_MAX: Final = 50_000
"""etcd v3.4.23 embed/config.go, `maxElectionMs`."""
HEARTBEATS_IN_ELECTION_TIMEOUT_MIN: Final = 5
"""etcd v3.4.23 embed/config.go, `Validate`."""
HISTORY_SIZE_MAX: Final = 10_000_000
"""About 2.5 GB of small events in the state environment; a larger wish is a slip of the keyboard."""

_DIGITS_MAX: Final = 20
"""Of a 64-bit number; `int` is never asked to read thousands."""
_EVERY_ADDRESS: Final = frozenset({"0.0.0.0", "::"})  # noqa: S104 -- recognised, not bound
_CLIENT_PORTS: Final = (2379, 4001)
_PEER_PORTS: Final = (2380, 7001)
_LEVELS: Final = {**logs.LEVELS, "panic": logging.ERROR, "fatal": logging.ERROR}


@final
@dataclasses.dataclass(slots=True, frozen=True)
class Limits:
    """Every limit that a client can run into, with the answer it sees. Sizes are bytes.

    The rooms that enforce them hold the same figures as their defaults, docs/operations.md shows them; tests compare.
    None changes an answer that etcd would give: etcd has the same limit, or breaks there. Paths may be as deep as a
    request line is long.
    """

    body_bytes_max: int = 10 << 20
    """etcd's, inclusive. One byte more: 400/210 `http: POST too large`."""
    request_line_bytes_max: int = (2 << 20) + 4096
    """kube-apiserver puts old objects of up to 1 MiB, escaped, into the URL. A longer one: 431, as from etcd."""
    header_bytes_max: int = 1 << 20
    """Go's DefaultMaxHeaderBytes. More: 431."""
    headers_max: int = 1000
    """Header lines of a request: far more than any client sends, few enough to be read at once. More: 431."""
    connections_max: int = 16_384
    """Clients at once; each watch holds one. Fewer if fewer files may be open (`file_limit.py`). One more is answered
    500/300 `etcdserver: too many requests` and closed."""
    waiting_requests_max: int = 20_000
    """Writes and linearizable reads without an outcome, per member. More: 500/300 `etcdserver: too many requests`."""
    uncommitted_bytes_max: int = 64 << 20
    """Entries that the leader has and a quorum has not. More: 500/300 `etcdserver: too many requests`."""
    watcher_bytes_max: int = 1 << 20
    """Events waiting for one slow watcher. More: its stream ends, and it resumes from the history by `waitIndex`."""


@final
@dataclasses.dataclass(slots=True, frozen=True)
class Settings:
    """The settings of one member."""

    name: str
    data_dir: pathlib.Path
    """Not made yet, not looked at."""
    listen_client_urls: tuple[Url, ...]
    advertise_client_urls: tuple[str, ...]
    """Sorted."""
    listen_peer_urls: tuple[Url, ...]
    initial_cluster: tuple[Founder, ...]
    """Every initial member, this one included, by name."""
    cluster_id: int
    """The id of the cluster that they make."""
    initial_cluster_state: Literal["new", "existing"] = "new"
    """With `existing` and an empty directory, the start is refused, or with `rebuild` gets the member's data back."""
    initial_cluster_token: str = "etcd-cluster"  # noqa: S105 -- no secret: etcd's default, which goes into the ids
    heartbeat_interval_ms: int = 100
    """etcd's default, good for members within one data centre."""
    election_timeout_ms: int = 1000
    """etcd's default: ten heartbeats may be lost before a leader is doubted."""
    snapshot_count: int = 100_000
    """etcd 3.4's default."""
    history_size: int = 100_000
    """Events kept for watches: etcd's 1,000 were its users' first complaint. Read when the cluster is born."""
    cors: frozenset[str] = frozenset()
    """Origins, or `*`. Empty, as in etcd 2.3: a browser's page must not write to a store on localhost."""
    log_level: logs.Level = logging.INFO
    rebuild: bool = False
    """Data that is lost, damaged or an old copy is set aside, and everything comes from the other members."""
    limits: Limits = Limits()
    ignored: tuple[str, ...] = ()
    """Flags given that differ from what the data directory keeps, each with both values."""

    @property
    def initial_advertise_peer_urls(self) -> tuple[str, ...]:
        """Where the other members reach this one."""
        return next(member.peer_urls for member in self.initial_cluster if member.name == self.name)

    @property
    def member_id(self) -> int:
        """This member's id."""
        return next(member.member_id for member in self.initial_cluster if member.name == self.name)

    @property
    def identity(self) -> Identity:
        """What a data directory made by this start will keep."""
        return Identity(
            self.cluster_id, self.member_id, self.name, self.initial_cluster_token, tuple(self.initial_cluster)
        )

    @property
    def warnings(self) -> tuple[str, ...]:
        """What an operator should know about settings that are allowed. One line each."""
        lines = []
        if self.ignored:
            flags = ", ".join(self.ignored)
            lines.append(f"{self.data_dir} keeps what its cluster was founded with, so these change nothing: {flags}")
        peers = [urls.parse(url) for member in self.initial_cluster for url in member.peer_urls]
        clients = [urls.parse(url) for url in self.advertise_client_urls]
        if all(url.is_loopback for url in clients) and not all(url.is_loopback for url in peers):
            told = ", ".join(self.advertise_client_urls)
            remedy = "give --listen-client-urls and --advertise-client-urls"
            lines.append(f"clients on other hosts are told {told}, which they cannot reach: {remedy}")
        return tuple(lines)


def data_dir(given: Given) -> pathlib.Path:
    """Where the member keeps everything. It is looked into before the other flags are: it may overrule them."""
    value = given.values.get("data-dir")
    return pathlib.Path(f"{_name(given)}.etcd" if value is None else value.text)


def from_flags(given: Given, stored: Identity | None = None) -> Settings:
    """The settings of a member, with every default worked out.

    Args:
        given: the flags and variables.
        stored: whose data the data directory holds. Its founders take the place of the `--initial-*` flags.

    Raises:
        SettingsError: they contradict each other or are no values of their kind, or the data is another member's. One
            line with the remedy.
    """
    values = given.values
    name = _name(given)
    heartbeat_ms, election_ms = _timeouts(given)
    token_value = values.get("initial-cluster-token")
    token = "etcd-cluster" if token_value is None else token_value.text
    ignored: tuple[str, ...] = ()
    if stored is not None and stored.name != name:
        raise _error(
            values.get("name"),
            "--name",
            f"the data directory {data_dir(given)} is that of member {stored.name!r} of cluster "
            f"{ids.text(stored.cluster_id)}: give the --data-dir of {name!r}, or --name={stored.name}",
        )
    if stored is not None and stored.founders:
        cluster, cluster_id = stored.founders, stored.cluster_id
        own_urls = tuple(map(urls.parse, _entry(cluster, name).peer_urls))
        ignored = _ignored(given, stored)
        token = stored.token
    else:
        cluster = _initial_cluster(given, name, token)
        cluster_id = ids.cluster_id(member.member_id for member in cluster)
        own_urls = _own_entry(given, cluster, name)
    clients = _client_urls(given, cluster, own_urls)
    listen_peers = _listen_peer_urls(given, cluster, own_urls, is_stored=stored is not None)
    _refuse_shared_ports(clients.listen, listen_peers, given)
    state = values.get("initial-cluster-state", Value("new", ""))
    if state.text not in {"new", "existing"}:
        raise state.error("invalid value: use new or existing")
    return Settings(
        name=name,
        data_dir=data_dir(given),
        listen_client_urls=clients.listen,
        advertise_client_urls=clients.advertise,
        listen_peer_urls=listen_peers,
        initial_cluster=cluster,
        cluster_id=cluster_id,
        initial_cluster_state="existing" if state.text == "existing" else "new",
        initial_cluster_token=token,
        heartbeat_interval_ms=heartbeat_ms,
        election_timeout_ms=election_ms,
        snapshot_count=_number(given, "snapshot-count", 100_000, 1, 1 << 62),
        history_size=_number(given, "history-size", 100_000, 1_000, HISTORY_SIZE_MAX),
        cors=_cors(given),
        log_level=_log_level(given),
        rebuild=given.is_on("rebuild"),
        ignored=ignored,
    )


def _name(given: Given) -> str:
    value = given.values.get("name")
    name = "default" if value is None else value.text
    if not name.isprintable() or any(c in name for c in ",="):
        raise _error(value, "--name", "a name must be printable, without commas and =")
    return name


def _entry(cluster: tuple[Founder, ...], name: str) -> Founder:
    return next(member for member in cluster if member.name == name)


def _ignored(given: Given, stored: Identity) -> tuple[str, ...]:
    """The flags that say something else than the data directory, which wins: `flag=value (in force: ...)`.

    `--initial-cluster-state` is not among them: unit files keep it as it was at the first start.
    """
    held = {
        "initial-cluster": ",".join(f"{member.name}={url}" for member in stored.founders for url in member.peer_urls),
        "initial-cluster-token": stored.token,
        "initial-advertise-peer-urls": ",".join(_entry(stored.founders, stored.name).peer_urls),
    }
    return tuple(
        f"{given.values[flag].shown} (in force: {one_line(text)})"
        for flag, text in held.items()
        if flag in given.values and not _agrees(given, flag, stored)
    )


def _agrees(given: Given, flag: str, stored: Identity) -> bool:
    """Whether a flag that was given says what the data directory keeps. What is no value at all does not."""
    try:
        if flag == "initial-cluster":
            return _initial_cluster(given, stored.name, stored.token) == stored.founders
        if flag == "initial-advertise-peer-urls":
            own = _entry(stored.founders, stored.name).peer_urls
            return tuple(sorted(str(url) for url in _urls(given, flag))) == own
    except SettingsError:
        return False
    return given.values[flag].text == stored.token


@final
@dataclasses.dataclass(slots=True, frozen=True)
class _ClientUrls:
    listen: tuple[Url, ...]
    advertise: tuple[str, ...]


def _timeouts(given: Given) -> tuple[int, int]:
    heartbeat_ms = _number(given, "heartbeat-interval", 100, 1, ELECTION_TIMEOUT_MS_MAX)
    election_ms = _number(given, "election-timeout", 1000, 1, ELECTION_TIMEOUT_MS_MAX)
    least = HEARTBEATS_IN_ELECTION_TIMEOUT_MIN * heartbeat_ms
    if election_ms < least:
        value = given.values.get("election-timeout") or given.values.get("heartbeat-interval")
        raise _error(
            value,
            "--election-timeout",
            f"--election-timeout[{election_ms}ms] should be at least as 5 times as "
            f"--heartbeat-interval[{heartbeat_ms}ms]: set it to {least} or more",
        )
    return heartbeat_ms, election_ms


def _number(given: Given, name: str, default: int, least: int, most: int) -> int:
    value = given.values.get(name)
    if value is None:
        return default
    digits = value.text.isascii() and value.text.isdigit() and len(value.text) <= _DIGITS_MAX
    if not digits or not least <= int(value.text) <= most:
        raise value.error(f"use a whole number from {least} to {most}")
    return int(value.text)


def _urls(given: Given, name: str) -> tuple[Url, ...]:
    """The URLs of a flag; none if it was not given."""
    value = given.values.get(name)
    if value is None:
        return ()
    try:
        return urls.parse_list(value.text)
    except ValueError as error:
        raise value.error(f"{error} (use http://host:port, several by commas)") from None


def _initial_cluster(given: Given, name: str, token: str) -> tuple[Founder, ...]:
    value = given.values.get("initial-cluster")
    if value is None:
        peers = _urls(given, "initial-advertise-peer-urls") or _urls(given, "listen-peer-urls")
        own = tuple(str(url) for url in peers) or _localhost(_PEER_PORTS)
        return (_founder(name, own, token),)
    if "=" not in value.text:
        raise value.error("this is etcd 0.4's form: name every member, this one included, as in n1=http://host:2380")
    by_name: dict[str, list[Url]] = {}
    for part in value.text.split(","):
        member, equals, text = part.strip().partition("=")
        if not equals or not member:
            raise value.error(f"{part!r} has no name: write every member as name=http://host:port")
        try:
            by_name.setdefault(member, []).append(urls.parse(text))
        except ValueError as error:
            raise value.error(f"{member}: {error} (use {member}=http://host:port)") from None
    every = [str(url) for given_urls in by_name.values() for url in given_urls]
    if twice := sorted({url for url in every if every.count(url) > 1}):
        raise value.error(f"duplicate url {twice[0]}: give each member its own")
    return tuple(_founder(member, map(str, by_name[member]), token) for member in sorted(by_name))


def _founder(name: str, peer_urls: Iterable[str], token: str) -> Founder:
    own = tuple(sorted(peer_urls))
    return Founder(ids.member_id(own, token), name, own)


def _own_entry(given: Given, cluster: tuple[Founder, ...], name: str) -> tuple[Url, ...]:
    own = next((member for member in cluster if member.name == name), None)
    if own is None:
        names = ", ".join(member.name for member in cluster)
        raise _error(
            given.values.get("name"),
            "--name",
            f'couldn\'t find local name "{name}" in the initial cluster configuration: use one of {names}',
        )
    advertised = tuple(str(url) for url in _urls(given, "initial-advertise-peer-urls"))
    if len(own.peer_urls) > 1 and not advertised and "initial-cluster" in given.values:
        raise given.values["initial-cluster"].error(
            f"{name} stands there {len(own.peer_urls)} times: give every member a name of its own "
            "(one that has several peer URLs needs --initial-advertise-peer-urls too)"
        )
    if advertised and advertised != own.peer_urls:
        raise given.values["initial-advertise-peer-urls"].error(
            f"--initial-cluster has {name}={','.join(own.peer_urls)}: make the two the same"
        )
    return tuple(urls.parse(url) for url in own.peer_urls)


def _listen_peer_urls(
    given: Given, cluster: tuple[Founder, ...], own: tuple[Url, ...], *, is_stored: bool
) -> tuple[Url, ...]:
    listen = _urls(given, "listen-peer-urls")
    if listen:
        _refuse_names(listen, given.values["listen-peer-urls"], "--listen-peer-urls")
        return listen
    is_chosen = "initial-cluster" in given.values or "initial-advertise-peer-urls" in given.values
    if is_stored or len(cluster) > 1 or is_chosen:
        value = given.values.get("initial-cluster") or given.values.get("initial-advertise-peer-urls")
        _refuse_names(own, value or Value("", "--listen-peer-urls"), "--listen-peer-urls")
        return own
    return tuple(urls.parse(f"http://127.0.0.1:{port}") for port in _PEER_PORTS)


def _client_urls(given: Given, cluster: tuple[Founder, ...], own: tuple[Url, ...]) -> _ClientUrls:
    listen = _urls(given, "listen-client-urls")
    advertise = _urls(given, "advertise-client-urls")
    if listen:
        value = given.values["listen-client-urls"]
        _refuse_names(listen, value, "--listen-client-urls")
        if not advertise:
            raise value.error(
                "--advertise-client-urls is required when --listen-client-urls is set explicitly: "
                "add it, with the URLs at which clients reach this member"
            )
        return _ClientUrls(listen, tuple(map(str, advertise)))
    ports = _default_client_ports(given, cluster, own)
    listen = tuple(urls.parse(f"http://127.0.0.1:{port}") for port in ports)
    return _ClientUrls(listen, tuple(map(str, advertise)) or _localhost(ports))


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
        holder = f"the peer port of {taken[port]}" if port in taken else "no port"
        raise _error(
            given.values.get("initial-cluster"),
            "--listen-client-urls",
            f"the client port beside {first} would be {port}, which is {holder}: "
            "give --listen-client-urls and --advertise-client-urls",
        )
    return (port,)


def _refuse_names(listen: tuple[Url, ...], value: Value, flag: str) -> None:
    for url in listen:
        if url.host != "localhost" and not urls.is_ip(url.host):
            raise value.error(f"expected IP in URL for binding ({url}): give {flag} an address of this host")


def _refuse_shared_ports(clients: tuple[Url, ...], peers: tuple[Url, ...], given: Given) -> None:
    for url, peer in itertools.product(clients, peers):
        hosts = {url.bind_host, peer.bind_host}
        if url.port == peer.port and (len(hosts) == 1 or hosts & _EVERY_ADDRESS):
            value = given.values.get("listen-client-urls") or given.values.get("listen-peer-urls")
            raise _error(
                value, "--listen-client-urls", f"{url} is taken by the peers' {peer}: give clients another port"
            )


def _localhost(ports: tuple[int, ...]) -> tuple[str, ...]:
    """What a bare etcd advertises; its ids depend on these very texts."""
    return tuple(f"http://localhost:{port}" for port in ports)


def _cors(given: Given) -> frozenset[str]:
    value = given.values.get("cors")
    if value is None:
        return frozenset()
    origins = frozenset(origin.strip() for origin in value.text.split(",")) - {""}
    for origin in origins:
        if origin != "*" and not origin.startswith(("http://", "https://")):
            raise value.error(f"{origin!r} is no origin: use http://host, https://host or *")
    return origins


def _log_level(given: Given) -> logs.Level:
    value = given.values.get("log-level")
    if given.is_on("debug"):
        return logging.DEBUG
    if value is None:
        return logging.INFO
    if value.text not in _LEVELS:
        raise value.error("use debug, info, warn or error")
    return _LEVELS[value.text]


def _error(value: Value | None, flag: str, problem: str) -> SettingsError:
    """The error that names the value given for the flag, or the flag if it was left to its default."""
    return value.error(problem) if value is not None else Value("", flag).error(problem)
