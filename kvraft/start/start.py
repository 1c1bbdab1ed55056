"""The steps of a start, in their order."""

import sys
from dataclasses import replace
from typing import Final

from kvraft import logs
from kvraft.discovery.interfaces import FullClusterError
from kvraft.founding import Identity
from kvraft.settings import proxy_flags, settings
from kvraft.settings.flags import Given, SettingsError, one_line
from kvraft.settings.settings import Settings
from kvraft.start import data_directory, file_limit
from kvraft.start.log_files import begin_audit, begin_log
from kvraft.storage import environment
from kvraft.storage.codec import REMEDY
from kvraft.storage.errors import CorruptStorageError, StorageError

log = logs.get(__name__)

GIL_SWITCH_INTERVAL_S: Final = 0.0005
"""Storage threads give the GIL up and want it back around each call into LMDB. With Python's default of 5 ms a commit
of 100 entries beside a busy loop took 11 ms instead of 2 (design decision 11)."""


def start(given: Given) -> int:
    """Run the member, or the proxy, that these flags mean until SIGTERM or SIGINT; the exit code.

    Raises:
        SettingsError: a setting is wrong, or a port or directory cannot be used.
        StorageError: the data is not what a member can run with.
        SecurityError: a file of TLS cannot be used.
        ListenError: a peer port cannot be had after all.
    """
    is_proxy, notice = _is_proxy(given)
    if notice:
        given = replace(given, notices=(*given.notices, notice))
    if is_proxy:
        from kvraft.start import proxying  # noqa: PLC0415 -- neither a member nor a proxy loads what the other needs

        return proxying.run(given)
    rebuild, stored = "", None
    try:
        stored = data_directory.stored_identity(settings.data_dir(given))
    except CorruptStorageError as error:
        if not given.is_on("rebuild"):
            raise
        # The flags say again whose data it is, as on the first start.
        rebuild = str(error).removesuffix(f"; {REMEDY}")
    wanted = settings.from_flags(given, stored)
    _refuse_empty(wanted, stored, rebuild)
    begin_log(given, wanted.log)
    begin_audit(given, wanted.access.audit_log)
    for detail in (*given.notices, *wanted.warnings):
        log.warning("settings", detail=detail)
    for directory in filter(None, (wanted.data_dir, wanted.wal_dir)):
        data_directory.check_mode(directory, is_strict=wanted.access.is_strict)
    sys.setswitchinterval(GIL_SWITCH_INTERVAL_S)
    wanted = within_open_files(wanted)
    if wanted.advertised:
        from kvraft.start.same_places import refuse_other_places  # noqa: PLC0415 -- hardly any start has to look it up

        refuse_other_places(given, wanted)
    from kvraft.start.running import run_once_or_twice  # noqa: PLC0415 -- as above

    try:
        return run_once_or_twice(wanted, rebuild)
    except FullClusterError as error:
        return _fall_back(given, wanted, error)


def _fall_back(given: Given, wanted: Settings, full: FullClusterError) -> int:
    """A member for which there is no place in the cluster serves as a proxy of those that have one, as in etcd."""
    from kvraft.start import proxying  # noqa: PLC0415 -- as above

    urls = ",".join(full.peer_urls)
    log.warning("no place in the cluster: falling back to proxy", discovery=wanted.discovery.source, members=urls)
    return proxying.run(given, full.peer_urls)


def _is_proxy(given: Given) -> tuple[bool, str]:
    """Whether a start is that of a proxy: its directory decides; an empty one leaves that to `--proxy`.

    And what is to be said of it, once there is a log.

    As in etcd (v3.4.23 etcdmain/etcd.go, `identifyDataDirOrDie`): what was begun as the one does not become the other.
    What etcd's member has begun becomes neither, and etcd would not go back to a directory that has both.

    Raises:
        SettingsError: `--proxy` has no value of its kind, or the directory has both.
        StorageError: a member's data is damaged, a newer kvraft's, or etcd's.
    """
    mode, directory = proxy_flags.mode(given), settings.data_dir(given)
    holds_proxy = data_directory.holds_proxy(directory)
    if not holds_proxy and mode == "off":
        return False, ""
    try:
        holds_member = data_directory.stored_identity(directory) is not None
    except StorageError:
        if not holds_proxy and (directory / "identity").exists():
            return False, ""  # a member's, whose start says what to do about it
        raise
    holds_etcd = data_directory.holds_etcd(directory)
    if holds_proxy and (holds_member or holds_etcd):
        raise SettingsError(
            f"--data-dir={one_line(str(directory))}: invalid datadir: both a member's data and a proxy's are in it: "
            f"give each its own, or remove {one_line(str(directory / 'proxy'))}"
        )
    if holds_etcd:
        environment.refuse_etcd(directory)
    notice = ""
    if holds_member:
        notice = "the directory holds a member's data: started as a member, whatever --proxy says"
    elif mode == "off":
        notice = "the directory is a proxy's: started as a proxy, although --proxy is off"
    return holds_proxy or not holds_member, notice


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


def _refuse_empty(wanted: Settings, stored: Identity | None, rebuild: str) -> None:
    """What makes sense only where a member's data is; before any file is made, the log's too."""
    is_told = bool(wanted.joining.urls) or wanted.discovery.is_wanted
    if wanted.rebuild and stored is None and not rebuild and not is_told:
        _check_named_others(wanted)
    if wanted.force_new_cluster and stored is None:
        raise SettingsError(
            f"--force-new-cluster: {wanted.data_dir} holds no member's data: give the directory of the member that is "
            "to go on, or leave it out to begin a new cluster"
        )


def _check_named_others(wanted: Settings) -> None:
    """An empty member that may rebuild must know from whom: alone it would found a cluster of one, and serve that."""
    if len(wanted.members) == 1:
        raise SettingsError(
            f"--rebuild: {wanted.data_dir} holds no member's data, and --initial-cluster names no other member to get "
            "it from: name all of them, or leave --rebuild out to begin a new cluster of one"
        )
