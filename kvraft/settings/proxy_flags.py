"""What the flags mean to a proxy, which is no member: most of them nothing."""

import pathlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, final

from kvraft.logs import LogSettings
from kvraft.security.files import TlsFiles
from kvraft.settings import (
    access_flags,
    discovery_flags,
    founding_flags,
    listening_flags,
    log_settings,
    settings,
    tls_flags,
)
from kvraft.settings.access_flags import Access, is_open
from kvraft.settings.discovery_flags import Discovery
from kvraft.settings.flags import Given, Value
from kvraft.settings.settings import Limits
from kvraft.settings.urls import Url

_MODES: Final = frozenset({"off", "on", "readonly"})
_MILLISECONDS_MAX: Final = 1 << 31
_MEMBERS_ONLY: Final = (
    "audit-log",
    "auth-failures-max",
    "auth-guest",
    "enable-pprof",
    "force-new-cluster",
    "join",
    "listen-metrics-urls",
    "rebuild",
    "replace",
    "wal-dir",
)
"""What an operator would miss who gives it to a proxy. A member's other flags may stand in a unit for both."""


@final
@dataclass(slots=True, frozen=True)
class ProxyFlags:
    """The settings of one proxy. Times are milliseconds."""

    data_dir: pathlib.Path
    is_readonly: bool
    listen_client_urls: tuple[Url, ...]
    peer_urls: tuple[str, ...]
    """That `--initial-cluster` names, sorted: whom to ask while no others are known. None if it is empty."""
    discovery: Discovery
    """How others become known, where it names none."""
    failure_wait_ms: int
    refresh_interval_ms: int
    dial_timeout_ms: int
    write_timeout_ms: int
    read_timeout_ms: int
    client_tls: TlsFiles
    """For https URLs among `listen_client_urls`."""
    peer_tls: TlsFiles
    """For asking members at their peer URLs."""
    cors: frozenset[str]
    hosts: frozenset[str]
    access: Access
    log: LogSettings
    limits: Limits
    without_effect: tuple[str, ...]
    """Flags that were given and mean something to members only."""

    @property
    def upstream_tls(self) -> TlsFiles:
        """For asking members at their client URLs: what clients are served with, else what peers are shown, as in etcd.

        etcd looks at the certificate and its key only; a CA alone is for whom to believe, and counts too.
        """
        files = self.client_tls
        return files if files.can_serve or files.trusted_ca_file else self.peer_tls

    @property
    def warnings(self) -> tuple[str, ...]:
        """What an operator should know about settings that are allowed. One line each."""
        return tuple(self._warnings())

    def _warnings(self) -> Iterator[str]:
        if self.without_effect:
            yield f"a proxy is no member, so these change nothing: {', '.join(self.without_effect)}"
        open_urls = ", ".join(sorted({str(url) for url in self.listen_client_urls if is_open(url)}))
        if open_urls:
            yield f"served beyond this host without TLS, which --insecure=false would refuse: {open_urls}"
        if self.read_timeout_ms:
            yield f"--proxy-read-timeout={self.read_timeout_ms} breaks off every watch that is silent for so long"
        yield from tls_flags.warnings(self.client_tls, self.listen_client_urls, is_self_signed_wanted=False)


def mode(given: Given) -> str:
    """`--proxy`: off, on or readonly.

    Raises:
        SettingsError: it is something else.
    """
    value = given.values.get("proxy", Value("off", ""))
    if value.text not in _MODES:
        raise value.error("invalid value: use off, on or readonly")
    return value.text


def from_flags(given: Given) -> ProxyFlags:
    """The settings of a proxy, with every default worked out.

    Raises:
        SettingsError: they contradict each other or are no values of their kind. One line with the remedy.
    """
    listen = listening_flags.proxy_urls(given)

    def milliseconds(name: str, default: int) -> int:
        return settings.number_of(given, name, default, 0, _MILLISECONDS_MAX)

    return ProxyFlags(
        data_dir=settings.data_dir(given),
        is_readonly=mode(given) == "readonly",
        listen_client_urls=listen,
        discovery=discovery_flags.discovery(given, has_data=False),
        peer_urls=()
        if "initial-cluster" in given.empty
        else founding_flags.named_peer_urls(given, settings.name_of(given)),
        failure_wait_ms=milliseconds("proxy-failure-wait", 5000),
        refresh_interval_ms=milliseconds("proxy-refresh-interval", 30_000),
        dial_timeout_ms=milliseconds("proxy-dial-timeout", 1000),
        write_timeout_ms=milliseconds("proxy-write-timeout", 5000),
        read_timeout_ms=milliseconds("proxy-read-timeout", 0),
        client_tls=tls_flags.client_files(given, listen),
        peer_tls=tls_flags.peer_files(given, ()),
        cors=settings.cors_of(given),
        hosts=settings.hosts_of(given),
        access=access_flags.access(given, 0, listen),
        log=log_settings.from_flags(given),
        limits=Limits(),
        without_effect=tuple(given.values[flag].shown for flag in _MEMBERS_ONLY if flag in given.values),
    )
