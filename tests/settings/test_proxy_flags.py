"""The flags of a proxy."""

import pytest

from kvraft.settings import proxy_flags
from kvraft.settings.flags import SettingsError, read
from kvraft.settings.proxy_flags import ProxyFlags


def _proxy(*arguments: str) -> ProxyFlags:
    return proxy_flags.from_flags(read(["--proxy=on", *arguments], {}))


def test_proxy_without_further_flags_has_etcds_defaults() -> None:
    """Beside a member on the same host, at the ports that etcd has."""
    proxy = _proxy()
    assert [str(url) for url in proxy.listen_client_urls] == ["http://127.0.0.1:2379", "http://127.0.0.1:4001"]
    assert proxy.peer_urls == ("http://localhost:2380", "http://localhost:7001")
    times = (
        proxy.failure_wait_ms,
        proxy.refresh_interval_ms,
        proxy.dial_timeout_ms,
        proxy.write_timeout_ms,
        proxy.read_timeout_ms,
    )
    assert times == (5000, 30_000, 1000, 5000, 0)
    assert not proxy.is_readonly
    assert proxy.warnings == ()


def test_proxy_is_not_asked_who_it_is() -> None:
    """It is no member: neither its name nor what it advertises has to be among anything (etcdmain, mayBeProxy)."""
    proxy = _proxy(
        "--name=nobody",
        "--initial-cluster=n1=http://a:2380,n2=http://b:2380",
        "--listen-client-urls=http://127.0.0.1:5",
    )
    assert proxy.peer_urls == ("http://a:2380", "http://b:2380")
    assert [str(url) for url in proxy.listen_client_urls] == ["http://127.0.0.1:5"]


def test_empty_flags_are_weighed_when_it_is_known_whether_others_tell_of_members() -> None:
    """Its directory, or discovery: no default takes their place, and who it is is nobody's business."""
    proxy = _proxy("--name=", "--initial-cluster=", "--join=", "--data-dir=/d")
    assert (proxy.peer_urls, proxy.warnings) == ((), ())
    with pytest.raises(SettingsError, match=r"^--name=: it is empty"):
        _proxy("--name=")


def test_what_members_only_have_is_mentioned() -> None:
    """In one line; what stands in a unit for both passes in silence."""
    proxy = _proxy("--wal-dir=/w", "--rebuild", "--heartbeat-interval=50", "--snapshot-count=5")
    assert proxy.warnings == ("a proxy is no member, so these change nothing: --rebuild=true, --wal-dir=/w",)
    assert any("breaks off every watch" in line for line in _proxy("--proxy-read-timeout=1000").warnings)
    open_url = "--listen-client-urls=http://10.0.0.1:2379"
    assert any("http://10.0.0.1:2379" in line for line in _proxy(open_url).warnings)
    with pytest.raises(SettingsError, match="--insecure=false"):
        _proxy(open_url, "--insecure=false")


def test_members_are_shown_what_clients_are_served_with_or_else_what_peers_are() -> None:
    """As in etcd (startProxy)."""
    both = _proxy("--cert-file=c", "--key-file=k", "--peer-cert-file=pc", "--peer-key-file=pk")
    assert (both.upstream_tls.cert_file, both.peer_tls.cert_file) == ("c", "pc")
    peers = _proxy("--peer-cert-file=pc", "--peer-key-file=pk", "--peer-trusted-ca-file=pa")
    assert (peers.upstream_tls.cert_file, peers.upstream_tls.trusted_ca_file) == ("pc", "pa")
    assert _proxy("--trusted-ca-file=a").upstream_tls.trusted_ca_file == "a"


@pytest.mark.parametrize(
    ("argument", "line"),
    [
        ("--proxy=maybe", "--proxy=maybe: invalid value: use off, on or readonly"),
        ("--proxy-failure-wait=-1", "--proxy-failure-wait=-1: use a whole number from 0"),
        ("--proxy-read-timeout=1s", "--proxy-read-timeout=1s: use a whole number from 0"),
        ("--listen-client-urls=http://name:1", "--listen-client-urls=http://name:1: expected IP in URL for binding"),
        ("--listen-client-urls=https://127.0.0.1:1", "TLS key/cert"),
        ("--initial-cluster=http://a:1", "this is etcd 0.4's form"),
        ("--cors=page", "'page' is no origin"),
    ],
)
def test_wrong_value_is_refused_in_one_line(argument: str, line: str) -> None:
    """Before any file is touched."""
    with pytest.raises(SettingsError) as caught:
        _proxy(argument)
    assert line in str(caught.value)
    assert str(caught.value).isprintable()
