"""Every flag that kvraft knows: its own settings, and etcd's, 2.3's and 0.4's included, with what becomes of each.

An operator puts kvraft where etcd stood without touching the unit file. So a flag of etcd that has no meaning here is
accepted with a line in the log, if nobody is worse off without it; and refused with a remedy, if leaving it out would
weaken what the operator asked for.
"""

import dataclasses
import enum
from collections.abc import Iterable, Iterator
from typing import Final, final

ETCD_DEFAULTS: Final = {
    "listen-client-urls": "http://localhost:2379",
    "advertise-client-urls": "http://localhost:2379",
    "listen-peer-urls": "http://localhost:2380",
    "initial-advertise-peer-urls": "http://localhost:2380",
    "initial-cluster": "default=http://localhost:2380",
    "cors": "*",
    "auth-token": "simple",
    "auth-token-ttl": "300",
    "auto-compaction-mode": "periodic",
    "auto-compaction-retention": "0",
    "backend-batch-limit": "0",
    "bcrypt-cost": "10",
    "experimental-backend-bbolt-freelist-type": "array",
    "experimental-compaction-batch-limit": "1000",
    "experimental-corrupt-check-time": "0s",
    "experimental-warning-apply-duration": "100ms",
    "experimental-watch-progress-notify-interval": "10m",
    "grpc-keepalive-interval": "2h",
    "grpc-keepalive-min-time": "5s",
    "grpc-keepalive-timeout": "20s",
    "max-concurrent-streams": "4294967295",
    "max-request-bytes": "1572864",
    "max-snapshots": "5",
    "max-txn-ops": "128",
    "max-wals": "5",
    "metrics": "basic",
    "quota-backend-bytes": "0",
}
"""What etcd 3.4 does without the flag: of settings only where kvraft does something else. A flag without effect passes
in silence with it: a unit file that spells defaults out gets no warnings. The docs show it."""


class Use(enum.Enum):
    """What becomes of a flag."""

    SETTING = "setting"
    ACCEPTED = "accepted"
    """Without effect; a line in the log says why, unless the value is one that asks for what holds anyway."""
    SILENT = "silent"
    """Without effect, as in etcd 2.3 itself."""
    REFUSED = "refused"
    """Ends the start, unless the value is one that asks for nothing."""


@final
@dataclasses.dataclass(slots=True, frozen=True)
class Flag:
    """One flag."""

    name: str
    use: Use
    text: str
    """For a setting, its line in the help; otherwise why it has no effect, or what to do instead."""
    default: str = ""
    """As the help shows it."""
    is_switch: bool = False
    """Go's boolean: may stand without a value, and takes one only after `=`."""
    fine: frozenset[str] = frozenset()
    """Values beside the empty one that pass without a word; for a switch, `true` or `false`."""

    @property
    def is_number(self) -> bool:
        """Whether it is a setting that takes a whole number, as its default then is one."""
        return self.default.isdigit()

    @property
    def variable(self) -> str:
        """The environment variable that sets it."""
        return "ETCD_" + self.name.upper().replace("-", "_")


