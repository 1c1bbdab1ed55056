"""What an operator may set, checked before any file is touched; and every limit, with the answer a client sees.

`from_flags` turns what was given (`flags.py`) into `Settings`, whose rules are etcd's: its texts are kept where
they help. What the cluster was founded with (`initial_*`) comes from the flags on a member's first start, and from its
data directory ever after: the flags then change nothing, as in etcd.
"""

import dataclasses
import pathlib
from collections.abc import Iterator
from typing import Final, Literal, final

from kvraft.founding import Founder, Identity
from kvraft.logs import LogSettings
from kvraft.security.files import TlsFiles
from kvraft.settings import (
    access_flags,
    discovery_flags,
    founding_flags,
    joining_flags,
    listening_flags,
    log_settings,
    tls_flags,
    urls,
)
from kvraft.settings.access_flags import Access, is_open
from kvraft.settings.discovery_flags import NO_DISCOVERY, Discovery
from kvraft.settings.flags import Given, Value
from kvraft.settings.founding_flags import Founded
from kvraft.settings.joining_flags import Joining
from kvraft.settings.urls import Url

ETCD_VERSION: Final = "3.4.23"
"""The etcd whose answers are given: `etcdserver` in /version."""

ELECTION_TIMEOUT_MS_MAX: Final = 50_000
"""etcd v3.4.23 embed/config.go, `maxElectionMs`."""
HEARTBEATS_IN_ELECTION_TIMEOUT_MIN: Final = 5
"""etcd v3.4.23 embed/config.go, `Validate`."""
SNAPSHOT_COUNT: Final = 100_000
"""etcd 3.4's default, also for who asks for 0."""
HISTORY_SIZE_MAX: Final = 10_000_000
"""About 2.5 GB of small events in the state environment; a larger wish is a slip of the keyboard."""

_DIGITS_MAX: Final = 20
"""Of a 64-bit number; `int` is never asked to read thousands."""
_CLIENT_PORTS: Final = (2379, 4001)
_PEER_PORTS: Final = (2380, 7001)


