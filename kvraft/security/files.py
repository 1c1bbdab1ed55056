"""What an operator gives for TLS on one kind of listener."""

from dataclasses import dataclass
from typing import final


class SecurityError(Exception):
    """A file or setting of TLS that cannot be used. The text is one line: the flag, what is wrong, the remedy."""


@final
@dataclass(slots=True, frozen=True)
class TlsFiles:
    """The TLS flags of clients (`prefix` is empty) or of peers (`peer-`); an empty text is a flag not given."""

    prefix: str = ""
    """Of the flags' names, for whoever is told of them."""
    cert_file: str = ""
    """PEM: the leaf first, then its intermediates. Served, and by a member shown when it dials."""
    key_file: str = ""
    """PEM, without a passphrase."""
    trusted_ca_file: str = ""
    """PEM, several at will. Without one, the system's own are trusted where somebody has to be."""
    client_cert_auth: bool = False
    """Who connects must have a certificate of a trusted CA. As in etcd 3.4, a trusted CA asks for that by itself."""
    crl_file: str = ""
    """PEM, several at will, or DER. As in etcd, a serial number in it is revoked whoever issued it."""
    allowed_cn: str = ""
    """The one common name that a certificate may have."""
    allowed_hostname: str = ""
    """What every certificate must cover."""
    cipher_suites: tuple[str, ...] = ()
    """Go's names, the best first; empty for our own choice."""
    is_self_signed: bool = False
    """The certificate is made here when there is none (`--auto-tls`), and nobody's is verified, as in etcd."""
    skips_origin: bool = False
    """A dialler's certificate need not be that of the address from which it comes."""

    @property
    def can_serve(self) -> bool:
        """Whether there is something to serve TLS with."""
        return self.is_self_signed or bool(self.cert_file and self.key_file)

    @property
    def wants_certificates(self) -> bool:
        """Whether who connects must show a certificate (etcd v3.4.23 pkg/transport/listener.go, `ServerConfig`)."""
        return not self.is_self_signed and (self.client_cert_auth or bool(self.trusted_ca_file))

    def flag(self, name: str) -> str:
        """A flag as it is typed: `--peer-cert-file` for `cert-file`."""
        if name == "crl-file" and not self.prefix:
            return "--client-crl-file"
        return f"--{self.prefix}{name}"
