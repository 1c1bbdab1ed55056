"""The ports of a member, looked at before anything else is."""

import contextlib
import errno
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import final

from kvraft import sockets
from kvraft.api_v2.listening import Listener, bind
from kvraft.settings.flags import SettingsError
from kvraft.settings.settings import Settings
from kvraft.settings.urls import Url
from kvraft.start import port_holders


@final
@dataclass(slots=True, frozen=True)
class Listeners:
    """The ports of a member that serve HTTP."""

    clients: list[Listener] = field(default_factory=list)
    metrics: list[Listener] = field(default_factory=list)
    """Where /metrics and /health are served, and nothing else."""

    @property
    def all(self) -> list[Listener]:
        """Both."""
        return [*self.clients, *self.metrics]


def bound_listeners(wanted: Settings) -> AbstractContextManager[Listeners]:
    """The ports of a member."""
    return bound(wanted.listen_client_urls, wanted.listen_metrics_urls, wanted.listen_peer_urls)


@contextlib.contextmanager
def bound(clients: Iterable[Url], metrics: Iterable[Url] = (), peers: Iterable[Url] = ()) -> Iterator[Listeners]:
    """The ports, bound before any file is touched: a taken port must not leave a directory behind.

    Whoever connects is turned away until they are served, however long a start waits for others (`--discovery`).
    """
    there = Listeners()
    try:
        for flag, listen, listeners in (
            ("--listen-client-urls", clients, there.clients),
            ("--listen-metrics-urls", metrics, there.metrics),
        ):
            for url in listen:
                try:
                    listeners.append(bind(url.bind_host, url.port))
                except OSError as error:
                    raise _cannot_listen(flag, url, error) from error
        for url in peers:
            # The transport binds these for itself, later: here it is only seen whether it will be able to.
            try:
                sockets.listen(url.bind_host, url.port).close()
            except OSError as error:
                raise _cannot_listen("--listen-peer-urls", url, error) from error
        for listener in there.all:
            listener.turn_away()
        yield there
    finally:
        for listener in there.all:
            listener.close()


def _cannot_listen(flag: str, url: Url, error: OSError) -> SettingsError:
    """The line that names who holds the port, if somebody does and this user may see it."""
    if error.errno == errno.EADDRNOTAVAIL:
        return SettingsError(f"{flag}={url}: cannot listen: this host does not have that address: choose one it has")
    holder = port_holders.holder_of(url.port)
    reason = f"the port is held by {holder}: stop it" if holder is not None else f"{error.strerror}: free it"
    return SettingsError(f"{flag}={url}: cannot listen: {reason}, or choose another address")
