"""The `kvraft` command: settings in, one running member out. The only file that imports every package."""

import asyncio
import contextlib
import errno
import functools
import os
import pathlib
import platform
import random
import secrets
import signal
import sys
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Final, final

import uvloop

from kvraft import clock, ids, logs
from kvraft.api_v2.server import ApiServer, Listener, bind, serve
from kvraft.api_v2.settings import ApiSettings
from kvraft.founding import Identity
from kvraft.keyspace.commands import PublishMember
from kvraft.keyspace.keyspace import Keyspace
from kvraft.keyspace.records import RecordError
from kvraft.member.cluster import Cluster
from kvraft.member.garbage import postpone_full_collections
from kvraft.member.member import Member
from kvraft.member.settings import MemberSettings
from kvraft.metrics import Metrics
from kvraft.raft.configuration import Configuration
from kvraft.raft.core import Raft
from kvraft.raft.settings import RaftSettings
from kvraft.settings import flags, settings
from kvraft.settings.flags import SettingsError
from kvraft.settings.settings import Settings
from kvraft.settings.urls import Url
from kvraft.start import file_limit, path_owners, port_holders, service_manager
from kvraft.start.giving_up import may_set_aside
from kvraft.storage.aside import put_back
from kvraft.storage.codec import REMEDY
from kvraft.storage.environment import stored_identity
from kvraft.storage.errors import CorruptStorageError, StorageError
from kvraft.storage.opening import Storage, open_storage
from kvraft.transport.listening import ListenError
from kvraft.transport.settings import TransportSettings
from kvraft.transport.transport import PeerTransport

log = logs.get(__name__)

GIL_SWITCH_INTERVAL_S: Final = 0.0005
"""Storage threads give the GIL up and want it back around each call into LMDB. With Python's default of 5 ms a commit
of 100 entries beside a busy loop took 11 ms instead of 2 (design decision 11)."""

MIN_SILENCE_MS: Final = 500
"""A peer whose process is held up for less is not dead, however short the election timeout is."""
MIN_CONNECT_MS: Final = 1000
"""A dial shorter than this would end before the kernel sends a lost first packet again."""

EXIT_SETTINGS: Final = 1
EXIT_FAILURE: Final = 1
EXIT_SIGNAL: Final = 128
"""With the number of the signal, as a shell shows it."""
_STDOUT: Final = 1


def main(arguments: Sequence[str] | None = None, environment: Mapping[str, str] | None = None) -> int:
    """Run a member until SIGTERM or SIGINT. Exit code 1 for wrong settings, an unusable directory, or a failure."""
    try:
        given = flags.read(
            sys.argv[1:] if arguments is None else arguments, os.environ if environment is None else environment
        )
        if given.is_on("help"):
            return _print(flags.help_text())
        if given.is_on("version"):
            return _print(_version_text())
        if given.is_on("put-back"):
            return _print(_put_back(settings.data_dir(given)))
        rebuild, stored = "", None
        try:
            stored = _stored_identity(settings.data_dir(given))
        except CorruptStorageError as error:
            if not given.is_on("rebuild"):
                raise
            # The flags say again whose data it is, as on the first start.
            rebuild = str(error).removesuffix(f"; {REMEDY}")
        member_settings = settings.from_flags(given, stored)
    except (SettingsError, StorageError) as error:
        logs.last_words(str(error))
        return EXIT_SETTINGS
    logs.configure(member_settings.log_level)
    for notice in given.notices:
        log.warning("setting without effect", detail=notice)
    for warning in member_settings.warnings:
        log.warning("settings", detail=warning)
    sys.setswitchinterval(GIL_SWITCH_INTERVAL_S)
    member_settings = _within_open_files(member_settings)
    try:
        if member_settings.rebuild and stored is None and not rebuild:
            _check_named_others(member_settings)
        if member_settings.initial_cluster_state == "existing" and stored is None:
            rebuild = rebuild or _without_data(member_settings)
        return _run_once_or_twice(member_settings, rebuild)
    except (SettingsError, StorageError, ListenError) as error:
        logs.last_words(str(error))
        return EXIT_FAILURE


def _print(text: str) -> int:
    """Write to stdout; the exit code. Whoever reads no further, as `head` does, is no error to talk about."""
    data = text.encode("utf-8", "backslashreplace")
    try:
        while data:
            data = data[os.write(_STDOUT, data) :]
    except BrokenPipeError:
        return EXIT_SIGNAL + signal.SIGPIPE
    except OSError as error:
        logs.last_words(f"cannot write to stdout: {error.strerror}")
        return EXIT_FAILURE
    return 0


