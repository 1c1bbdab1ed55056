"""The flags of TLS, for clients and for peers, as values, with etcd's refusals and warnings (embed/etcd.go)."""

from collections.abc import Iterator, Sequence
from typing import final

from kvraft.security.files import TlsFiles
from kvraft.settings.flags import Given
from kvraft.settings.urls import Url


def client_files(given: Given, listen: Sequence[Url]) -> TlsFiles:
    """What clients are served with.

    Raises:
        SettingsError: the flags contradict each other, or an https URL has no certificate.
    """
    files = _Reader(given, "").files("client-crl-file", "client-cert-allowed-hostname")
    for url in listen:
        if url.is_secure and not files.can_serve:
            _refuse_half(given, files)
            raise given.error(
                f"TLS key/cert (--cert-file, --key-file) must be provided for client url {url} with HTTPS scheme: "
                "give them, or --auto-tls",
                "listen-client-urls",
            )
    return files


def peer_files(given: Given, listen: Sequence[Url]) -> TlsFiles:
    """What peers are served with, and what this member shows when it dials one.

    Raises:
        SettingsError: as for clients.
    """
    files = _Reader(given, "peer-").files("peer-crl-file", "peer-cert-allowed-hostname")
    for url in listen:
        if url.is_secure and not files.can_serve:
            _refuse_half(given, files)
            raise given.error(
                f"TLS key/cert (--peer-cert-file, --peer-key-file) must be provided for peer url {url} with HTTPS "
                "scheme: give them, or --peer-auto-tls",
                "listen-peer-urls",
            )
    if files.allowed_cn and files.allowed_hostname:
        raise given.error(
            "--peer-cert-allowed-cn and --peer-cert-allowed-hostname are mutually exclusive: leave one out",
            "peer-cert-allowed-cn",
        )
    return files


def warnings(files: TlsFiles, listen: Sequence[Url], *, is_self_signed_wanted: bool) -> Iterator[str]:
    """What an operator should know who gave flags that one of his URLs does not use. One line each."""
    whom = "peer" if files.prefix else "client"
    for url in listen:
        if url.is_secure:
            continue
        if files.cert_file or files.key_file:
            yield (
                f"the scheme of {whom} url {url} is http while {files.flag('cert-file')} or {files.flag('key-file')} "
                "is given: it is served without TLS"
            )
        if files.client_cert_auth:
            yield (
                f"the scheme of {whom} url {url} is http while {files.flag('client-cert-auth')} is given: "
                "no certificate is asked for there"
            )
    if is_self_signed_wanted and not files.is_self_signed:
        yield f"{files.flag('auto-tls')} changes nothing, as a certificate is given"
    if files.is_self_signed and any(url.is_secure for url in listen):
        yield f"{files.flag('auto-tls')} encrypts, and nobody knows with whom: give certificates of a CA on a network"


def _refuse_half(given: Given, files: TlsFiles) -> None:
    """A certificate without a key, or the other way round: etcd's words."""
    if files.cert_file or files.key_file:
        raise given.error(
            f"KeyFile and CertFile must both be present[key: {files.key_file}, cert: {files.cert_file}]: "
            f"give {files.flag('cert-file')} and {files.flag('key-file')}",
            files.flag("cert-file").removeprefix("--"),
            files.flag("key-file").removeprefix("--"),
        )


@final
class _Reader:
    """The flags with one prefix."""

    def __init__(self, given: Given, prefix: str) -> None:
        self._given = given
        self._prefix = prefix

    def files(self, crl_flag: str, hostname_flag: str) -> TlsFiles:
        """All of them; `ca-file` is etcd 2.3's for a trusted CA and client-cert-auth in one."""
        given, prefix = self._given, self._prefix
        ca_file, trusted = self._text("ca-file"), self._text("trusted-ca-file")
        if ca_file and trusted and ca_file != trusted:
            raise given.error(
                f"--{prefix}trusted-ca-file={trusted} is given too: leave --{prefix}ca-file out, "
                f"and give --{prefix}client-cert-auth in its place",
                f"{prefix}ca-file",
            )
        has_pair = self._text("cert-file") or self._text("key-file")
        suites = given.values.get("cipher-suites")
        return TlsFiles(
            prefix=prefix,
            cert_file=self._text("cert-file"),
            key_file=self._text("key-file"),
            trusted_ca_file=trusted or ca_file,
            client_cert_auth=given.is_on(f"{prefix}client-cert-auth") or bool(ca_file),
            crl_file=_text(given, crl_flag),
            allowed_cn=_text(given, "peer-cert-allowed-cn") if prefix else "",
            allowed_hostname=_text(given, hostname_flag),
            cipher_suites=tuple(name.strip() for name in suites.text.split(",")) if suites is not None else (),
            is_self_signed=given.is_on(f"{prefix}auto-tls") and not has_pair,
            skips_origin=bool(prefix) and given.is_on("experimental-peer-skip-client-san-verification"),
        )

    def _text(self, name: str) -> str:
        return _text(self._given, f"{self._prefix}{name}")


def _text(given: Given, flag: str) -> str:
    value = given.values.get(flag)
    return "" if value is None else value.text