@final
@dataclasses.dataclass(slots=True, frozen=True)
class Limits:
    """The limits that a client can run into and a member may set, with the answer it sees. Sizes are bytes.

    A body's is Go's, and no setting (`kvraft/api_v2/go_forms.py`). The rooms that enforce them hold the same figures as
    their defaults, docs/operations.md shows them; tests compare. None changes an answer that etcd would give: etcd has
    the same limit, or breaks there. Paths may be as deep as a request line is long.
    """

    request_line_bytes_max: int = (2 << 20) + 4096
    """kube-apiserver puts old objects of up to 1 MiB, escaped, into the URL. A longer one: 431, as from etcd."""
    header_bytes_max: int = 1 << 20
    """Go's DefaultMaxHeaderBytes. More: 431."""
    headers_max: int = 1000
    """Header lines of a request: far more than any client sends, few enough to be read at once. More: 431."""
    connections_max: int = 16_384
    """Clients at once; each watch holds one. Fewer if fewer files may be open (`kvraft/start/file_limit.py`). One more
    is answered 500/300 `etcdserver: too many requests` and closed."""
    strangers_max: int = 256
    """Connections to the peer port that have not greeted as a member's. One more: the oldest is closed. Fewer if fewer
    files may be open."""
    handshakes_max: int = 1024
    """TLS handshakes of clients that are not finished. One more: the one that was begun first is cut off."""
    waiting_requests_max: int = 20_000
    """Writes and linearizable reads without an outcome, per member. More: 500/300 `etcdserver: too many requests`."""
    uncommitted_bytes_max: int = 64 << 20
    """Entries that the leader has and a quorum has not. More: 500/300 `etcdserver: too many requests`."""
    unread_bytes_max: int = 64 << 20
    """Answers and events in front of the sockets of all clients that do not keep up, what several wait for counted
    once; for a second, four times as much. More: those are cut off that leave the most unread for the longest, in the
    midst of their answers. A slow watcher hardly counts: it goes on from the history, as fast as it reads."""
    unfinished_bytes_max: int = 64 << 20
    """Requests that all clients together have sent a part of; who holds no more than 16 KiB is not counted. More: they
    are read one after the other, and those that do not go on are told 408, the oldest first."""


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
    """Every initial member, this one included, by name. Before a member with an empty directory has asked the cluster
    that it comes to, what its flags name; afterwards none, as it came later."""
    members: tuple[Founder, ...]
    """The members of the newest day that is known, this one included."""
    member_id: int
    """Of this member, which may have another name by now than its founder."""
    cluster_id: int
    """The id of the cluster that they make."""
    initial_cluster_state: Literal["new", "existing"] = "new"
    """With `existing` and an empty directory, the member comes to a cluster that runs."""
    is_empty: bool = False
    """The directory holds no member's data that could be read: the flags say whose it will be."""
    advertised: tuple[str, ...] = ()
    """What `--initial-advertise-peer-urls` says of this member, if `--initial-cluster` has it in other words."""
    discovery: Discovery = NO_DISCOVERY
    """Who names the other founders to a member with an empty directory, if not the flags: until they are known, those
    above are this member alone."""
    joining: Joining = joining_flags.BY_NO_FLAG
    replaces: int = 0
    """The member that this one removes once it is a voter; 0: nobody."""
    initial_cluster_token: str = "etcd-cluster"  # noqa: S105 -- no secret: etcd's default, which goes into the ids
    heartbeat_interval_ms: int = 100
    """etcd's default, good for members within one data centre."""
    election_timeout_ms: int = 1000
    """etcd's default: ten heartbeats may be lost before a leader is doubted."""
    snapshot_count: int = SNAPSHOT_COUNT
    """Log entries kept behind the stored state."""
    wal_dir: pathlib.Path | None = None
    """Where the log is wanted; None: wherever it is, which is `data_dir` as a rule."""
    history_size: int = 100_000
    """Events kept for watches: etcd's 1,000 were its users' first complaint. Read when the cluster is born."""
    cors: frozenset[str] = frozenset()
    """Origins, or `*`. Empty, as in etcd 2.3: a browser's page must not write to a store on localhost."""
    hosts: frozenset[str] = frozenset({"*"})
    """What clients may call this member in Host, as long as they come without TLS; `*` for anything."""
    access: Access = dataclasses.field(default_factory=Access)
    """What is asked of clients beyond that."""
    listen_metrics_urls: tuple[Url, ...] = ()
    """Where /metrics and /health are served too, and nothing else."""
    profiles: bool = False
    """Whether /debug/pprof is served."""
    log: LogSettings = dataclasses.field(default_factory=LogSettings)
    strict_reconfig_check: bool = True
    """Changes of the members that put the cluster at risk are refused: etcd 3.4's default, not 2.3's."""
    rebuild: bool = False
    """Data that is lost, damaged or an old copy is set aside, and everything comes from the other members."""
    force_new_cluster: bool = False
    """This member goes on alone, with what it holds, unless it did so and has been told to since."""
    was_forced: bool = False
    """It did, and has been."""
    limits: Limits = Limits()
    client_tls: TlsFiles = dataclasses.field(default_factory=TlsFiles)
    """For the https URLs among `listen_client_urls`."""
    peer_tls: TlsFiles = dataclasses.field(default_factory=lambda: TlsFiles("peer-"))
    """For the https URLs among `listen_peer_urls`, and for dialling those of others."""
    auto_tls: frozenset[str] = frozenset()
    """The switches that were given among `auto-tls` and `peer-auto-tls`."""
    ignored: tuple[str, ...] = ()
    """Flags given that differ from what the data directory keeps, each with both values."""
    idle: tuple[str, ...] = ()
    """Flags given that say something about others, which were not given: a line each."""
    former_name: str = ""
    """The name under which this member was started last, if it was another one."""

    @property
    def initial_advertise_peer_urls(self) -> tuple[str, ...]:
        """Where the other members reach this one."""
        return next(member.peer_urls for member in self.members if member.member_id == self.member_id)

    @property
    def identity(self) -> Identity:
        """What a data directory made by this start will keep."""
        return Identity(
            self.cluster_id,
            self.member_id,
            self.name,
            self.initial_cluster_token,
            self.initial_cluster,
            () if self.members == self.initial_cluster else self.members,
            self.replaces,
            self.force_new_cluster,
        )

    @property
    def open_urls(self) -> tuple[str, ...]:
        """Where others can listen to what is said, as it goes over a network without TLS."""
        listen = (*self.listen_client_urls, *self.listen_peer_urls, *self.listen_metrics_urls)
        return tuple(sorted({str(url) for url in listen if is_open(url)}))

    @property
    def warnings(self) -> tuple[str, ...]:
        """What an operator should know about settings that are allowed. One line each."""
        lines = []
        if self.ignored:
            flags = ", ".join(self.ignored)
            lines.append(f"{self.data_dir} keeps what its cluster was founded with, so these change nothing: {flags}")
        if self.discovery.is_wanted and not self.is_empty:
            lines.append(
                f"{self.discovery.source} is ignored since a cluster has already been initialized: {self.data_dir} "
                "holds a member's data"
            )
        lines += self.idle
        if self.force_new_cluster and self.was_forced:
            lines.append(
                "--force-new-cluster was carried out at an earlier start and changes nothing now: leave it out; to do "
                "it again, start the member once without it"
            )
        if self.former_name:
            lines.append(f"this member was {self.former_name!r} and is {self.name!r} from now on, as --name says")
        if self.data_dir.parts[-1].startswith("~") or "/~/" in str(self.data_dir):
            lines.append(f"nobody expands the ~ of {self.data_dir}: the data is in a directory of that very name")
        if self.log.unread_levels:
            parts = ",".join(self.log.unread_levels)
            lines.append(f"--log-package-levels={parts}: no room or no level is called so, and it changes nothing")
        lines += self._unreachable()
        for files, listen in ((self.client_tls, self.listen_client_urls), (self.peer_tls, self.listen_peer_urls)):
            wanted = f"{files.prefix}auto-tls" in self.auto_tls
            lines += tls_flags.warnings(files, listen, is_self_signed_wanted=wanted)
        return tuple(lines)

    def _unreachable(self) -> Iterator[str]:
        """Advertised URLs that lead nowhere, or to whoever follows them."""
        peers = [urls.parse(url) for member in self.members for url in member.peer_urls]
        clients = [urls.parse(url) for url in self.advertise_client_urls]
        told = ", ".join(self.advertise_client_urls)
        if all(url.is_loopback for url in clients) and not all(url.is_loopback for url in peers):
            remedy = "give --listen-client-urls and --advertise-client-urls"
            yield f"clients on other hosts are told {told}, which they cannot reach: {remedy}"
        for whom, flag, advertised in (
            ("clients", "--advertise-client-urls", clients),
            (
                "members",
                "--initial-advertise-peer-urls and --initial-cluster",
                peers if len(self.members) > 1 else (),
            ),
        ):
            everywhere = ", ".join(sorted({str(url) for url in advertised if url.is_everywhere}))
            if everywhere:
                yield f"{whom} are told {everywhere}, which is each one's own host: give {flag} an address of this host"


