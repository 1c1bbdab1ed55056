"""What is logged, where to, and in which form: `--logger`, `--log-outputs`, `--log-level` and what came before them."""

import logging
from typing import Final

from kvraft import logs
from kvraft.logs import LogSettings
from kvraft.settings.flags import Given, one_line

_LEVELS: Final = {**logs.LEVELS, "panic": logging.ERROR, "fatal": logging.ERROR}
_ROOMS: Final = ("*", "api_v2", "keyspace", "member", "proxy", "raft", "settings", "start", "storage", "transport")
_ROOM_OF_PACKAGE: Final = {
    "embed": "start",
    "etcdhttp": "api_v2",
    "etcdmain": "start",
    "etcdserver": "member",
    "httpproxy": "proxy",
    "raft": "member",
    "rafthttp": "transport",
    "snap": "storage",
    "store": "keyspace",
    "v2http": "api_v2",
    "wal": "storage",
}
"""Which room does here what a package of etcd does there; the core, etcd's `raft`, does not log: its driver does."""


def from_flags(given: Given) -> LogSettings:
    """The settings of the log.

    Raises:
        SettingsError: a flag has no value of its kind.
    """
    level = _level(given)
    levels, unread = _package_levels(given)
    return LogSettings(levels.pop("*", level), tuple(levels.items()), unread, _is_json(given), _outputs(given))


def _level(given: Given) -> logs.Level:
    value = given.values.get("log-level")
    if given.is_on("debug"):
        return logging.DEBUG
    if value is None:
        return logging.INFO
    if value.text not in _LEVELS:
        raise value.error("use debug, info, warn or error")
    return _LEVELS[value.text]


def _is_json(given: Given) -> bool:
    value = given.values.get("logger")
    if value is None or value.text == "capnslog":
        return False
    if value.text != "zap":
        raise value.error("use capnslog for lines of text, or zap for JSON")
    return True


def _outputs(given: Given) -> tuple[str, ...]:
    value = given.values.get("log-outputs")
    if value is None:
        return LogSettings().outputs
    outputs = tuple(part.strip() for part in value.text.split(",") if part.strip())
    if not outputs or any("\0" in output for output in outputs):
        raise value.error("use default, stderr, stdout, or paths of files, by commas")
    return outputs


def _package_levels(given: Given) -> tuple[dict[str, logs.Level], tuple[str, ...]]:
    """The levels by room, `*` for all; and the parts that are nobody's or have no level, which etcd 2 passes over."""
    value = given.values.get("log-package-levels")
    levels: dict[str, logs.Level] = {}
    unread = []
    for part in filter(None, map(str.strip, value.text.split(",") if value is not None else ())):
        package, _, level = part.partition("=")
        # Of `etcdserver/api/v2http` the last word tells.
        word = package.strip().rpartition("/")[2]
        room = _ROOM_OF_PACKAGE.get(word, word)
        wanted = logs.CAPNSLOG_LEVELS.get(level.strip().upper())
        if wanted is None or room not in _ROOMS:
            unread.append(one_line(part))
        else:
            levels[room] = wanted
    return levels, tuple(unread)