_SETTINGS: Final = (
    ("name", "default", "this member's name, one of those in --initial-cluster; on later starts the one that it has"),
    (
        "data-dir",
        "${name}.etcd",
        (
            "where this member keeps everything; on a real disk; files of others in it (`.keep`, `lost+found`) are "
            "left alone and mentioned once"
        ),
    ),
    (
        "wal-dir",
        "",
        (
            "where the log is kept, as a rule on a disk of its own; it is moved there from wherever it is, and into "
            "--data-dir if that is given"
        ),
    ),
    ("listen-client-urls", "http://127.0.0.1:2379,http://127.0.0.1:4001", "where clients are served; IP addresses"),
    (
        "advertise-client-urls",
        "http://localhost:2379,http://localhost:4001",
        "where clients reach this member; required with --listen-client-urls, and etcdctl uses nothing else",
    ),
    (
        "listen-peer-urls",
        "this member's URLs in --initial-cluster",
        "where the other members are served; IP addresses",
    ),
    (
        "initial-advertise-peer-urls",
        "this member's URLs in --initial-cluster",
        "where the other members reach this one",
    ),
    (
        "config-file",
        "",
        "a YAML file with etcd's keys; beside it only --rebuild, --put-back, --join and --replace count",
    ),
    ("initial-cluster", "${name}=<its peer URLs>", "all members: n1=http://host:2380,n2=..."),
    (
        "initial-cluster-state",
        "new",
        (
            "new or existing; with existing and an empty data directory the member comes to the cluster that runs at "
            "the other URLs of --initial-cluster, to which it was added before; later starts ignore it"
        ),
    ),
    (
        "join",
        "",
        (
            "client URLs of members that run: with an empty data directory, add this member to their cluster and start "
            "it; run again after a failure, it goes on (kvraft's own)"
        ),
    ),
    (
        "replace",
        "",
        "with --join, the name of a member that is removed once this one is promoted (kvraft's own)",
    ),
    ("initial-cluster-token", "etcd-cluster", "goes into all ids: keeps apart two clusters with the same URLs"),
    (
        "discovery",
        "",
        (
            "URL of a token at a discovery service, by which members with empty directories find each other, instead "
            "of --initial-cluster: http://host:port/v2/keys/discovery/TOKEN at a kvraft or etcd; it takes the place of "
            "--initial-cluster-token; later starts ignore it"
        ),
    ),
    (
        "discovery-fallback",
        "proxy",
        "what a member does for which --discovery has no place any more: exit, or serve as a proxy of the others",
    ),
    ("discovery-proxy", "", "the HTTP proxy through which --discovery is asked: http://host:port"),
    (
        "discovery-srv",
        "",
        (
            "domain whose SRV records _etcd-server-ssl._tcp and _etcd-server._tcp name all members, this one included, "
            "instead of --initial-cluster; later starts ignore it"
        ),
    ),
    (
        "discovery-srv-name",
        "",
        "what stands behind etcd-server in the names of these records: NAME for _etcd-server-NAME._tcp",
    ),
    ("heartbeat-interval", "100", "milliseconds between a leader's heartbeats; about the round trip between members"),
    (
        "election-timeout",
        "1000",
        (
            "milliseconds without a leader before an election; from 5 heartbeats to 50000; the same on all members; "
            "well above the longest sync of the disks and the longest round trip, or nobody is elected"
        ),
    ),
    ("snapshot-count", "100000", "log entries kept behind the stored state before the log is compacted"),
    (
        "history-size",
        "100000",
        "events kept for watches (kvraft's own); of all members the one that founds the cluster decides",
    ),
    ("cors", "", "origins, by commas, whose pages may call from a browser; * for all"),
    (
        "host-whitelist",
        "*",
        (
            "names, by commas, by which clients without TLS may call this member in Host, ports aside; another one is "
            "answered 421; * for all"
        ),
    ),
    (
        "listen-client-http-urls",
        "",
        "where clients are served too (etcd 3.4.25 and later, which keeps them apart from gRPC there)",
    ),
    (
        "auth-guest",
        "role",
        (
            "what may be done without a user once auth is on: role for what the role guest allows, none for nothing "
            "(kvraft's own)"
        ),
    ),
    (
        "auth-failures-max",
        "0",
        (
            "wrong passwords a minute of one user, or from one address, before no more are compared; 0 for any number "
            "(kvraft's own)"
        ),
    ),
    (
        "audit-log",
        "",
        (
            "stderr, or the path of a file that is opened anew on SIGHUP: one JSON object for each request that "
            "needs a right or changes something (kvraft's own)"
        ),
    ),
    (
        "proxy",
        "off",
        (
            "on: be no member, and forward what clients ask to the members; readonly: only what reads; a data "
            "directory that holds a member's data, or a proxy's, decides at later starts"
        ),
    ),
    ("proxy-failure-wait", "5000", "milliseconds for which a proxy asks an endpoint no more that has failed"),
    ("proxy-refresh-interval", "30000", "milliseconds between a proxy's questions to the members who they are now"),
    ("proxy-dial-timeout", "1000", "milliseconds that a proxy's connection to an endpoint may take; 0 for any time"),
    (
        "proxy-write-timeout",
        "5000",
        "milliseconds for which an endpoint may take nothing of what a proxy sends; 0 for any time",
    ),
    (
        "proxy-read-timeout",
        "0",
        (
            "milliseconds for which an endpoint may say nothing to a proxy that waits; 0 for any time, without which "
            "no watch lives long"
        ),
    ),
    ("listen-metrics-urls", "", "where /metrics and /health are served too, and nothing else; IP addresses"),
    (
        "logger",
        "capnslog",
        "what log lines look like: capnslog for a line of text, zap for one JSON object with etcd's names",
    ),
    (
        "log-outputs",
        "default",
        (
            "where they go, by commas: default (stderr, with levels for journald if that reads it), stderr, stdout, or "
            "paths of files, which are opened anew on SIGHUP"
        ),
    ),
    ("log-level", "info", "debug, info, warn or error"),
    (
        "log-package-levels",
        "",
        "levels of single rooms, or of what etcd 2 calls so: member=DEBUG,rafthttp=WARNING; * for all",
    ),
)
"""Name, default as the help shows it, meaning."""
_SWITCHES: Final = (
    (
        "insecure",
        "true",
        (
            "serve clients and peers on other hosts without TLS, and keep data where others may read it; false refuses "
            "such a start (kvraft's own)"
        ),
    ),
    (
        "rebuild",
        "false",
        (
            "if this member's data is lost, damaged or an old copy: set it aside and get everything back from the "
            "other members; without effect otherwise (kvraft's own)"
        ),
    ),
    (
        "strict-reconfig-check",
        "true",
        "refuse changes of the members while too few of them have started or are connected",
    ),
    (
        "put-back",
        "",
        ("put what --rebuild has set aside back into its place, set aside what is there now, and exit (kvraft's own)"),
    ),
    (
        "force-new-cluster",
        "false",
        (
            "after the loss of a majority: make a cluster of one of what this member holds, and remove the others; "
            "without effect at later starts, until it was left out once"
        ),
    ),
    (
        "enable-pprof",
        "false",
        "serve /debug/pprof/: stacks of threads and tasks, and sampled ones, as text (no profile that Go's tools read)",
    ),
    ("debug", "false", "the same as --log-level=debug"),
    ("version", "", "print the version and exit"),
    ("help", "", "print this and exit"),
)
"""The same, of Go's booleans."""