def _within_open_files(wanted: Settings) -> Settings:
    """The settings with no more connections than files may be open."""
    files_max = file_limit.raise_soft_limit()
    connections = file_limit.connections_within(files_max, wanted.limits.connections_max)
    if connections == wanted.limits.connections_max:
        return wanted
    log.warning("few files may be open: raise LimitNOFILE", files=files_max, connections=connections)
    return replace(wanted, limits=replace(wanted.limits, connections_max=connections))


def _version_text() -> str:
    """Etcd's line first, because scripts read it: `etcd --version | head -1`. Then who really answers."""
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return (
        f"etcd Version: {settings.ETCD_VERSION}\n"
        f"kvraft Version: {_kvraft_version()}\n"
        f"Python Version: {python}\n"
        f"OS/Arch: {platform.system().lower()}/{platform.machine()}\n"
    )


def _kvraft_version() -> str:
    from importlib import metadata  # noqa: PLC0415 -- a start does not need it

    return metadata.version("kvraft")


def _stored_identity(data_dir: pathlib.Path) -> Identity | None:
    try:
        return stored_identity(data_dir)
    except OSError as error:
        raise _unusable(data_dir, error) from error


def _put_back(data_dir: pathlib.Path) -> str:
    try:
        back, replaced = put_back(data_dir)
    except OSError as error:
        raise _unusable(data_dir, error) from error
    aside = f"what stood in its place is in {replaced}" if replaced is not None else "nothing stood in its place"
    return f"kvraft: {data_dir} holds again what was in {back.name}; {aside}; start the member without --rebuild\n"


def _unusable(data_dir: pathlib.Path, error: OSError) -> SettingsError:
    reason = error.strerror or str(error)
    if why := path_owners.why_unusable(data_dir):
        reason = f"{reason}: {why}"
    return SettingsError(
        f"--data-dir={flags.one_line(str(data_dir))}: {flags.one_line(reason)}: "
        "give a directory that this user can write, on a disk with room"
    )


def _check_named_others(wanted: Settings) -> None:
    """An empty member that may rebuild must know from whom: alone it would found a cluster of one, and serve that."""
    if len(wanted.initial_cluster) == 1:
        raise SettingsError(
            f"--rebuild: {wanted.data_dir} holds no member's data, and --initial-cluster names no other member to get "
            "it from: name all of them, or leave --rebuild out to begin a new cluster of one"
        )


def _without_data(wanted: Settings) -> str:
    """Why an empty member of a running cluster rebuilds, if it may: it must not found another cluster instead."""
    if wanted.rebuild and len(wanted.initial_cluster) > 1:
        return "it holds no member's data"
    raise SettingsError(
        f"--initial-cluster-state=existing: {wanted.data_dir} holds no member's data, and joining a cluster "
        "that runs is not possible yet: restore the member's directory, or start with --rebuild a member that lost it"
    )


@final
class _RebuildNeededError(Exception):
    """The member found out while it ran that its data is not what it should be, and may begin anew."""

    def __init__(self, reason: str, *, holds_nothing: bool) -> None:
        super().__init__(reason)
        self.holds_nothing = holds_nothing
        """Whether its log is empty, so that there is nothing to give up."""


def _run_once_or_twice(wanted: Settings, rebuild: str) -> int:
    """Run the member; if its data turns out to be lost or damaged and `--rebuild` is given, once more without it.

    Not a third time: what is wrong then is not the data.
    """
    holds_nothing = False
    while True:
        if rebuild and len(wanted.initial_cluster) == 1:
            raise StorageError(f"{rebuild}: --rebuild cannot help, as no other member has this data: restore a copy")
        try:
            with _listeners(wanted) as listeners:
                return uvloop.run(_run(wanted, listeners, rebuild, holds_nothing=holds_nothing))
        except KeyboardInterrupt:
            # Once more, while what was left was closed: nobody is to read a traceback for his impatience.
            return EXIT_SIGNAL + signal.SIGINT
        except (CorruptStorageError, _RebuildNeededError) as error:
            if not wanted.rebuild or rebuild:
                raise StorageError(str(error)) from error
            rebuild = str(error).removesuffix(f"; {REMEDY}")
            holds_nothing = isinstance(error, _RebuildNeededError) and error.holds_nothing
        finally:
            signal.signal(signal.SIGINT, signal.SIG_DFL)  # the loop has put Python's own back, which raises


