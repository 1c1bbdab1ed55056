"""Certificates for tests: an authority, and whatever it is asked to sign, good or bad."""

import datetime as dt
import ipaddress
import pathlib
from collections.abc import Sequence
from typing import Final, final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from kvraft import clock

_DAY: Final = dt.timedelta(days=1)
_PEM: Final = serialization.Encoding.PEM


@final
class Pair:
    """A certificate and its key, as files."""

    def __init__(self, certificate: x509.Certificate, cert_file: pathlib.Path, key_file: pathlib.Path) -> None:
        self.certificate: Final = certificate
        self.cert_file: Final = str(cert_file)
        self.key_file: Final = str(key_file)


@final
class Authority:
    """A CA, whose certificate is the file `ca_file`; a root, unless another one has signed it."""

    def __init__(self, directory: pathlib.Path, name: str = "ca", signed_by: "Authority | None" = None) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory: Final = directory
        self.name: Final = name
        self._key = ec.generate_private_key(ec.SECP256R1())
        subject = _subject(f"kvraft testing {name}")
        begins = _now() - _DAY
        issuer = subject if signed_by is None else signed_by.certificate.subject
        builder = _builder(subject, issuer, self._key.public_key(), begins, begins + 3650 * _DAY)
        self.certificate: Final[x509.Certificate] = (signed_by or self).sign(
            builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        )
        self.ca_file: Final = str(directory / f"{name}.pem")
        pathlib.Path(self.ca_file).write_bytes(self.certificate.public_bytes(_PEM))

    def sign(self, builder: x509.CertificateBuilder) -> x509.Certificate:
        """As it says, with this authority's key."""
        return builder.sign(self._key, hashes.SHA256())

    def issue(
        self,
        file_name: str,
        *,
        common_name: str = "",
        hosts: Sequence[str] = ("127.0.0.1", "localhost"),
        begins_days: float = -1,
        ends_days: float = 365,
        self_signed: bool = False,
        purposes: Sequence[x509.ObjectIdentifier] = (
            ExtendedKeyUsageOID.SERVER_AUTH,
            ExtendedKeyUsageOID.CLIENT_AUTH,
        ),
    ) -> Pair:
        """A certificate for these hosts, `file_name.pem` and `file_name.key`, in place of what was there.

        Args:
            file_name: without a suffix, in the authority's directory.
            common_name: the subject's; `file_name` if it is empty.
            hosts: names and addresses that it covers; none for a certificate without alternative names.
            begins_days: from now on; a negative number lies in the past.
            ends_days: as `begins_days`.
            self_signed: by its own key instead of the authority's.
            purposes: what it may be used for.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        subject = _subject(common_name or file_name)
        issuer = subject if self_signed else self.certificate.subject
        builder = _builder(
            subject, issuer, key.public_key(), _now() + begins_days * _DAY, _now() + ends_days * _DAY
        ).add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        if hosts:
            names = x509.SubjectAlternativeName([_general_name(host) for host in hosts])
            builder = builder.add_extension(names, critical=False)
        certificate = builder.sign(key if self_signed else self._key, hashes.SHA256())
        pair = Pair(certificate, self.directory / f"{file_name}.pem", self.directory / f"{file_name}.key")
        private = key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        for path, data in ((pair.key_file, private), (pair.cert_file, certificate.public_bytes(_PEM))):
            replace(pathlib.Path(path), data)
        return pair

    def revoke(self, *pairs: Pair, file_name: str = "crl.pem") -> str:
        """Write a revocation list of these, in place of what was there; its path."""
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.certificate.subject)
            .last_update(_now() - _DAY)
            .next_update(_now() + 30 * _DAY)
        )
        for pair in pairs:
            revoked = x509.RevokedCertificateBuilder().serial_number(pair.certificate.serial_number)
            builder = builder.add_revoked_certificate(revoked.revocation_date(_now() - _DAY).build())
        path = self.directory / file_name
        replace(path, builder.sign(self._key, hashes.SHA256()).public_bytes(_PEM))
        return str(path)


def append_odd(cert_file: str) -> None:
    """Put a certificate behind the one in a file that OpenSSL carries along and `cryptography` does not read.

    An alternative name is of a kind that nobody uses (x400Address, RFC 5280, section 4.2.1.6).
    """
    key, subject = ec.generate_private_key(ec.SECP256R1()), _subject("odd")
    names = x509.UnrecognizedExtension(x509.SubjectAlternativeName.oid, b"\x30\x02\xa3\x00")
    builder = _builder(subject, subject, key.public_key(), _now() - _DAY, _now() + _DAY)
    odd = builder.add_extension(names, critical=False).sign(key, hashes.SHA256())
    path = pathlib.Path(cert_file)
    replace(path, path.read_bytes() + odd.public_bytes(_PEM))


def replace(path: pathlib.Path, data: bytes) -> None:
    """Put new contents in place of a file in one step, as whoever renews certificates should."""
    new = path.with_name(path.name + ".new")
    new.write_bytes(data)
    new.replace(path)


def _now() -> dt.datetime:
    return dt.datetime.fromtimestamp(clock.wall_ns() // 10**9, dt.UTC)


def _subject(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, common_name)])


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    begins: dt.datetime,
    ends: dt.datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
