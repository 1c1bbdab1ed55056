"""A proxy from its flags to its end. The door is `run`: one call, for a start that is a proxy or falls back to one."""

import asyncio
import functools
import signal
import socket
import ssl
from collections.abc import Sequence
from typing import final

import uvloop

from kvraft import logs
from kvraft.proxy.cluster_file import ClusterFile, ClusterFileError
from kvraft.proxy.refresh import Told, UntoldError
from kvraft.proxy.server import serve
from kvraft.proxy.settings import ProxySettings
from kvraft.settings import proxy_flags
from kvraft.settings.flags import Given, SettingsError, one_line
from kvraft.settings.proxy_flags import ProxyFlags
from kvraft.start import data_directory, file_limit, service_manager, signals
from kvraft.start.exit_codes import EXIT_FAILURE, EXIT_SIGNAL
from kvraft.start.http_door import HttpDoor, NoAnswerError
from kvraft.start.keepers import CLIENT_ALPN, PEER_ALPN, Keeper
from kvraft.start.listeners import Listeners, bound
from kvraft.start.log_files import begin_log
from kvraft.start.thread_limit import start_threads
from kvraft.start.told_members import PEER_PATH, told
from kvraft.start.unhandled import stop_for_defects

log = logs.get(__name__)


def run(given: Given, peer_urls: Sequence[str] = ()) -> int:
    """Run a proxy until SIGTERM or SIGINT; the exit code.

    Args:
        given: The flags.
        peer_urls: Of the members, from whoever has found them; without any, `--initial-cluster` names them. What the
            data directory keeps goes before both.

    Raises:
        SettingsError: a setting is wrong, or a port or directory cannot be used.
        SecurityError: a file of TLS cannot be used.
    """
    wanted = proxy_flags.from_flags(given)
    begin_log(given, wanted.log)
    for detail in (*given.notices, *wanted.warnings):
        log.warning("settings", detail=detail)
    data_directory.check_mode(wanted.data_dir, is_strict=wanted.access.is_strict)
    files_max = file_limit.raise_soft_limit()
    shares = file_limit.shares_of(files_max, wanted.limits.connections_max, 0)
    if shares is None:
        raise SettingsError(file_limit.refusal(files_max, file_limit.OWN + 2 * wanted.limits.connections_max))
    tls = _Tls(wanted)
    file = ClusterFile(wanted.data_dir)
    with bound(wanted.listen_client_urls) as listeners:
        known = _known(given, wanted, file, peer_urls)
        try:
            # Each client has one connection here, and may have another one to a member.
            return uvloop.run(_run(wanted, listeners, known, tls, file, shares.clients // 2))
        except KeyboardInterrupt:
            return EXIT_SIGNAL + signal.SIGINT
        finally:
            signals.release()


def _known(given: Given, wanted: ProxyFlags, file: ClusterFile, peer_urls: Sequence[str]) -> tuple[str, ...]:
    """Whom to ask who the members are.

    What a discovery service or a cluster has told is kept at once: neither may tell it again. What a flag says is not,
    as in etcd, until a member has told who they are: a slip in it would be kept for ever.

    Raises:
        SettingsError: nobody can be found out, or kept.
    """
    data_directory.refuse_closed(wanted.data_dir, "data-dir")
    try:
        stored = file.read()
    except ClusterFileError as error:
        raise SettingsError(one_line(str(error))) from error
    if stored is not None:
        log.info("peer URLs come from the cluster file, not from flags", path=file.path, urls=",".join(stored))
        if wanted.discovery.is_wanted:
            log.warning("discovery changes nothing: this proxy knows its members", discovery=wanted.discovery.source)
        return stored
    known = tuple(peer_urls)
    if not known and wanted.discovery.is_wanted:
        # A room that only those need who ask there, and only once.
        from kvraft.start.discovering import members_urls  # noqa: PLC0415 -- see above

        known = members_urls(wanted.discovery)
    if not known:
        given.refuse_empty("initial-cluster")
    log.info("peer URLs that are asked", urls=",".join(known or wanted.peer_urls))
    try:
        if known:
            file.write(known)
        else:
            file.make_directory()
    except OSError as error:
        raise data_directory.unusable(wanted.data_dir, error) from error
    return known or wanted.peer_urls


async def _run(
    wanted: ProxyFlags, listeners: Listeners, peer_urls: Sequence[str], tls: "_Tls", file: ClusterFile, clients_max: int
) -> int:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    defects: list[Exception] = []

    def on_defect(error: Exception) -> None:
        defects.append(error)
        stop.set()

    signals.take(loop, stop.set, logs.reopen)
    start_threads(loop)
    stop_for_defects(loop, on_defect)
    tls.protect(listeners)
    ask = functools.partial(_ask, HttpDoor(security=tls))
    serving = loop.create_task(serve(listeners.clients, _settings(wanted, clients_max), peer_urls, ask, tls, file))
    stopping = loop.create_task(stop.wait())
    await asyncio.wait((serving, stopping), return_when=asyncio.FIRST_COMPLETED)
    if not serving.done():
        serving.cancel()
        return _exit_code(defects)
    server = serving.result()
    log.info("proxy for the v2 API", url=",".join(map(str, wanted.listen_client_urls)), readonly=wanted.is_readonly)
    service_manager.tell("READY=1")
    await stopping
    log.info("stopping")
    service_manager.tell("STOPPING=1")
    await server.stop()
    return _exit_code(defects)


def _exit_code(defects: Sequence[Exception]) -> int:
    if defects:
        logs.last_words(f"internal error: {defects[0]!r}")
        return EXIT_FAILURE
    log.info("stopped")
    return 0


def _settings(wanted: ProxyFlags, clients_max: int) -> ProxySettings:
    limits = wanted.limits
    return ProxySettings(
        is_readonly=wanted.is_readonly,
        failure_wait_ms=wanted.failure_wait_ms,
        refresh_interval_ms=wanted.refresh_interval_ms,
        dial_timeout_ms=wanted.dial_timeout_ms,
        write_timeout_ms=wanted.write_timeout_ms,
        read_timeout_ms=wanted.read_timeout_ms,
        cors_origins=frozenset(origin.encode() for origin in wanted.cors),
        hosts=frozenset(host.encode() for host in wanted.hosts),
        line_bytes_max=limits.request_line_bytes_max,
        header_bytes_max=limits.header_bytes_max,
        headers_max=limits.headers_max,
        connections_max=min(limits.connections_max, clients_max),
        unread_bytes_max=limits.unread_bytes_max,
        unfinished_bytes_max=limits.unfinished_bytes_max,
    )


async def _ask(door: HttpDoor, peer_urls: Sequence[str]) -> Told:
    """Ask members at their peer URLs who they all are. A thread waits for them: it is not often, and no client does."""
    try:
        known = await asyncio.to_thread(door.ask_round, peer_urls, PEER_PATH, told)
    except NoAnswerError as error:
        raise UntoldError(str(error)) from error
    return Told(
        tuple(sorted(url for member in known.members for url in member.peer_urls)),
        tuple(sorted(url for member in known.members for url in member.client_urls)),
    )


@final
class _Tls:
    """What is served and shown; also `http_door.Contexts` and `dialling.UpstreamTls`."""

    def __init__(self, wanted: ProxyFlags) -> None:
        """Read the files that were given.

        Raises:
            SecurityError: one of them cannot be used.
        """
        self._wanted = wanted
        self._clients = Keeper(wanted.client_tls, wanted.listen_client_urls, CLIENT_ALPN)
        self._members = Keeper(wanted.upstream_tls, (), CLIENT_ALPN)
        self._peers = Keeper(wanted.peer_tls, (), PEER_ALPN)
        for keeper in (self._clients, self._members, self._peers):
            files = keeper.files
            if not files.is_self_signed and (keeper.is_served or files.cert_file or files.trusted_ca_file):
                keeper.credentials()

    def protect(self, listeners: Listeners) -> None:
        """Put a door before the listeners of https URLs, which are in the order of their URLs."""
        if not self._clients.is_served:
            return
        from kvraft.security.tls_door import TlsDoor  # noqa: PLC0415 -- who serves no TLS does not load it

        self._clients.make_missing(self._wanted.data_dir / "proxy" / "clientCerts")
        credentials = self._clients.credentials()
        door = TlsDoor(credentials, "client", unfinished_max=self._wanted.limits.handshakes_max)
        for listener, url in zip(listeners.clients, self._wanted.listen_client_urls, strict=True):
            listener.tls = door if url.is_secure else None

    async def dial(self, connected: socket.socket, host: str, protocol: asyncio.Protocol) -> asyncio.Transport:
        """See `UpstreamTls.dial`."""
        from kvraft.security.dialling import dial  # noqa: PLC0415 -- as above

        return await dial(self._members.credentials(), connected, host, protocol)

    def client_context(self) -> ssl.SSLContext:
        """See `Contexts`."""
        return self._members.credentials().client_context()

    def peer_context(self) -> ssl.SSLContext:
        """See `Contexts`."""
        return self._peers.credentials().client_context()