OLD_ADDRESSES: Final = {
    "addr": "advertise-client-urls",
    "bind-addr": "listen-client-urls",
    "peer-addr": "initial-advertise-peer-urls",
    "peer-bind-addr": "listen-peer-urls",
}
"""Flags of etcd 0.4 that take `address:port`, and what they are since."""


def _settings() -> Iterator[Flag]:
    for name, default, text in _SETTINGS:
        yield Flag(name, Use.SETTING, text, default)
    for name, default, text in _SWITCHES:
        yield Flag(name, Use.SETTING, text, default, is_switch=True)
    for name, flag in OLD_ADDRESSES.items():
        yield Flag(name, Use.SETTING, f"etcd 0.4's --{flag}, as address:port")


def _tls() -> Iterator[Flag]:
    for name, text in (
        ("cert-file", "certificate for https client URLs, its intermediates behind it (PEM)"),
        ("key-file", "its key, without a passphrase (PEM)"),
        ("trusted-ca-file", "CAs whose certificates clients must show (PEM)"),
        ("client-crl-file", "revocation lists for clients' certificates (PEM or DER)"),
        ("client-cert-allowed-hostname", "the name or address that clients' certificates must cover"),
        ("ca-file", "etcd 2.3's for --trusted-ca-file with --client-cert-auth"),
        ("cipher-suites", "Go's names of the cipher suites to speak, and no others, by commas"),
        ("peer-cert-file", "certificate for https peer URLs, and for dialling peers (PEM)"),
        ("peer-key-file", "its key, without a passphrase (PEM)"),
        ("peer-trusted-ca-file", "CAs whose certificates peers must show (PEM)"),
        ("peer-crl-file", "revocation lists for peers' certificates (PEM or DER)"),
        ("peer-cert-allowed-cn", "the common name that peers' certificates must have"),
        ("peer-cert-allowed-hostname", "the name or address that peers' certificates must cover"),
        ("peer-ca-file", "etcd 2.3's for --peer-trusted-ca-file with --peer-client-cert-auth"),
    ):
        yield Flag(name, Use.SETTING, text)
    for name, text in (
        ("client-cert-auth", "clients must show a certificate of a trusted CA, as with --trusted-ca-file alone"),
        ("auto-tls", "make a certificate for https client URLs, signed by itself"),
        (
            "peer-client-cert-auth",
            "peers must show a certificate of a trusted CA, as with --peer-trusted-ca-file alone",
        ),
        ("peer-auto-tls", "make a certificate for https peer URLs, signed by itself, and believe everybody's"),
        (
            "experimental-peer-skip-client-san-verification",
            "a peer's certificate need not be that of the address and the member that it comes from",
        ),
    ):
        yield Flag(name, Use.SETTING, text, "false", is_switch=True)


