"""Every flag that kvraft knows: its own settings, and etcd's, 2.3's and 0.4's included, with what becomes of each.

An operator puts kvraft where etcd stood without touching the unit file. So a flag of etcd that has no meaning here is
accepted with a line in the log, if nobody is worse off without it; and refused with a remedy, if leaving it out would
weaken what the operator asked for.
"""

import dataclasses
import enum
from collections.abc import Iterable, Iterator
from typing import Final, final


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
    def variable(self) -> str:
        """The environment variable that sets it."""
        return "ETCD_" + self.name.upper().replace("-", "_")


def _settings() -> Iterator[Flag]:
    for name, default, text in (
        ("name", "default", "this member's name"),
        ("data-dir", "${name}.etcd", "where this member keeps everything"),
        ("listen-client-urls", "http://127.0.0.1:2379,http://127.0.0.1:4001", "where clients are served"),
        (
            "advertise-client-urls",
            "http://localhost:2379,http://localhost:4001",
            "where clients reach this member; required with --listen-client-urls",
        ),
        ("listen-peer-urls", "this member's URLs in --initial-cluster", "where the other members are served"),
        (
            "initial-advertise-peer-urls",
            "this member's URLs in --initial-cluster",
            "where the other members reach this one",
        ),
        ("initial-cluster", "${name}=<its peer URLs>", "n1=http://host:2380,n2=...: all members; --peers is the same"),
        ("initial-cluster-state", "new", "new or existing"),
        ("initial-cluster-token", "etcd-cluster", "goes into the ids: keeps clusters apart"),
        ("heartbeat-interval", "100", "milliseconds between a leader's heartbeats"),
        (
            "election-timeout",
            "1000",
            "milliseconds without a leader before an election; 5 heartbeats at least, 50000 at most",
        ),
        ("snapshot-count", "100000", "log entries kept behind the stored state before the log is compacted"),
        ("history-size", "100000", "events kept for watches (kvraft's own); set when the cluster is born"),
        ("cors", "", "origins that may call from a browser, by commas; * for all"),
        ("log-level", "info", "debug, info, warn or error"),
    ):
        yield Flag(name, Use.SETTING, text, default)
    yield Flag(
        "rebuild",
        Use.SETTING,
        "if its data is lost, damaged or an old copy, set it aside and get everything back from the other members "
        "(kvraft's own)",
        "false",
        is_switch=True,
    )
    yield Flag(
        "put-back",
        Use.SETTING,
        "put the data that --rebuild set aside back into --data-dir, set aside what is there, and exit (kvraft's own)",
        is_switch=True,
    )
    yield Flag("debug", Use.SETTING, "the same as --log-level=debug", "false", is_switch=True)
    yield Flag("version", Use.SETTING, "print the version and exit", is_switch=True)
    yield Flag("help", Use.SETTING, "print this and exit", is_switch=True)


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
        ("discovery-fallback", "there is no discovery"),
        ("discovery-proxy", "there is no discovery"),
        ("discovery-srv-name", "there is no discovery"),
        ("experimental-backend-bbolt-freelist-type", v3),
        ("experimental-compaction-batch-limit", v3),
        ("experimental-corrupt-check-time", "members compare the hashes of their states all the time"),
        ("experimental-warning-apply-duration", "slow batches are counted in /metrics"),
        ("experimental-watch-progress-notify-interval", v3),
        ("grpc-keepalive-interval", v3),
        ("grpc-keepalive-min-time", v3),
        ("grpc-keepalive-timeout", v3),
        ("listen-metrics-urls", "/metrics is served at the client URLs"),
        ("log-output", "log lines go to stderr"),
        ("log-outputs", "log lines go to stderr"),
        ("log-package-levels", "--log-level sets the level of all"),
        ("logger", "there is one form of log line"),
        ("max-concurrent-streams", v3),
        ("max-request-bytes", "it concerns etcd's v3 API only; a v2 body may have 10 MiB, as in etcd"),
        ("max-snapshots", "there is one stored state"),
        ("max-txn-ops", v3),
        ("max-wals", "the log is one environment, compacted by --snapshot-count"),
        ("metrics", "/metrics shows everything"),
        ("proxy-dial-timeout", "there is no proxy mode"),
        ("proxy-failure-wait", "there is no proxy mode"),
        ("proxy-read-timeout", "there is no proxy mode"),
        ("proxy-refresh-interval", "there is no proxy mode"),
        ("proxy-write-timeout", "there is no proxy mode"),
        ("quota-backend-bytes", v3),
        ("wal-dir", "the log is kept under --data-dir"),
    ):
        yield Flag(name, Use.ACCEPTED, why)
    for name, why, fine in (
        ("enable-pprof", "there is no Go to profile", "false"),
        ("enable-v2", "the v2 API is what kvraft serves", "true"),
        ("experimental-enable-lease-checkpoint", v3, "false"),
        ("experimental-initial-corrupt-check", "everything is verified when it is read", "true"),
        ("experimental-peer-skip-client-san-verification", "TLS is not served by this version", "false"),
        ("initial-election-tick-advance", "a start waits for a leader's word, not for ticks", "true"),
        ("pre-vote", "PreVote is always on", "true"),
        ("strict-reconfig-check", "members cannot be changed in this version", "true"),
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
    tls = "TLS is not served by this version: leave it out on a trusted network, or put a TLS proxy in front"
    for name in (
        "ca-file",
        "cert-file",
        "cipher-suites",
        "client-cert-allowed-hostname",
        "client-crl-file",
        "key-file",
        "peer-ca-file",
        "peer-cert-allowed-cn",
        "peer-cert-allowed-hostname",
        "peer-cert-file",
        "peer-crl-file",
        "peer-key-file",
        "peer-trusted-ca-file",
        "trusted-ca-file",
    ):
        yield Flag(name, Use.REFUSED, tls)
    for name in ("auto-tls", "client-cert-auth", "peer-auto-tls", "peer-client-cert-auth"):
        yield Flag(name, Use.REFUSED, tls, is_switch=True, fine=frozenset({"false"}))
    for name, remedy, fine in (
        ("config-file", "give its settings as flags or as ETCD_* variables", ""),
        ("discovery", "name the members with --initial-cluster", ""),
        ("discovery-srv", "name the members with --initial-cluster", ""),
        ("experimental-enable-v2v3", "the v2 API is kvraft's own: leave it out", ""),
        ("host-whitelist", "Host is not checked by this version: leave it out, or check it in a proxy", "*"),
        ("proxy", "there is no proxy mode: leave it out, or run an HTTP proxy in its place", "off"),
        ("addr", "it was etcd 0.4's: use --advertise-client-urls=http://host:port", ""),
        ("bind-addr", "it was etcd 0.4's: use --listen-client-urls=http://address:port", ""),
        ("peer-addr", "it was etcd 0.4's: use --initial-advertise-peer-urls=http://host:port", ""),
        ("peer-bind-addr", "it was etcd 0.4's: use --listen-peer-urls=http://address:port", ""),
        ("peers-file", "it was etcd 0.4's: name the members with --initial-cluster", ""),
    ):
        yield Flag(name, Use.REFUSED, remedy, fine=frozenset({fine} - {""}))
    for name, remedy in (
        (
            "force-new-cluster",
            "it is not in this version: keep every --data-dir, and bring a majority of the members back",
        ),
        ("unsafe-no-fsync", "what is acknowledged is on disk, always: leave it out"),
    ):
        yield Flag(name, Use.REFUSED, remedy, is_switch=True, fine=frozenset({"false"}))


def _table(*parts: Iterable[Flag]) -> dict[str, Flag]:
    flags = [flag for part in parts for flag in part]
    table = {flag.name: flag for flag in flags}
    assert len(table) == len(flags), "a flag stands in two lists"
    return table


FLAGS: Final = _table(_settings(), _accepted(), _silent(), _refused())
"""Every flag by its name."""

ALIASES: Final = {"peers": "initial-cluster", "h": "help"}
"""Other spellings. `--peers` was etcd 0.4's name, with values of another form, which are refused with a hint."""
