"""The flags of TLS: what they mean, what they refuse, and what they warn of."""

import pytest

from kvraft.security.files import TlsFiles
from kvraft.settings import flags, settings
from kvraft.settings.flags import SettingsError
from kvraft.settings.settings import Settings

SECURE = ("--listen-client-urls=https://127.0.0.1:1", "--advertise-client-urls=https://127.0.0.1:1")
PEERS = ("--listen-peer-urls=https://127.0.0.1:2380", "--initial-advertise-peer-urls=https://127.0.0.1:2380")
PAIR = ("--cert-file=c", "--key-file=k")
PEER_PAIR = ("--peer-cert-file=c", "--peer-key-file=k")


def read(*arguments: str) -> Settings:
    return settings.from_flags(flags.read(arguments, {}))


def test_flags_of_clients_and_of_peers_are_apart() -> None:
    """The suites are for both, everything else has a flag each."""
    member = read(
        *SECURE,
        *PEERS,
        *PAIR,
        "--trusted-ca-file=a",
        "--client-crl-file=r",
        "--client-cert-allowed-hostname=h",
        "--cipher-suites=TLS_AES_128_GCM_SHA256, TLS_RSA_WITH_AES_128_GCM_SHA256",
        "--peer-cert-file=pc",
        "--peer-key-file=pk",
        "--peer-trusted-ca-file=pa",
        "--peer-client-cert-auth",
        "--peer-crl-file=pr",
        "--peer-cert-allowed-cn=n",
        "--experimental-peer-skip-client-san-verification",
    )
    suites = ("TLS_AES_128_GCM_SHA256", "TLS_RSA_WITH_AES_128_GCM_SHA256")
    assert member.client_tls == TlsFiles("", "c", "k", "a", False, "r", "", "h", suites)
    assert member.peer_tls == TlsFiles("peer-", "pc", "pk", "pa", True, "pr", "n", "", suites, skips_origin=True)
    assert member.client_tls.wants_certificates, "a trusted CA asks for certificates by itself, as in etcd 3.4"


@pytest.mark.parametrize("prefix", ["", "peer-"])
def test_ca_file_of_etcd_2_means_client_cert_auth(prefix: str) -> None:
    """As in 2.3, where it was deprecated already."""
    member = read(f"--{prefix}ca-file=a")
    files = member.peer_tls if prefix else member.client_tls
    assert (files.trusted_ca_file, files.client_cert_auth) == ("a", True)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (SECURE, f"{SECURE[0]}: TLS key/cert (--cert-file, --key-file) must be provided for client url"),
        (PEERS, f"{PEERS[0]}: TLS key/cert (--peer-cert-file, --peer-key-file) must be provided for peer url"),
        ((*SECURE, "--cert-file=c"), "--cert-file=c: KeyFile and CertFile must both be present[key: , cert: c]"),
        ((*SECURE, "--key-file=k"), "--key-file=k: KeyFile and CertFile must both be present[key: k, cert: ]"),
        ((*PEERS, "--peer-key-file=k"), "--peer-key-file=k: KeyFile and CertFile must both be present[key: k, cert: ]"),
        (("--ca-file=a", "--trusted-ca-file=b"), "--ca-file=a: --trusted-ca-file=b is given too"),
        (
            ("--peer-cert-allowed-cn=a", "--peer-cert-allowed-hostname=b"),
            "--peer-cert-allowed-cn=a: --peer-cert-allowed-cn and --peer-cert-allowed-hostname are mutually exclusive",
        ),
        (("--client-cert-auth=maybe",), "--client-cert-auth=maybe: invalid boolean value"),
    ],
)
def test_what_cannot_be_served_is_refused_in_one_line(arguments: tuple[str, ...], line: str) -> None:
    """It names the flag, etcd's words, and what to do."""
    with pytest.raises(SettingsError) as caught:
        read(*arguments)
    assert str(caught.value).startswith(line)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (PAIR, "the scheme of client url http://127.0.0.1:2379 is http while --cert-file or --key-file is given"),
        (("--client-cert-auth",), "the scheme of client url http://127.0.0.1:2379 is http while --client-cert-auth"),
        (PEER_PAIR, "the scheme of peer url http://127.0.0.1:2380 is http while --peer-cert-file or --peer-key-file"),
        ((*SECURE, *PAIR, "--auto-tls"), "--auto-tls changes nothing, as a certificate is given"),
        ((*SECURE, "--auto-tls"), "--auto-tls encrypts, and nobody knows with whom"),
    ],
)
def test_what_is_not_as_safe_as_it_looks_is_said(arguments: tuple[str, ...], line: str) -> None:
    """One line of the log each."""
    assert any(warning.startswith(line) for warning in read(*arguments).warnings), read(*arguments).warnings


def test_http_and_https_are_listened_on_side_by_side() -> None:
    """One URL each, as in etcd; not on the same port."""
    both = "http://127.0.0.1:1,https://127.0.0.1:2"
    member = read(f"--listen-client-urls={both}", f"--advertise-client-urls={both}", *PAIR)
    assert [url.is_secure for url in member.listen_client_urls] == [False, True]
    same = "http://127.0.0.1:1,https://127.0.0.1:1"
    with pytest.raises(SettingsError, match="cannot both be listened on"):
        read(f"--listen-client-urls={same}", f"--advertise-client-urls={same}", *PAIR)