def _accepted() -> Iterator[Flag]:
    v3 = "it concerns etcd's v3 API only"
    for name, why in (
        ("auth-token", v3),
        ("auth-token-ttl", v3),
        ("auto-compaction-mode", v3),
        ("auto-compaction-retention", v3),
        ("backend-batch-interval", v3),
        ("backend-batch-limit", v3),
        ("bcrypt-cost", v3),
        ("experimental-backend-bbolt-freelist-type", v3),
        ("experimental-compaction-batch-limit", v3),
        ("experimental-corrupt-check-time", "members compare the hashes of their states all the time"),
        ("experimental-auto-compaction-retention", v3),
        ("experimental-gRPC-addr", v3),
        ("experimental-warning-apply-duration", "slow batches are counted in /metrics"),
        ("experimental-watch-progress-notify-interval", v3),
        ("grpc-keepalive-interval", v3),
        ("grpc-keepalive-min-time", v3),
        ("grpc-keepalive-timeout", v3),
        ("max-concurrent-streams", v3),
        ("max-request-bytes", "it concerns etcd's v3 API only; a v2 body may have 10 MiB, as in etcd"),
        ("max-snapshots", "there is one stored state"),
        ("max-txn-ops", v3),
        ("max-wals", "the log is one environment, compacted by --snapshot-count"),
        ("metrics", "/metrics shows everything"),
        ("quota-backend-bytes", v3),
    ):
        yield Flag(name, Use.ACCEPTED, why, fine=frozenset(filter(None, [ETCD_DEFAULTS.get(name)])))
    for name, why, fine in (
        ("enable-grpc-gateway", v3, "true"),
        ("enable-v2", "the v2 API is what kvraft serves", "true"),
        ("experimental-enable-lease-checkpoint", v3, "false"),
        ("experimental-enable-lease-checkpoint-persist", v3, "false"),
        ("experimental-initial-corrupt-check", "everything is verified when it is read", "true"),
        ("experimental-v3demo", v3, "false"),
        ("initial-election-tick-advance", "a start waits for a leader's word, not for ticks", "true"),
        ("next-cluster-version-compatible", "members of kvraft have one version", "false"),
        ("pre-vote", "PreVote is always on", "true"),
    ):
        yield Flag(name, Use.ACCEPTED, why, is_switch=True, fine=frozenset({fine}))


def _silent() -> Iterator[Flag]:
    """What etcd 2.3 ignores, being 0.4's (etcdmain/config.go, `ignored`)."""
    for name in (
        "cluster-active-size",
        "cluster-remove-delay",
        "cluster-sync-interval",
        "config",
        "max-result-buffer",
        "max-retry-attempts",
        "peer-heartbeat-interval",
        "peer-election-timeout",
        "retry-interval",
    ):
        yield Flag(name, Use.SILENT, "etcd 0.4's")
    for name in ("force", "snapshot", "v", "vv"):
        yield Flag(name, Use.SILENT, "etcd 0.4's", is_switch=True)


def _refused() -> Iterator[Flag]:
    for name, remedy, fine in (
        ("experimental-enable-v2v3", "the v2 API is kvraft's own: leave it out", ""),
        ("peers-file", "it was etcd 0.4's, and no longer etcd 2.3's: name the members with --initial-cluster", ""),
    ):
        yield Flag(name, Use.REFUSED, remedy, fine=frozenset({fine} - {""}))
    yield Flag(
        "unsafe-no-fsync",
        Use.REFUSED,
        "what is acknowledged is on disk, always: leave it out",
        is_switch=True,
        fine=frozenset({"false"}),
    )


def _table(*parts: Iterable[Flag]) -> dict[str, Flag]:
    flags = [flag for part in parts for flag in part]
    table = {flag.name: flag for flag in flags}
    assert len(table) == len(flags), "a flag stands in two lists"
    return table


FLAGS: Final = _table(_settings(), _tls(), _accepted(), _silent(), _refused())
"""Every flag by its name."""

BESIDE_CONFIG_FILE: Final = frozenset({"config-file", "help", "join", "put-back", "rebuild", "replace", "version"})
"""What counts beside a configuration file: the deeds that an operator asks for once."""

ALIASES: Final = {
    "peers": "initial-cluster",
    "h": "help",
    "log-output": "log-outputs",
    "experimental-grpc-addr": "experimental-gRPC-addr",  # the name that its variable has
}
"""Other spellings. `--peers` was etcd 0.4's name, with values of another form, which are refused with a hint;
`--log-output` was etcd 3.3's."""
