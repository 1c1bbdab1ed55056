"""The steps of a start, in their order."""

import sys
from dataclasses import replace
from typing import Final

from kvraft import audit_log, logs
from kvraft.discovery.interfaces import FullClusterError
from kvraft.settings import settings
from kvraft.settings.flags import Given, SettingsError
from kvraft.settings.settings import Settings
from kvraft.start import data_directory, file_limit
from kvraft.start.running import run_once_or_twice
from kvraft.storage.codec import REMEDY
from kvraft.storage.errors import CorruptStorageError

log = logs.get(__name__)

GIL_SWITCH_INTERVAL_S: Final = 0.0005
"""Storage threads give the GIL up and want it back around each call into LMDB. With Python's default of 5 ms a commit
of 100 entries beside a busy loop took 11 ms instead of 2 (design decision 11)."""


def start(given: Given) -> int:
    """Run the member that these flags mean until SIGTERM or SIGINT; the exit code.

    Raises:
        SettingsError: a setting is wrong, or a port or directory cannot be used.
        StorageError: the data is not what a member can run with.
        SecurityError: a file of TLS cannot be used.
        ListenError: a peer port cannot be had after all.
    """
    rebuild, stored = "", None
    try:
        stored = data_directory.stored_identity(settings.data_dir(given))
    except CorruptStorageError as error:
        if not given.is_on("rebuild"):
            raise
        # The flags say again whose data it is, as on the first start.
        rebuild = str(error).removesuffix(f"; {REMEDY}")
    wanted = settings.from_flags(given, stored)
    _begin_log(given, wanted)
    _begin_audit(given, wanted)
    for detail in (*given.notices, *wanted.warnings):
        log.warning("settings", detail=detail)
    for directory in filter(None, (wanted.data_dir, wanted.wal_dir)):
        data_directory.check_mode(directory, is_strict=wanted.access.is_strict)
    sys.setswitchinterval(GIL_SWITCH_INTERVAL_S)
    wanted = within_open_files(wanted)
    is_told = bool(wanted.joining.urls) or wanted.discovery.is_wanted
    if wanted.rebuild and stored is None and not rebuild and not is_told:
        _check_named_others(wanted)
    if wanted.force_new_cluster and stored is None:
        raise SettingsError(
            f"--force-new-cluster: {wanted.data_dir} holds no member's data: give the directory of the member that is "
            "to go on, or leave it out to begin a new cluster"
        )
    try:
        return run_once_or_twice(wanted, rebuild)
    except FullClusterError as error:
        return _fall_back(wanted, error)


def _fall_back(wanted: Settings, full: FullClusterError) -> int:
    """A member for which there is no place in the cluster serves as a proxy of those that have one, as in etcd."""
    raise SettingsError(
        f"{wanted.discovery.source}: {full}, and there is no proxy mode: its members are at "
        f"{','.join(full.peer_urls)}: add this one with --join or `member add`"
    ) from full


def _begin_log(given: Given, wanted: Settings) -> None:
    try:
        logs.configure(wanted.log)
    except OSError as error:
        reason = f"{error.filename}: {error.strerror}: give a file that this user can write, or stderr"
        raise given.error(reason, "log-outputs") from error


def _begin_audit(given: Given, wanted: Settings) -> None:
    if not wanted.access.audit_log:
        return
    try:
        audit_log.open_at(wanted.access.audit_log)
    except OSError as error:
        reason = f"{error.filename}: {error.strerror}: give a file that this user can write, or stderr"
        raise given.error(reason, "audit-log") from error


def within_open_files(wanted: Settings) -> Settings:
    """The settings with no more connections than files may be open.

    Raises:
        SettingsError: these are too few.
    """
    limits, files_max = wanted.limits, file_limit.raise_soft_limit()
    has_tls = any(url.is_secure for url in wanted.listen_client_urls)
    clients_max = limits.connections_max + (limits.handshakes_max if has_tls else 0)
    enough = file_limit.OWN + limits.strangers_max + clients_max
    shares = file_limit.shares_of(files_max, clients_max, limits.strangers_max)
    if shares is None:
        raise SettingsError(file_limit.refusal(files_max, enough))
    if files_max < enough:
        log.warning("few files may be open: raise LimitNOFILE", files=files_max, connections=shares.clients, all=enough)
    handshakes = min(limits.handshakes_max, shares.clients // 8)
    own = replace(
        limits,
        connections_max=shares.clients - (handshakes if has_tls else 0),
        handshakes_max=handshakes,
        strangers_max=shares.strangers,
    )
    return replace(wanted, limits=own)


def _check_named_others(wanted: Settings) -> None:
    """An empty member that may rebuild must know from whom: alone it would found a cluster of one, and serve that."""
    if len(wanted.members) == 1:
        raise SettingsError(
            f"--rebuild: {wanted.data_dir} holds no member's data, and --initial-cluster names no other member to get "
            "it from: name all of them, or leave --rebuild out to begin a new cluster of one"
        )
