"""What is served: each path with its methods, who may use them, and what answers.

One table, read from top to bottom; a path that no line has is 404, a method that its line lacks is 405. `/v2/keys` with
its own order of checks is in it like the rest.
"""

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, final

from kvraft.api_v2 import errors, members, misc, profiles, stats
from kvraft.api_v2.answers import Answer
from kvraft.api_v2.auth import Auth, pieces
from kvraft.api_v2.backend import Backend
from kvraft.api_v2.backup import Sending
from kvraft.api_v2.exchange import Exchange
from kvraft.api_v2.guard import Guard
from kvraft.api_v2.keys import Keys
from kvraft.api_v2.settings import ApiSettings
from kvraft.metrics import Metrics


@final
class Right(enum.Enum):
    """What a request needs where users have to say who they are (etcd 3.4: etcdserver/api/v2http/client_auth.go)."""

    NONE = "none"
    """Everybody's, whatever auth says."""
    KEY = "key"
    """To read or to write what the path names."""
    ROOT = "root"
    """The role root."""


@final
@dataclass(slots=True, frozen=True)
class Call:
    """A request whose path is clean."""

    method: bytes
    path: bytes
    query: bytes
    content_type: bytes | None
    body: bytes


@final
@dataclass(slots=True, frozen=True)
class Served:
    """What handlers ask."""

    backend: Backend
    settings: ApiSettings
    metrics: Metrics
    guard: Guard
    keys: Keys
    auth: Auth
    health: misc.Health
    backups: Sending


Handler = Callable[[Served, Call, Exchange], Answer | None]
"""The answer, or None if the exchange gets it from elsewhere, now or later."""


@final
@dataclass(slots=True, frozen=True)
class Route:
    """One path, and what is below it if it says so."""

    path: bytes
    methods: tuple[bytes, ...]
    """As etcd lists them in `Allow`. Empty: all of them, and none is told apart."""
    read: Right
    """What GET and HEAD need."""
    write: Right
    """What the other methods need."""
    handler: Handler
    below: bool = False
    far_below: bool = False
    """Only what is two names or more below the path, and nothing else."""

    def fits(self, path: bytes) -> bool:
        """Whether a clean path is this route's."""
        if self.far_below:
            return path.startswith(self.path + b"/") and b"/" in path[len(self.path) + 1 :].rstrip(b"/")
        return path == self.path or (self.below and path.startswith(self.path + b"/"))

    def right(self, method: bytes) -> Right:
        """What a request by this method needs."""
        return self.read if method in {b"GET", b"HEAD"} else self.write


_GET: Final = (b"GET",)
_ONE: Final = (b"GET", b"PUT", b"DELETE")
_KEYS: Final = (b"HEAD", b"GET", b"PUT", b"POST", b"DELETE")
_MEMBERS: Final = (b"GET", b"POST", b"DELETE", b"PUT")


def _keys(served: Served, call: Call, exchange: Exchange) -> None:
    served.keys.handle(call.method, call.path, call.query, call.content_type, call.body, exchange)


def _members(served: Served, call: Call, exchange: Exchange) -> Answer | None:
    if call.method == b"GET":
        return members.members_answer(call.path, served.backend)
    return members.change_members(
        call.method, call.path, call.content_type, call.body, served.backend, served.guard, exchange
    )


def _machines(served: Served, _call: Call, _exchange: Exchange) -> Answer:
    return members.machines_answer(served.backend)


def _enable(served: Served, call: Call, exchange: Exchange) -> None:
    served.auth.enable(call.method, exchange)


def _users(served: Served, call: Call, exchange: Exchange) -> None:
    served.auth.users(call.query, exchange)


def _user(served: Served, call: Call, exchange: Exchange) -> None:
    served.auth.user(call.method, pieces(call.path)[1], call.query, call.body, exchange)


def _roles(served: Served, call: Call, exchange: Exchange) -> None:
    served.auth.roles(call.query, exchange)


def _role(served: Served, call: Call, exchange: Exchange) -> None:
    served.auth.role(call.method, pieces(call.path)[1], call.body, exchange)


def _too_deep(_served: Served, _call: Call, _exchange: Exchange) -> Answer:
    """The path is looked at before the method, and before anybody is asked who he is."""
    return errors.message(400, b"Invalid path")


