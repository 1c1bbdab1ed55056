"""The rows, with what is asked of each."""

from functools import partial
from typing import Final

from bench.backups import beside_backups
from bench.catching_up import beside_snapshot
from bench.failover import failover
from bench.footprint import footprint
from bench.messages import messages
from bench.proxied import through_proxy
from bench.puts import idle, put, put_to_follower, refresh
from bench.reads import get, list_all, mixed
from bench.rows import BUILD, Row, Workload, on_cluster, with_security
from bench.secure import beside_guesses, logins
from bench.staleness import staleness
from bench.starts import start
from bench.watching import fan_out, long_polls


def puts(connections: int, goal: float, at_least: float, p99_goal: float | None, words: str) -> Workload:
    """Writes of 256 bytes over so many connections."""
    return Workload(
        (
            Row(f"put_c{connections}", "per s", True, goal, at_least, words=words),
            Row(f"put_cpu_c{connections}", "us of CPU a write, all members", False),
            Row(f"put_p99_c{connections}", "ms, p99", False, p99_goal, words=f"{words}: p99"),
        ),
        on_cluster(partial(put, connections=connections)),
    )


def puts_secured(name: str, words: str, *, tls: bool, auth: bool) -> Workload:
    """Writes over 64 connections whose clients speak TLS, have a password, or both."""
    rate = Row(f"put_c64_{name}", "per s", True, 1.5, 1.0, words=f"PUT, 64 connections {words}")
    cpu = Row(f"put_cpu_c64_{name}", "us of CPU a write, all members", False)
    p99 = Row(f"put_p99_c64_{name}", "ms, p99", False)
    return Workload((rate, cpu, p99), with_security(partial(put, connections=64), tls=tls, auth=auth))


def gets_secured(name: str, words: str, *, tls: bool, auth: bool) -> Workload:
    """Reads as `get_c64`, in the same way."""
    rate = Row(f"get_c64_{name}", "per s", True, 1.5, 1.0, words=f"GET, 64 connections {words}")
    return Workload((rate,), with_security(partial(get, connections=64), tls=tls, auth=auth))


WORKLOADS: Final = (
    puts(256, 2.0, 1.3, 1.0, "PUT, 256 connections"),
    puts(64, 1.5, 1.25, 1.0, "PUT, 64 connections"),
    puts(1, 1.0, 0.6, None, "PUT, 1 connection"),
    Workload(
        (Row("put_follower_c64", "per s", True, 1.5, 1.1, words="PUT to a follower, 64 connections"),),
        on_cluster(partial(put_to_follower, connections=64)),
    ),
    Workload(
        (Row("get_c64", "per s", True, 2.0, 1.5, words="GET, 64 connections"),),
        on_cluster(partial(get, connections=64)),
    ),
    Workload(
        (Row("quorum_get_c64", "per s", True, 3.0, 2.5, words="quorum GET, 64 connections"),),
        on_cluster(partial(get, connections=64, query="?quorum=true")),
    ),
    Workload(
        (Row("mixed_c64", "per s", True, 2.0, 1.4, words="90 % GET, 10 % PUT, over three members"),),
        on_cluster(partial(mixed, connections=64)),
    ),
    Workload(
        (Row("list10k", "per s", True, 2.5, 2.0, words="sorted listing of 10,000 keys of 1 KiB"),),
        on_cluster(list_all),
    ),
    Workload(
        (Row("watch_fanout", "deliveries per s", True, 2.0, 1.3, words="deliveries to 500 stream watchers"),),
        on_cluster(fan_out),
    ),
    Workload(
        (
            Row("polls_memory", "MB added", False, 0.6, 0.8, words="5,000 idle long polls: memory"),
            # The goal is for events: 1.5 times as many are as many in two thirds of the time.
            Row("polls_event", "ms to all", False, 1 / 1.5, 1.0, words="one event to 5,000 long polls"),
        ),
        on_cluster(long_polls),
    ),
    Workload(
        (Row("ttl_refresh_c64", "per s", True, 1.5, 1.2, words="refreshes of 10,000 keys with a TTL"),),
        on_cluster(partial(refresh, connections=64)),
    ),
    *(
        workload(name, words, tls=tls, auth=auth)
        for workload in (puts_secured, gets_secured)
        for name, words, tls, auth in (
            ("tls", "with TLS", True, False),
            ("auth", "with Basic auth", False, True),
            ("both", "with both", True, True),
        )
    ),
    Workload(
        (
            Row("footprint", "MB", False, 0.5, 0.65, words="memory with 100,000 keys of 1 KiB"),
            Row("restart_full", "s from exec to serving", False, 0.4, 0.5, words="restart with 100,000 keys of 1 KiB"),
        ),
        on_cluster(footprint),
    ),
    Workload(
        (Row("start", "ms from exec to serving", False, 2.0, 4.0, words="restart of an empty member"),),
        on_cluster(start),
    ),
    Workload(
        (Row("failover", "s without a write", False, 0.1, 0.3, words="no write after kill -9 of the leader"),),
        on_cluster(failover),
    ),
    Workload(
        (
            Row(
                "beside_snapshot",
                "times its own quiet p99",
                False,
                1.2,
                1.5,
                by_itself=True,
                words="p99 of writes beside a snapshot",
            ),
        ),
        partial(beside_snapshot, BUILD),
    ),
    Workload((Row("idle_cpu", "us of CPU a second, all members", False, 1.0),), on_cluster(idle)),
    Workload(
        (
            Row("stale", "% of reads elsewhere right after a write", False, 1.0),
            Row("stale_for", "ms, the median of the stale ones", False, 1.0),
        ),
        on_cluster(staleness),
    ),
    Workload(
        (
            Row("message", "us a round trip; not etcd but a bare stream", False, 2.0),
            Row("message_cpu", "us of CPU a side; not etcd but a bare stream", False, 2.0),
        ),
        messages,
    ),
    Workload(
        (
            Row("first_login", "ms", False, 1.0),
            Row("wrong_logins", "refused per s", True, 1.0),
        ),
        with_security(logins, tls=False, auth=True),
    ),
    Workload(
        (
            Row("proxy_get_c64", "per s, before one etcd", True, 1.0),
            Row("proxy_get_cpu", "us of CPU a read, the proxy's", False, 1.0),
            Row("proxy_put_c64", "per s, before one etcd", True, 1.0),
            Row("proxy_put_cpu", "us of CPU a write, the proxy's", False, 1.0),
            Row("proxy_memory", "MB at most", False, 1.0),
        ),
        partial(through_proxy, BUILD, connections=64),
    ),
    Workload(
        (Row("beside_guesses", "times the p99 of writes without 200 wrong passwords a second", False, 1.0),),
        with_security(beside_guesses, tls=False, auth=True),
    ),
    Workload(
        (
            Row("beside_backups", "times the p99 of 64 writers without", False, 1.2, is_alone=True),
            Row("backup_takes", "s for 100 MB, beside them", False, 15.0, is_alone=True),
        ),
        on_cluster(beside_backups),
    ),
)
