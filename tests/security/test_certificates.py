"""What certificates cover, which are refused, and what suites are called."""

import base64
import random
import ssl
import threading
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from kvraft.security import certificates, ciphers, origins, self_signed
from kvraft.security.certificates import Certificate, Rules, parse, revoked_serials
from kvraft.security.credentials import Credentials
from kvraft.security.files import SecurityError, TlsFiles
from kvraft.testing.certificates import Authority, replace


def certificate(*names: str, addresses: tuple[str, ...] = (), common_name: str = "cn", serial: int = 1) -> Certificate:
    return Certificate(common_name, names, addresses, serial, 10, 20)


@pytest.mark.parametrize(
    ("name", "host", "covered"),
    [
        ("n1.example", "N1.Example", True),
        ("n1.example", "n1.example.", True),
        ("n1.example", "n2.example", False),
        ("*.example", "n1.example", True),
        ("*.example", "a.n1.example", False),
        ("*.example", "example", False),
        ("n*.example", "n1.example", False),
        ("*", "n1", False),
        ("n.*.example", "n.a.example", False),
        ("n1.example", "", False),
        ("*.example", ".example", False),
    ],
)
def test_name_covers_a_host(name: str, host: str, covered: bool) -> None:
    """A wildcard is one whole label, the first."""
    assert certificate(name).covers(host) is covered


def test_address_is_covered_by_an_address_only() -> None:
    """Neither by a name that looks like one, nor by the common name."""
    assert certificate(addresses=("::1",)).covers("[0:0::1]")
    assert certificate(addresses=("10.0.0.1",)).covers("::ffff:10.0.0.1")
    assert certificate(addresses=("fe80::1",)).covers("fe80::1%eth0")
    assert not certificate("127.0.0.1", common_name="127.0.0.1").covers("127.0.0.1")
    assert not certificate(common_name="n1").covers("n1")


def test_rules_look_at_the_whole_chain_for_revoked_ones_and_at_the_leaf_for_names() -> None:
    """A revoked intermediate revokes what it has signed."""
    leaf, above = certificate("n1", common_name="a"), certificate(common_name="ca", serial=255)
    assert Rules().why_refused([leaf, above], 15) == ""
    assert Rules(revoked=frozenset({255})).why_refused([leaf, above], 15) == "certificate serial ff revoked"
    assert Rules(allowed_cn="a").why_refused([leaf, above], 15) == ""
    assert "only 'ca' is allowed" in Rules(allowed_cn="ca").why_refused([leaf, above], 15)
    assert Rules(allowed_hostname="n1").why_refused([leaf], 15) == ""
    assert "only one for n2 is allowed" in Rules(allowed_hostname="n2").why_refused([leaf], 15)
    assert Rules(frozenset({1}), "x", "y").why_refused([], 15) == "", "nobody was asked for a certificate"
    assert [bool(Rules().why_refused([leaf, above], now_s)) for now_s in (9, 10, 20, 21)] == [True, False, False, True]


@pytest.mark.parametrize(
    ("shown", "found", "is_foreign"),
    [
        (certificate("n1"), (["n1"], []), False),
        (certificate("n1"), ([], ["10.0.0.1"]), False),
        (certificate("*.example"), (["n1.example"], []), False),
        (certificate("n1"), (["n2"], ["10.0.0.2"]), True),
        (certificate("n1", addresses=("10.0.0.9",)), ([], []), True),
    ],
)
def test_certificate_is_that_of_the_address(shown: Certificate, found: origins.Answers, is_foreign: bool) -> None:
    """By the name of the address, or by an address of its names."""
    assert bool(origins.why_not_among(shown, "10.0.0.1", found)) is is_foreign