def data_dir(given: Given) -> pathlib.Path:
    """Where the member keeps everything, absolute. It is looked into before the other flags are: it may overrule them.

    Raises:
        SettingsError: it is relative to a directory that is gone, or the name that it is made of is none.
    """
    value = given.values.get("data-dir")
    if value is None:
        given.refuse_empty("name")
    return _absolute(given, "data-dir", f"{name_of(given)}.etcd" if value is None else value.text)


def from_flags(given: Given, stored: Identity | None = None) -> Settings:
    """The settings of a member, with every default worked out.

    Args:
        given: the flags and variables.
        stored: whose data the data directory holds. Its founders take the place of the `--initial-*` flags.

    Raises:
        SettingsError: they contradict each other or are no values of their kind, or the data is another member's. One
            line with the remedy.
    """
    name = name_of(given)
    heartbeat_ms, election_ms = _timeouts(given)
    discovery = discovery_flags.discovery(given, has_data=stored is not None)
    founded = _founded(given, name, discovery, stored)
    name = founded.name
    listening = listening_flags.listening(
        given,
        founded.members,
        founded.own,
        is_stored=stored is not None,
        needs_advertised=not discovery.may_fall_back,
    )
    state = given.values.get("initial-cluster-state", Value("new", ""))
    if state.text not in {"new", "existing"}:
        raise state.error("invalid value: use new or existing")
    return Settings(
        name=name,
        data_dir=data_dir(given),
        wal_dir=_wal_dir(given),
        listen_client_urls=listening.clients,
        advertise_client_urls=listening.advertised_clients,
        listen_peer_urls=listening.peers,
        initial_cluster=founded.cluster,
        members=founded.members,
        member_id=founded.own.member_id,
        cluster_id=founded.cluster_id,
        initial_cluster_state="existing" if state.text == "existing" else "new",
        is_empty=stored is None,
        advertised=founded.advertised,
        discovery=discovery,
        joining=joining_flags.joining(given, founded, has_data=stored is not None),
        replaces=0 if stored is None else stored.replaces,
        initial_cluster_token=founded.token,
        heartbeat_interval_ms=heartbeat_ms,
        election_timeout_ms=election_ms,
        snapshot_count=number_of(given, "snapshot-count", 0, 0, 1 << 62) or SNAPSHOT_COUNT,
        history_size=number_of(given, "history-size", 100_000, 1_000, HISTORY_SIZE_MAX),
        cors=cors_of(given),
        hosts=hosts_of(given),
        access=access_flags.access(
            given,
            number_of(given, "auth-failures-max", 0, 0, access_flags.FAILURES_MAX),
            (*listening.clients, *listening.peers, *listening.metrics),
        ),
        listen_metrics_urls=listening.metrics,
        profiles=given.is_on("enable-pprof"),
        log=log_settings.from_flags(given),
        strict_reconfig_check=given.is_on("strict-reconfig-check", default=True),
        rebuild=given.is_on("rebuild"),
        force_new_cluster=joining_flags.force_new_cluster(given),
        was_forced=stored is not None and stored.forced,
        client_tls=tls_flags.client_files(given, listening.clients + listening.metrics),
        peer_tls=tls_flags.peer_files(given, listening.peers),
        auto_tls=frozenset(switch for switch in ("auto-tls", "peer-auto-tls") if given.is_on(switch)),
        ignored=founded.ignored,
        idle=discovery_flags.idle_flags(given, has_data=stored is not None),
        former_name="" if stored is None or stored.name == name else stored.name,
    )