@contextlib.contextmanager
def _listeners(wanted: Settings) -> Iterator[list[Listener]]:
    """The client ports, bound before any file is touched: a taken port must not leave a directory behind."""
    bound: list[Listener] = []
    try:
        for url in wanted.listen_client_urls:
            try:
                bound.append(bind(url.bind_host, url.port))
            except OSError as error:
                raise _cannot_listen("--listen-client-urls", url, error) from error
        for url in wanted.listen_peer_urls:
            # The transport binds these for itself, later: here it is only seen whether it will be able to.
            try:
                bind(url.bind_host, url.port).socket.close()
            except OSError as error:
                raise _cannot_listen("--listen-peer-urls", url, error) from error
        yield bound
    finally:
        for listener in bound:
            listener.socket.close()


def _cannot_listen(flag: str, url: Url, error: OSError) -> SettingsError:
    """The line that names who holds the port, if somebody does and this user may see it."""
    if error.errno == errno.EADDRNOTAVAIL:
        return SettingsError(f"{flag}={url}: cannot listen: this host does not have that address: choose one it has")
    holder = port_holders.holder_of(url.port)
    reason = f"the port is held by {holder}: stop it" if holder is not None else f"{error.strerror}: free it"
    return SettingsError(f"{flag}={url}: cannot listen: {reason}, or choose another address")


async def _run(wanted: Settings, listeners: Sequence[Listener], rebuild: str, *, holds_nothing: bool) -> int:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    for listener in listeners:
        listener.turn_away()
    if rebuild and not holds_nothing and not await may_set_aside(wanted, _transport_settings(wanted), stop):
        return 0
    configuration = Configuration.of(member.member_id for member in wanted.initial_cluster)
    try:
        storage = open_storage(wanted.data_dir, wanted.identity, configuration, rebuild=rebuild)
    except OSError as error:
        raise _unusable(wanted.data_dir, error) from error
    try:
        member = await _make_member(wanted, storage)
        _measure_disk(storage, member.metrics)
        storage.start(loop, member.on_persisted, lambda error: member.fail(str(error), error))
        loop.set_exception_handler(functools.partial(_on_unhandled, member))
        return await _serve(wanted, member, listeners, stop)
    finally:
        storage.close()


def _measure_disk(storage: Storage, metrics: Metrics) -> None:
    """Storage tells the member's page how long its commits take, a batch at a time."""
    measures = storage.log.measures
    measures.log_commit = metrics.log_sync_seconds.observe
    measures.state_commit = metrics.state_flush_seconds.observe
    measures.spool = metrics.snapshot_spool_seconds.observe
    metrics.before_scrape.append(lambda: metrics.log_written_bytes.set(measures.log_bytes))
    metrics.before_scrape.append(lambda: metrics.log_lines_lost.set(logs.lost_lines()))
    metrics.before_scrape.append(lambda: metrics.kvraft_version.labels(_kvraft_version()).set(1))


