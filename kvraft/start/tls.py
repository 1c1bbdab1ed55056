"""TLS of a member: its files read before anything is touched, its doors made for each run.

What does the work is imported when it is first needed: a member without TLS does not load it.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, final

from kvraft.metrics import Metrics
from kvraft.peer_frames import GreetingRefusalReason, GreetingRefused
from kvraft.settings.settings import Settings
from kvraft.start import composition
from kvraft.start.keepers import CLIENT_ALPN, PEER_ALPN, Keeper
from kvraft.start.listeners import Listeners
from kvraft.transport.envelope import encode_answer
from kvraft.transport.framing import MAGIC, seal

if TYPE_CHECKING:
    from kvraft.security.tls_door import TlsDoor


@final
class Security:
    """What is served and shown, to clients and to peers; also `http_door.Contexts`."""

    def __init__(self, wanted: Settings) -> None:
        """Read the files that were given, for what listens or dials with TLS.

        Raises:
            SecurityError: one of them cannot be used.
        """
        served = wanted.listen_client_urls + wanted.listen_metrics_urls
        self.clients: Final = Keeper(wanted.client_tls, served, CLIENT_ALPN)
        peer_keeper = Keeper(wanted.peer_tls, wanted.listen_peer_urls, PEER_ALPN)
        self.peers: Final = Peers(peer_keeper, composition.transport_settings(wanted).strangers_max)
        self._wanted = wanted
        for keeper in (self.clients, peer_keeper):
            if keeper.is_served and not keeper.files.is_self_signed:
                keeper.credentials()
        if wanted.peer_tls.cert_file or wanted.peer_tls.trusted_ca_file:
            peer_keeper.credentials()

    def make_missing(self) -> None:
        """Make the certificates that `--auto-tls` and its like ask for, in a data directory that is there.

        Raises:
            SecurityError: they cannot be written.
        """
        self.clients.make_missing(self._wanted.data_dir / "fixtures" / "client")
        self.peers.keeper.make_missing(self._wanted.data_dir / "fixtures" / "peer")

    def protect(self, listeners: Listeners) -> None:
        """Put a door before the listeners of https URLs, which are in the order of their URLs."""
        if not self.clients.is_served:
            return
        from kvraft.security.tls_door import TlsDoor  # noqa: PLC0415 -- see the module

        wanted = self._wanted
        for name, bound, listen in (
            ("client", listeners.clients, wanted.listen_client_urls),
            ("metrics", listeners.metrics, wanted.listen_metrics_urls),
        ):
            door = TlsDoor(self.clients.credentials(), name, unfinished_max=wanted.limits.handshakes_max)
            for listener, url in zip(bound, listen, strict=True):
                listener.tls = door if url.is_secure else None

    def client_context(self) -> ssl.SSLContext:
        """For asking members at their client URLs."""
        return self.clients.credentials().client_context()

    def peer_context(self) -> ssl.SSLContext:
        """For asking members at their peer URLs."""
        return self.peers.keeper.credentials().client_context()

    def endings(self) -> dict[str, int]:
        """When the certificates end that are served, in Unix seconds, by the kind of URL."""
        served = {
            name: keeper for name, keeper in (("client", self.clients), ("peer", self.peers.keeper)) if keeper.is_served
        }
        return {name: ends for name, keeper in served.items() if (ends := keeper.credentials().ends_s) is not None}

    def measure(self, metrics: Metrics) -> None:
        """Show when certificates end."""
        for name, keeper in (("client", self.clients), ("peer", self.peers.keeper)):
            if keeper.is_served:
                end = metrics.certificate_end.labels(name)
                credentials = keeper.credentials()
                metrics.before_scrape.append(lambda end=end, of=credentials: end.set(of.ends_s or 0))  # type: ignore[misc]  # bound at once


@final
class Peers:
    """TLS between members, as `kvraft/transport/` asks for it."""

    def __init__(self, keeper: Keeper, unfinished_max: int) -> None:
        self.keeper: Final = keeper
        self._unfinished_max: Final = unfinished_max
        self._doors: list[TlsDoor] = []

    def behind(self, new_protocol: Callable[[], asyncio.Protocol]) -> Callable[[], asyncio.Protocol]:
        """See `PeerTls.behind`."""
        from kvraft.security.origins import why_foreign  # noqa: PLC0415 -- see the module
        from kvraft.security.tls_door import TlsDoor  # noqa: PLC0415 -- see the module

        files = self.keeper.files
        check_origin = why_foreign if files.wants_certificates and not files.skips_origin else None
        door = TlsDoor(
            self.keeper.credentials(),
            "peer",
            check_origin,
            refusal=_refusal,
            preamble=MAGIC,
            unfinished_max=self._unfinished_max,
        )
        self._doors.append(door)
        return door.behind(new_protocol)

    async def dial(self, connected: socket.socket, host: str, protocol: asyncio.Protocol) -> asyncio.Transport:
        """See `PeerTls.dial`."""
        from kvraft.security.dialling import dial  # noqa: PLC0415 -- see the module

        return await dial(self.keeper.credentials(), connected, host, protocol)

    def why_another(self, transport: asyncio.BaseTransport, hosts: Sequence[str]) -> str:
        """See `PeerTls.why_another`."""
        if self.keeper.files.skips_origin or transport.get_extra_info("ssl_object") is None:
            return ""
        from kvraft.security.certificates import why_another  # noqa: PLC0415 -- see the module
        from kvraft.security.connection import CERTIFICATE  # noqa: PLC0415 -- see the module

        return why_another(transport.get_extra_info(CERTIFICATE), hosts)

    def close(self) -> None:
        """See `PeerTls.close`."""
        for door in self._doors:
            door.close()
        self._doors.clear()


def _refusal(reason: str) -> bytes:
    """What a dialler understands who cannot see this side's log."""
    return seal(encode_answer(GreetingRefused(GreetingRefusalReason.OTHER, reason)))