def test_any_bytes_are_a_certificate_or_a_list_or_a_value_error(tmp_path: Path) -> None:
    """Whatever a stranger sends along, and whatever half of a list is found when it is read anew."""
    ca, rng = Authority(tmp_path), random.Random(12)
    der = ssl.PEM_cert_to_DER_cert(Path(ca.issue("any", hosts=("a.b", "*.c", "::1")).cert_file).read_text())
    lines = Path(ca.revoke(ca.issue("revoked"))).read_bytes().splitlines()
    crl = base64.b64decode(b"".join(lines[1:-1]))
    refused = 0
    for data, read in ((der, parse), (crl, revoked_serials)):
        for _ in range(4000):
            changed = bytearray(data)
            for _ in range(rng.choice((1, 1, 2, 3))):
                changed[rng.randrange(len(changed))] = rng.randrange(256)
            try:
                read(bytes(changed))
            except ValueError:
                refused += 1
    assert 500 < refused < 7500


async def test_name_server_is_asked_only_about_names() -> None:
    """An address that is covered, or a certificate of nobody, is decided at once."""
    assert await origins.why_foreign(certificate(), "10.0.0.1") == ""
    assert await origins.why_foreign(certificate(addresses=("10.0.0.1",)), "10.0.0.1") == ""
    assert "not for 10.0.0.1" in await origins.why_foreign(certificate(addresses=("10.0.0.2",)), "10.0.0.1")
    assert await origins.why_foreign(certificate("localhost"), "127.0.0.1") == ""
    assert "none of these is 10.0.0.1" in await origins.why_foreign(certificate("localhost"), "10.0.0.1")