def _on_unhandled(member: Member, loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
    """Stop the member for a defect in a callback or task of its own, which would otherwise be dead and unnoticed.

    What goes wrong on one connection, a client's or a peer's, ends that connection alone.
    """
    loop.default_exception_handler(context)
    error = context.get("exception")
    on_one_connection = (
        "transport" in context
        or "protocol" in context
        or isinstance(error, OSError)
        or type(error).__module__.startswith("grpc")
    )
    if isinstance(error, Exception) and not on_one_connection:
        member.fail(f"internal error: {error!r}", error)


async def _make_member(wanted: Settings, storage: Storage) -> Member:
    """Everything of a member, nothing of it running yet."""

    async def load_keyspace() -> Keyspace:
        keyspace = Keyspace(history_reader=storage.state)
        try:
            loading = keyspace.begin_load(storage.state.load())
            while True:
                if not loading.load_some():
                    return keyspace
                await asyncio.sleep(0)  # during a snapshot install the loop has its turn between two slices
        except RecordError as error:
            # Intact, and still no state: another program wrote it, or a bug.
            raise CorruptStorageError(f"{wanted.data_dir}: {error}; {REMEDY}") from error

    keyspace = await load_keyspace()
    postpone_full_collections()
    restored = storage.log.restored()
    applied = storage.state.position.index
    in_force = [config for index, config in restored.configurations if index <= applied]
    raft = Raft(
        wanted.member_id,
        restored,
        RaftSettings(
            heartbeat_interval_ms=wanted.heartbeat_interval_ms,
            election_timeout_ms=wanted.election_timeout_ms,
            uncommitted_bytes_max=wanted.limits.uncommitted_bytes_max,
        ),
        random.Random(secrets.randbits(64)),  # noqa: S311 -- spreads election timeouts; nobody gains by guessing them
        storage.log,
        clock.monotonic_ms(),
    )

    def make_transport(member: Member) -> PeerTransport:
        transport = PeerTransport(
            member_id=wanted.member_id,
            listen_addresses=[url.bind_address for url in wanted.listen_peer_urls],
            peers={
                peer.member_id: peer.peer_urls for peer in wanted.initial_cluster if peer.member_id != wanted.member_id
            },
            local=member,
            pages=member,
            snapshot_sink=storage.state.spool,
            settings=_transport_settings(wanted),
            peer_names={peer.member_id: peer.name for peer in wanted.initial_cluster},
        )
        member.metrics.before_scrape.append(lambda: transport.measure(member.metrics))
        return transport

    return Member(
        raft=raft,
        keyspace=keyspace,
        cluster=_cluster(wanted),
        log_store=storage.log,
        state_store=storage.state,
        make_transport=make_transport,
        settings=MemberSettings(
            heartbeat_interval_ms=wanted.heartbeat_interval_ms,
            election_timeout_ms=wanted.election_timeout_ms,
            snapshot_count=wanted.snapshot_count,
            history_events_max=wanted.history_size,
            waiting_requests_max=wanted.limits.waiting_requests_max,
            uncommitted_bytes_max=wanted.limits.uncommitted_bytes_max,
        ),
        configuration=in_force[-1],
        load_keyspace=load_keyspace,
        free_bytes=storage.directory.free_bytes,
        created_now=storage.fresh,
        boot_nonce=secrets.randbits(64),
    )


def _mention_history_size(wanted: Settings, keyspace: Keyspace) -> None:
    """It was settled when the cluster was founded; a later wish is ignored, but not without a word."""
    in_force = keyspace.history.events_max
    if keyspace.cluster_version and in_force != wanted.history_size:
        log.warning("--history-size has no effect any more", given=wanted.history_size, in_force=in_force)


def _cluster(wanted: Settings) -> Cluster:
    own = PublishMember(wanted.member_id, wanted.name, wanted.advertise_client_urls)
    return Cluster(wanted.cluster_id, own, wanted.initial_cluster, wanted.history_size)


async def _serve(wanted: Settings, member: Member, listeners: Sequence[Listener], stop: asyncio.Event) -> int:
    """Serve until told to stop or the member fails; then leave in the order in which clients notice least."""
    log.info(
        "starting",
        member=wanted.name,
        id=ids.text(wanted.member_id),
        cluster=ids.text(wanted.cluster_id),
        directory=wanted.data_dir,
    )
    server: ApiServer | None = None
    try:
        if await _first(member.start(), stop, member.failure):
            server = await serve(member, listeners, _api_settings(wanted), member.metrics)
            log.info("serving clients", member=wanted.name, url=",".join(map(str, wanted.listen_client_urls)))
            _mention_history_size(wanted, member.keyspace)
            service_manager.tell("READY=1")
            await _first(asyncio.get_running_loop().create_future(), stop, member.failure)
        if not member.failure.done():
            log.info("stopping", member=wanted.name)
            service_manager.tell("STOPPING=1")
            await member.transfer_leadership()
            if server is not None:
                await server.stop()
    finally:
        await member.stop()
    if member.failure.done():
        if wanted.rebuild and member.rebuild_helps:
            holds_nothing = member.local_hello().last_log_index == 0
            raise _RebuildNeededError(member.failure.result(), holds_nothing=holds_nothing)
        logs.last_words(member.failure.result())
        return EXIT_FAILURE
    log.info("stopped", member=wanted.name)
    return 0


async def _first(work: Awaitable[None], stop: asyncio.Event, failure: asyncio.Future[str]) -> bool:
    """Wait for whichever comes first; whether it was the work, which is otherwise given up."""
    working = asyncio.ensure_future(work)
    stopping = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait((working, stopping, failure), return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            return False
        working.result()
        return not (stopping.done() or failure.done())
    finally:
        working.cancel()
        stopping.cancel()


def _transport_settings(wanted: Settings) -> TransportSettings:
    """What follows from the election timeout: when a peer is gone, and how long a dial may take."""
    return TransportSettings(
        silence_ms=max(wanted.election_timeout_ms, MIN_SILENCE_MS),
        connect_timeout_ms=max(wanted.election_timeout_ms, MIN_CONNECT_MS),
    )


def _api_settings(wanted: Settings) -> ApiSettings:
    limits = wanted.limits
    return ApiSettings(
        cors_origins=frozenset(origin.encode() for origin in wanted.cors),
        request_line_bytes_max=limits.request_line_bytes_max,
        header_bytes_max=limits.header_bytes_max,
        headers_max=limits.headers_max,
        connections_max=limits.connections_max,
        unread_bytes_max=limits.unread_bytes_max,
        server_version=settings.ETCD_VERSION,
    )
