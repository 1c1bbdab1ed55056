"""/version, /health, /metrics, /debug/vars and /config/local/log."""

import asyncio
import logging
import sys
from typing import Final, final

from kvraft import logs
from kvraft.api_v2 import errors
from kvraft.api_v2.answers import Answer
from kvraft.api_v2.backend import Backend
from kvraft.api_v2.exchange import Exchange
from kvraft.api_v2.go_forms import values_of
from kvraft.api_v2.go_json import render
from kvraft.api_v2.go_json_reader import first_value
from kvraft.api_v2.go_json_scanner import GoJsonError
from kvraft.api_v2.go_structs import fields, text
from kvraft.keyspace.errors import EtcdError
from kvraft.metrics import CONTENT_TYPE, Metrics

JSON_HEADERS: Final = b"Content-Type: application/json\r\n"
_TEXT_HEADERS: Final = b"Content-Type: text/plain; charset=utf-8\r\n"
_METRICS_HEADERS: Final = f"Content-Type: {CONTENT_TYPE}\r\n".encode()

_LEVEL_BYTES_MAX: Final = 64 << 10
"""Within so many has the first value of a body to end that sets the log level, which everybody may send."""


def version_answer(server_version: str, cluster_version: str) -> Answer:
    """GET /version: which etcd this is compatible with, and what all members agree on."""
    versions = {"etcdserver": server_version, "etcdcluster": cluster_version or "not_decided"}
    return Answer(200, JSON_HEADERS, render(versions))


def metrics_answer(metrics: Metrics) -> Answer:
    """GET /metrics."""
    return Answer(200, _METRICS_HEADERS, metrics.render())


def status_answer(backend: Backend) -> Answer:
    """GET /v2/kvraft/status: what `kvraft status` shows of this member."""
    return Answer(200, JSON_HEADERS, render(backend.status()) + b"\n")


def debug_vars_answer(backend: Backend) -> Answer:
    """GET /debug/vars: the parts of etcd's expvar page that mean the same here."""
    status = {
        "id": f"{backend.member_id:x}",
        "term": backend.raft_term,
        "applied": backend.raft_index,
        "lead": f"{backend.leader_id:x}",
    }
    keyspace = backend.keyspace
    state = {
        "raft_index": backend.raft_index,
        "etcd_index": keyspace.etcd_index,
        "state_hash": keyspace.state_hash.hex(),
        "history_start_index": keyspace.history.floor,
    }
    pages = {"cmdline": sys.argv, "raft.status": status, "kvraft": state}
    body = b",\n".join(render(name) + b": " + render(value) for name, value in pages.items())
    return Answer(200, b"Content-Type: application/json; charset=utf-8\r\n", b"{\n" + body + b"\n}\n")


def log_level_answer(body: bytes) -> Answer:
    """PUT /config/local/log `{"Level":"DEBUG"}`: how much this member logs until it restarts."""
    name = _wanted_level(body)
    if name is None:
        return errors.message(400, b"Invalid json body")
    level = logs.CAPNSLOG_LEVELS.get(name.upper())
    if level is None:
        return errors.message(400, b"Invalid log level " + name.encode())
    logging.getLogger("kvraft").setLevel(level)
    return Answer(204, b"", b"")


def _wanted_level(body: bytes) -> str | None:
    """The Level in a body, empty without one; None if Go's json.Decoder refuses it for a `struct{Level string}`."""
    level = ""
    try:
        for field, value in fields(first_value(body[:_LEVEL_BYTES_MAX])):
            if field == "level":
                level = text(value, level)
    except GoJsonError:
        return None
    return level


@final
class Health:
    """GET /health: healthy means that a leader is known and a linearizable read succeeds in time (etcd 3.4).

    And that there is no alarm: the only one here is that of a full disk, which `?exclude=NOSPACE` leaves out.
    """

    def __init__(self, backend: Backend, timeout_s: float, metrics: Metrics) -> None:
        self._backend = backend
        self._timeout_s = timeout_s
        self._metrics = metrics

    def answer(self, query: bytes, exchange: Exchange) -> None:
        """Answer once the member's health is known."""
        alarmed = self._backend.is_disk_full and b"NOSPACE" not in values_of(query, b"exclude")
        if alarmed or not self._backend.leader_id:
            self._finish(exchange, healthy=False)
            return

        def decide(outcome: EtcdError | None) -> None:
            timer.cancel()
            self._finish(exchange, healthy=outcome is None)

        def give_up() -> None:
            abandon()
            self._finish(exchange, healthy=False)

        def gone() -> None:
            timer.cancel()
            abandon()

        timer = asyncio.get_running_loop().call_later(self._timeout_s, give_up)
        abandon = self._backend.read_barrier(decide)
        exchange.on_gone = gone

    def _finish(self, exchange: Exchange, *, healthy: bool) -> None:
        if healthy:
            self._metrics.health_success.inc()
            exchange.answer(Answer(200, _TEXT_HEADERS, b'{"health":"true"}'))
        else:
            self._metrics.health_failures.inc()
            exchange.answer(errors.text_error(503, b'{"health":"false"}'))