async def test_certificate_is_foreign_while_nobody_can_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """For want of a thread; he is told, and may come again. Raised in the door's task, it would be the member's end."""

    def start(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    reason = await origins.why_foreign(certificate("localhost"), "127.0.0.1")
    assert "whether 127.0.0.1 is one: can't start new thread" in reason


def test_every_suite_of_go_is_one_of_openssl() -> None:
    """By name; the fresh keys of today are our own choice, RC4 and 3DES are refused."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    for name in ciphers._OPENSSL:
        context.set_ciphers(ciphers.choice_of([name]).suites + ":@SECLEVEL=0")
        assert not ciphers.choice_of([name]).has_tls13
    assert ciphers.choice_of(["TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256"]).suites == "ECDHE-RSA-CHACHA20-POLY1305"
    assert ciphers.choice_of(["TLS_AES_128_GCM_SHA256"]) == ciphers.Choice("", has_tls13=True)
    for suite in ciphers.choice_of([]).suites.split(":"):
        assert suite.startswith("ECDHE-")
        assert "GCM" in suite or "CHACHA20" in suite
    for wrong in ("TLS_RSA_WITH_RC4_128_SHA", "TLS_RSA_WITH_3DES_EDE_CBC_SHA", "AES128-SHA", ""):
        with pytest.raises(SecurityError, match="--cipher-suites: "):
            ciphers.choice_of([wrong])


def test_common_name_is_the_last_one_and_names_are_read(tmp_path: Path) -> None:
    """From the bytes that a handshake gives."""
    pair = Authority(tmp_path).issue("n1", common_name="alice", hosts=("n1.example", "10.0.0.1", "::1"))
    read = certificates.parse(ssl.PEM_cert_to_DER_cert(Path(pair.cert_file).read_text()))
    assert (read.common_name, read.dns_names, read.addresses) == ("alice", ("n1.example",), ("10.0.0.1", "::1"))
    assert read.serial == pair.certificate.serial_number


def test_files_that_cannot_be_used_are_one_line(tmp_path: Path) -> None:
    """With the flag, the path and what to do; a passphrase is not asked for at the terminal."""
    ca = Authority(tmp_path)
    pair, other = ca.issue("a"), ca.issue("b")
    broken = tmp_path / "broken"
    broken.write_text("x")
    locked = tmp_path / "locked.key"
    locked.write_text(
        "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,0000000000000000000000"
        "\n\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n-----END RSA PRIVATE KEY-----\n"
    )
    gone = str(tmp_path / "gone")
    for files, line in (
        (TlsFiles("", gone, pair.key_file), f"--cert-file={gone}: open {gone}: No such file"),
        (TlsFiles("peer-", pair.cert_file, gone), f"--peer-key-file={gone}: open {gone}: No such file"),
        (TlsFiles("", pair.cert_file, other.key_file), f"--cert-file={pair.cert_file} with --key-file="),
        (TlsFiles("", pair.cert_file, str(locked)), f"--cert-file={pair.cert_file} with --key-file="),
        (TlsFiles("", str(broken), pair.key_file), f"--cert-file={broken} with --key-file="),
        (TlsFiles(trusted_ca_file=str(broken)), f"--trusted-ca-file={broken}: "),
        (TlsFiles(trusted_ca_file=gone), f"--trusted-ca-file={gone}: open "),
        (TlsFiles(crl_file=str(broken)), f"--client-crl-file={broken}: "),
        (TlsFiles("peer-", crl_file=gone), f"--peer-crl-file={gone}: open "),
    ):
        with pytest.raises(SecurityError) as caught:
            Credentials(files)
        assert str(caught.value).startswith(line)
        assert str(caught.value).isprintable()


def test_changed_files_are_read_anew_and_broken_ones_are_not_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What was in force stays so, and that is said once for each change."""
    ca = Authority(tmp_path)
    pair = ca.issue("a")
    crl = ca.revoke()
    files = TlsFiles("", pair.cert_file, pair.key_file, ca.ca_file, True, crl)
    credentials = Credentials(files)
    first = credentials.current()
    assert credentials.current() is first, "nothing has changed"
    ca.revoke(pair)
    assert credentials.current().rules.revoked == {pair.certificate.serial_number}
    renewed = ca.issue("a", common_name="renewed")
    assert credentials.current().own == certificates.parse(renewed.certificate.public_bytes(Encoding.DER))
    in_force = credentials.current()
    replace(Path(pair.key_file), b"half a key")
    for _ in range(3):
        assert credentials.current() is in_force
    assert caplog.text.count("cannot be used: the old ones stay in force") == 1
    Path(pair.key_file).unlink()
    assert credentials.current() is in_force
    assert caplog.text.count("cannot be used: the old ones stay in force") == 2
    ca.issue("a", common_name="again")
    again = credentials.current().own
    assert again is not None
    assert again.common_name == "again"


@pytest.mark.parametrize(
    ("begins_days", "ends_days", "said"),
    [(-1, 20, "ends soon"), (-2, -1, "has ended"), (1, 365, "has not begun"), (-1, 365, "")],
)
def test_end_of_the_own_certificate_is_said_at_the_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, begins_days: float, ends_days: float, said: str
) -> None:
    """Within 30 days, and when it is too late or too early."""
    pair = Authority(tmp_path).issue("a", begins_days=begins_days, ends_days=ends_days)
    Credentials(TlsFiles("", pair.cert_file, pair.key_file))
    assert (said in caplog.text) if said else not caplog.text


def test_self_signed_certificate_is_made_once_and_anew_when_it_ends(tmp_path: Path) -> None:
    """For the hosts that are listened on, readable for nobody else."""
    directory = tmp_path / "fixtures" / "client"
    cert, key = self_signed.make_if_missing(directory, ["127.0.0.1", "localhost", "127.0.0.1"])
    made = Path(cert).read_bytes()
    read = certificates.parse(ssl.PEM_cert_to_DER_cert(made.decode()))
    assert read.addresses == ("127.0.0.1",)
    assert read.dns_names == ("localhost",)
    assert (Path(key).stat().st_mode & 0o777, directory.stat().st_mode & 0o777) == (0o600, 0o700)
    assert self_signed.make_if_missing(directory, ["127.0.0.1"]) == (cert, key)
    assert Path(cert).read_bytes() == made
    Path(cert).write_bytes(Path(Authority(tmp_path).issue("old", ends_days=0.5).cert_file).read_bytes())
    self_signed.make_if_missing(directory, ["127.0.0.1"])
    assert self_signed._lasts(Path(cert).read_bytes())
    Credentials(TlsFiles("", cert, key, is_self_signed=True))