def _stats(served: Served, call: Call, _exchange: Exchange) -> Answer:
    return stats.stats_answer(call.path, served.backend)


def _version(served: Served, _call: Call, _exchange: Exchange) -> Answer:
    return misc.version_answer(served.settings.server_version, served.backend.cluster_version())


def _health(served: Served, call: Call, exchange: Exchange) -> None:
    served.health.answer(call.query, exchange)


def _metrics(served: Served, _call: Call, _exchange: Exchange) -> Answer:
    return misc.metrics_answer(served.metrics)


def _debug_vars(served: Served, _call: Call, _exchange: Exchange) -> Answer:
    return misc.debug_vars_answer(served.backend)


def _log_level(_served: Served, call: Call, _exchange: Exchange) -> Answer:
    return misc.log_level_answer(call.body)


def _status(served: Served, _call: Call, _exchange: Exchange) -> Answer:
    return misc.status_answer(served.backend)


def _backup(served: Served, call: Call, exchange: Exchange) -> Answer | None:
    return served.backups.answer(call.query, exchange)


def _profiles(_served: Served, call: Call, exchange: Exchange) -> Answer | None:
    return profiles.answer(call.path, call.query, exchange)


_HEALTH: Final = Route(b"/health", _GET, Right.NONE, Right.NONE, _health)
_METRICS: Final = Route(b"/metrics", (), Right.NONE, Right.NONE, _metrics)
ROUTES: Final = (
    Route(b"/v2/keys", _KEYS, Right.KEY, Right.KEY, _keys, below=True),
    Route(b"/v2/members", _MEMBERS, Right.NONE, Right.ROOT, _members, below=True),
    Route(b"/v2/machines", (b"GET", b"HEAD"), Right.NONE, Right.NONE, _machines),
    Route(b"/v2/stats/self", _GET, Right.NONE, Right.NONE, _stats),
    Route(b"/v2/stats/leader", _GET, Right.NONE, Right.NONE, _stats),
    Route(b"/v2/stats/store", _GET, Right.NONE, Right.NONE, _stats),
    Route(b"/v2/auth/enable", _ONE, Right.NONE, Right.ROOT, _enable),
    Route(b"/v2/auth/roles", _GET, Right.ROOT, Right.ROOT, _roles),
    Route(b"/v2/auth/roles/", _GET, Right.ROOT, Right.ROOT, _roles),
    Route(b"/v2/auth/roles", (), Right.NONE, Right.NONE, _too_deep, far_below=True),
    Route(b"/v2/auth/roles", _ONE, Right.ROOT, Right.ROOT, _role, below=True),
    Route(b"/v2/auth/users", _GET, Right.ROOT, Right.ROOT, _users),
    Route(b"/v2/auth/users/", _GET, Right.ROOT, Right.ROOT, _users),
    Route(b"/v2/auth/users", (), Right.NONE, Right.NONE, _too_deep, far_below=True),
    Route(b"/v2/auth/users", _ONE, Right.ROOT, Right.ROOT, _user, below=True),
    Route(b"/v2/kvraft/status", _GET, Right.ROOT, Right.ROOT, _status),
    Route(b"/v2/kvraft/backup", _GET, Right.ROOT, Right.ROOT, _backup),
    Route(b"/version", _GET, Right.NONE, Right.NONE, _version),
    _HEALTH,
    _METRICS,
    Route(b"/debug/vars", _GET, Right.NONE, Right.NONE, _debug_vars),
    Route(b"/config/local/log", (b"PUT",), Right.NONE, Right.NONE, _log_level),
)
"""What every member serves to clients."""
PROFILES: Final = Route(b"/debug/pprof", (), Right.ROOT, Right.ROOT, _profiles, below=True)
"""With `--enable-pprof` only. A profile costs the member something, so it is root's, unlike in etcd."""
METRICS_ROUTES: Final = (_HEALTH, _METRICS)
"""What `--listen-metrics-urls` serve."""


def find(path: bytes, routes: Sequence[Route] = ROUTES) -> Route | None:
    """The route of a clean path; None: 404."""
    return next((route for route in routes if route.fits(path)), None)
