"""/v2/stats/self, /v2/stats/leader and /v2/stats/store."""

from kvraft.api_v2 import errors
from kvraft.api_v2.answers import Answer
from kvraft.api_v2.backend import Backend
from kvraft.api_v2.go_json import render
from kvraft.api_v2.misc import JSON_HEADERS


def stats_answer(path: bytes, backend: Backend) -> Answer:
    """Answer a GET of one of the three pages."""
    if path == b"/v2/stats/self":
        return Answer(200, JSON_HEADERS, render(backend.self_stats()))
    if path == b"/v2/stats/leader":
        leader_stats = backend.leader_stats()
        if leader_stats is None:
            return errors.message(403, b"not current leader")
        return Answer(200, JSON_HEADERS, render(leader_stats))
    assert path == b"/v2/stats/store"
    return Answer(200, JSON_HEADERS, render(backend.keyspace.stats.json_fields(backend.watchers.count)))
