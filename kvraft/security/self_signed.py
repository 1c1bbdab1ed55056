"""The certificate that `--auto-tls` makes: encryption without a CA, and without knowing who is there."""

import datetime as dt
import ipaddress
import os
import pathlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from kvraft import clock
from kvraft.security.files import SecurityError

if TYPE_CHECKING:
    from cryptography import x509

_DAY_S: Final = 24 * 60 * 60
_LASTS_S: Final = 365 * _DAY_S
"""As etcd's."""


def make_if_missing(directory: pathlib.Path, hosts: Iterable[str]) -> tuple[str, str]:
    """The paths of `cert.pem` and `key.pem` in a directory, made unless they are there and last for another day.

    They stand where etcd puts them: `fixtures/client` and `fixtures/peer` of the data directory.

    Raises:
        SecurityError: they cannot be written.
    """
    cert_path, key_path = directory / "cert.pem", directory / "key.pem"
    try:
        if not (cert_path.exists() and key_path.exists() and _lasts(cert_path.read_bytes())):
            cert, key = _make(hosts)
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            _write(key_path, key)
            _write(cert_path, cert)
    except OSError as error:
        raise SecurityError(
            f"--auto-tls: {directory}: {error.strerror or error}: give a --data-dir that this user can write"
        ) from error
    return str(cert_path), str(key_path)


def _lasts(pem: bytes) -> bool:
    """Whether it is a certificate that is still one tomorrow."""
    from cryptography import x509  # noqa: PLC0415 -- a member without TLS never loads it

    try:
        ends = x509.load_pem_x509_certificate(pem).not_valid_after_utc
    except ValueError:
        return False
    return int(ends.timestamp()) > clock.wall_ns() // 10**9 + _DAY_S


def _make(hosts: Iterable[str]) -> tuple[bytes, bytes]:
    """A certificate of these hosts, signed by itself, and its key, both PEM."""
    from cryptography import x509  # noqa: PLC0415 -- as above
    from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415 -- as above
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415 -- as above
    from cryptography.x509.oid import ExtendedKeyUsageOID  # noqa: PLC0415 -- as above

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.ORGANIZATION_NAME, "kvraft")])
    begins = dt.datetime.fromtimestamp(clock.wall_ns() // 10**9, dt.UTC)
    purposes = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(begins + dt.timedelta(seconds=_LASTS_S))
        .add_extension(x509.SubjectAlternativeName([_general_name(host) for host in dict.fromkeys(hosts)]), False)
        .add_extension(x509.ExtendedKeyUsage(purposes), False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return certificate.public_bytes(pem), private


def _general_name(host: str) -> "x509.GeneralName":
    from cryptography import x509  # noqa: PLC0415 -- as above

    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _write(path: pathlib.Path, data: bytes) -> None:
    """Whole or not at all, and nobody else's to read."""
    new = path.with_suffix(".new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    new.replace(path)
