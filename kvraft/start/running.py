"""A member from its ports to its end: served until it is told to stop, or fails."""

import asyncio
import signal
from collections.abc import Awaitable
from typing import final

import uvloop

from kvraft import audit_log, ids, logs
from kvraft.api_v2.server import ApiServer, serve, serve_metrics
from kvraft.keyspace.keyspace import Keyspace
from kvraft.member.member import Member
from kvraft.raft.configuration import Configuration
from kvraft.settings.settings import Settings
from kvraft.start import composition, data_directory, newcomers, service_manager, signals
from kvraft.start.exit_codes import EXIT_FAILURE, EXIT_SIGNAL
from kvraft.start.giving_up import may_set_aside
from kvraft.start.listeners import Listeners, bound_listeners
from kvraft.start.members_of_the_day import learn_members
from kvraft.start.thread_limit import start_threads
from kvraft.start.tls import Security
from kvraft.start.unhandled import stop_for_defects
from kvraft.storage.codec import REMEDY
from kvraft.storage.errors import CorruptStorageError, StorageError
from kvraft.storage.opening import Storage, open_storage

log = logs.get(__name__)


@final
class _RebuildNeededError(Exception):
    """The member found out while it ran that its data is not what it should be, and may begin anew."""

    def __init__(self, reason: str, *, holds_nothing: bool) -> None:
        super().__init__(reason)
        self.holds_nothing = holds_nothing
        """Whether its log is empty, so that there is nothing to give up."""


def run_once_or_twice(wanted: Settings, rebuild: str) -> int:
    """Run the member; if its data turns out to be lost or damaged and `--rebuild` is given, once more without it.

    Not a third time: what is wrong then is not the data.
    """
    holds_nothing = False
    security = Security(wanted)
    while True:
        try:
            with bound_listeners(wanted) as listeners:
                wanted, rebuild = newcomers.settle(wanted, rebuild, security)
                if rebuild and len(wanted.members) == 1 and not wanted.joining.urls:
                    raise StorageError(
                        f"{rebuild}: --rebuild cannot help, as no other member has this data: restore a copy"
                    )
                return uvloop.run(_run(wanted, security, listeners, rebuild, holds_nothing=holds_nothing))
        except KeyboardInterrupt:
            # Once more, while what was left was closed: nobody is to read a traceback for his impatience.
            return EXIT_SIGNAL + signal.SIGINT
        except (CorruptStorageError, _RebuildNeededError) as error:
            if not wanted.rebuild or rebuild:
                raise StorageError(str(error)) from error
            rebuild = str(error).removesuffix(f"; {REMEDY}")
            holds_nothing = isinstance(error, _RebuildNeededError) and error.holds_nothing
        finally:
            signals.release()


async def _run(wanted: Settings, security: Security, listeners: Listeners, rebuild: str, *, holds_nothing: bool) -> int:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    signals.take(loop, stop.set, _hang_up)
    start_threads(loop)
    if rebuild:
        told = await learn_members(wanted, stop, security)
        if told is None:
            return 0
        wanted = told
        timing = composition.transport_settings(wanted)
        if not holds_nothing and not await may_set_aside(wanted, timing, stop, security):
            return 0
    try:
        storage = open_storage(
            wanted.data_dir,
            wanted.identity,
            _first_configuration(wanted, rebuild),
            rebuild=rebuild,
            survivor=composition.survivor(wanted),
            wal_dir=wanted.wal_dir,
        )
    except OSError as error:
        raise data_directory.unusable(wanted.data_dir, error) from error
    _tell_of_parting(wanted, storage)
    try:
        security.make_missing()
        security.protect(listeners)
        member = await composition.make_member(wanted, storage, security.peers)
        composition.measure_disk(storage, member.metrics)
        security.measure(member.metrics)
        composition.show_status(storage, security.endings, member.clients.status)
        storage.start(loop, member.loop.on_persisted, lambda error: member.failure.tell(str(error), error))
        stop_for_defects(loop, member.failure.tell_of)
        return await _serve(wanted, member, listeners, stop)
    finally:
        storage.close()


def _hang_up() -> None:
    """SIGHUP: from logrotate, or from a terminal that is closed."""
    log.debug("SIGHUP: log files are opened anew")
    logs.reopen()
    audit_log.reopen()


def _first_configuration(wanted: Settings, rebuild: str) -> Configuration:
    """What an empty log begins with: the founders, whom to ask for what was lost, or nobody until a leader tells."""
    first = wanted.members if rebuild else wanted.initial_cluster
    return Configuration.of(member.member_id for member in first)


def _tell_of_parting(wanted: Settings, storage: Storage) -> None:
    parted = storage.went_alone
    if parted is not None:
        log.warning(
            "this member goes on as a cluster of one: what the others had written behind its last entry is lost, what "
            "it did not know to be committed is kept, and the others are removed for good",
            member=wanted.name,
            last_index=parted.held.index,
            last_term=parted.held.term,
            unconfirmed=parted.unconfirmed,
            removed=",".join(map(ids.text, parted.removed)),
        )


async def _serve(wanted: Settings, member: Member, listeners: Listeners, stop: asyncio.Event) -> int:
    """Serve until told to stop or the member fails; then leave in the order in which clients notice least."""
    log.info(
        "starting",
        member=wanted.name,
        id=ids.text(wanted.member_id),
        cluster=ids.text(wanted.cluster_id),
        directory=wanted.data_dir,
    )
    servers: list[ApiServer] = []
    try:
        if await _first(member.start(), stop, member.failure.reason):
            settings = composition.api_settings(wanted)
            servers.append(await serve(member.clients, listeners.clients, settings, member.metrics))
            if listeners.metrics:
                servers.append(await serve_metrics(member.clients, listeners.metrics, settings, member.metrics))
            log.info("serving clients", member=wanted.name, url=",".join(map(str, wanted.listen_client_urls)))
            if wanted.open_urls:
                urls = ",".join(wanted.open_urls)
                log.warning("served beyond this host without TLS: --insecure=false would refuse that", url=urls)
            _mention_history_size(wanted, member.clients.keyspace)
            service_manager.tell("READY=1")
            await _first(asyncio.get_running_loop().create_future(), stop, member.failure.reason)
        if not member.failure.reason.done():
            log.info("stopping", member=wanted.name)
            service_manager.tell("STOPPING=1")
            await member.transfer_leadership()
            # Whoever still waits then is told that this member has stopped, and asks another.
            asyncio.get_running_loop().call_later(member.last_requests_s(), member.clients.stop)
        elif member.failure.is_removal:
            member.clients.stop()
        if member.failure.is_removal or not member.failure.reason.done():
            await asyncio.gather(*(server.stop() for server in servers))
    finally:
        await member.stop()
        for server in servers:
            server.give_up()
    if member.failure.reason.done() and not member.failure.is_removal:
        if wanted.rebuild and member.failure.rebuild_helps:
            holds_nothing = member.memory.local_hello().last_log_index == 0
            raise _RebuildNeededError(member.failure.reason.result(), holds_nothing=holds_nothing)
        logs.last_words(member.failure.reason.result())
        return EXIT_FAILURE
    log.info("stopped", member=wanted.name)
    return 0


def _mention_history_size(wanted: Settings, keyspace: Keyspace) -> None:
    """It was settled when the cluster was founded; a later wish is ignored, but not without a word."""
    in_force = keyspace.history.events_max
    if keyspace.cluster.version and in_force != wanted.history_size:
        log.warning("--history-size has no effect any more", given=wanted.history_size, in_force=in_force)


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