def _founded(given: Given, name: str, discovery: Discovery, stored: Identity | None) -> Founded:
    if stored is not None and stored.known_members:
        return founding_flags.stored_cluster(given, name, data_dir(given), stored)
    given.refuse_empty("name", "join", "replace")
    if not discovery.is_wanted:
        given.refuse_empty("initial-cluster")
    value = given.values.get("initial-cluster-token")
    token = "etcd-cluster" if value is None else value.text
    # The URL goes first, as in etcd (v3.4.23 embed/config.go, `PeerURLsMapAndToken`).
    founded = founding_flags.new_cluster(given, name, discovery.url or token)
    if discovery.is_wanted:
        joining_flags.refuse_everywhere(given, founded)
    return founded


def _wal_dir(given: Given) -> pathlib.Path | None:
    value = given.values.get("wal-dir")
    return None if value is None else _absolute(given, "wal-dir", value.text)


def _absolute(given: Given, flag: str, text: str) -> pathlib.Path:
    if "\0" in text:
        raise given.error("a path has no NUL: give another one", flag)
    path = pathlib.Path(text)
    try:
        return path.absolute()
    except OSError as error:
        reason = f"{path} is relative, and the working directory cannot be read ({error.strerror}): give a whole path"
        raise given.error(reason, flag) from None


def name_of(given: Given) -> str:
    """`--name`. Raises SettingsError."""
    value = given.values.get("name")
    name = "default" if value is None else value.text.strip(" ")
    if not name.isprintable() or any(c in name for c in ",="):
        raise given.error("a name must be printable, without commas and =", "name")
    return name


def _timeouts(given: Given) -> tuple[int, int]:
    heartbeat_ms = number_of(given, "heartbeat-interval", 100, 1, ELECTION_TIMEOUT_MS_MAX)
    election_ms = number_of(given, "election-timeout", 1000, 1, ELECTION_TIMEOUT_MS_MAX)
    least = HEARTBEATS_IN_ELECTION_TIMEOUT_MIN * heartbeat_ms
    if election_ms < least:
        raise given.error(
            f"--election-timeout[{election_ms}ms] should be at least as 5 times as "
            f"--heartbeat-interval[{heartbeat_ms}ms]: set it to {least} or more",
            "election-timeout",
            "heartbeat-interval",
        )
    return heartbeat_ms, election_ms


def number_of(given: Given, name: str, default: int, least: int, most: int) -> int:
    """A whole number within bounds. Raises SettingsError."""
    value = given.values.get(name)
    if value is None:
        return default
    number = _go_number(value.text)
    if number is None or not least <= number <= most:
        raise value.error(f"use a whole number from {least} to {most}")
    return number


def _go_number(text: str) -> int | None:
    """A number as Go's flags read it (strconv.ParseInt with base 0): 0x64, 0144 and 0o144 are 100, and so is 1_00."""
    if len(text) > _DIGITS_MAX or not text.isascii() or not text.replace("_", "").isalnum():
        return None
    if len(text) > 1 and text[0] == "0" and text[1] in "01234567_":
        text = f"0o{text[1:]}"
    try:
        return int(text, 0)
    except ValueError:
        return None


def hosts_of(given: Given) -> frozenset[str]:
    """`--host-whitelist`."""
    value = given.values.get("host-whitelist")
    hosts = frozenset(host.strip() for host in value.text.split(",")) - {""} if value is not None else frozenset()
    return hosts or frozenset({"*"})


def cors_of(given: Given) -> frozenset[str]:
    """`--cors`. Raises SettingsError."""
    value = given.values.get("cors")
    if value is None:
        return frozenset()
    origins = frozenset(origin.strip() for origin in value.text.split(",")) - {""}
    for origin in origins:
        if origin != "*" and not origin.startswith(("http://", "https://")):
            raise value.error(f"{origin!r} is no origin: use http://host, https://host or *")
    return origins
