"""What a certificate says, and whom it covers. Pure."""

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from cryptography import x509


@final
@dataclass(slots=True, frozen=True)
class Certificate:
    """The parts of an X.509 certificate that somebody decides by."""

    common_name: str
    """The last one of the subject, as Go reads it; empty if there is none."""
    dns_names: tuple[str, ...]
    addresses: tuple[str, ...]
    """IP addresses, in their shortest spelling."""
    serial: int
    starts_s: int
    """Unix seconds."""
    ends_s: int

    @property
    def names(self) -> str:
        """Whom it names, for the log."""
        return ", ".join((*self.dns_names, *self.addresses)) or f"CN {self.common_name}"

    @property
    def has_names(self) -> bool:
        """Whether it has subject alternative names; the common name is nobody's address any more (RFC 6125)."""
        return bool(self.dns_names or self.addresses)

    def covers(self, host: str) -> bool:
        """Whether it is a certificate of this host, a name or an address (Go's `VerifyHostname`)."""
        address = plain_address(host)
        return any(_matches(name, host) for name in self.dns_names) if address is None else address in self.addresses


def plain_address(host: str) -> str | None:
    """An IP address as certificates and Go spell it; None for a name.

    Without brackets and interface, and one of IPv4 as such, though a socket of both families shows it as `::ffff:`.
    """
    try:
        address = ipaddress.ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)


def parse(der: bytes) -> Certificate:
    """Read a certificate.

    Raises:
        ValueError: it is none.
    """
    from cryptography import x509  # noqa: PLC0415 -- a member without TLS never loads it

    try:
        return _read(x509.load_der_x509_certificate(der))
    except Exception as error:  # noqa: BLE001 -- cryptography's are of many kinds, most of them no ValueError
        raise ValueError(str(error)) from None


def _read(certificate: "x509.Certificate") -> Certificate:
    from cryptography import x509  # noqa: PLC0415 -- as above

    dns_names: list[str] = []
    addresses: list[str] = []
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        extension = None
    if extension is not None:
        dns_names = extension.value.get_values_for_type(x509.DNSName)
        addresses = [str(address) for address in extension.value.get_values_for_type(x509.IPAddress)]
    common_names = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return Certificate(
        common_name=str(common_names[-1].value) if common_names else "",
        dns_names=tuple(dns_names),
        addresses=tuple(addresses),
        serial=certificate.serial_number,
        starts_s=int(certificate.not_valid_before_utc.timestamp()),
        ends_s=int(certificate.not_valid_after_utc.timestamp()),
    )


@final
@dataclass(slots=True, frozen=True)
class Rules:
    """What is asked of a certificate whose chain is verified."""

    revoked: frozenset[int] = frozenset()
    """Serial numbers."""
    allowed_cn: str = ""
    allowed_hostname: str = ""

    def why_refused(self, chain: Sequence[Certificate], now_s: int) -> str:
        """Why a chain, the leaf first, is not accepted; empty if it is. One of nobody is nobody's business.

        `now_s` is the wall clock: a resumed session brings the certificate of the first, which may have ended since.
        """
        if not chain:
            return ""
        for certificate in chain:
            if certificate.serial in self.revoked:
                return f"certificate serial {certificate.serial:x} revoked"
        leaf = chain[0]
        if not leaf.starts_s <= now_s <= leaf.ends_s:
            return "its certificate has expired or is not yet valid"
        if self.allowed_cn and leaf.common_name != self.allowed_cn:
            return f"its certificate has the common name {leaf.common_name!r}, and only {self.allowed_cn!r} is allowed"
        if self.allowed_hostname and not leaf.covers(self.allowed_hostname):
            return f"its certificate is for {leaf.names}, and only one for {self.allowed_hostname} is allowed"
        return ""


def why_another(shown: Certificate | None, hosts: Sequence[str]) -> str:
    """Why a certificate is not that of somebody who is known at these hosts; empty if it is, or names nobody."""
    if shown is None or not shown.has_names or any(shown.covers(host) for host in hosts):
        return ""
    return f"the certificate that was shown is for {shown.names}"


def revoked_serials(data: bytes) -> tuple[frozenset[int], int | None]:
    """The serial numbers of certificate revocation lists, and when the first of them should have been replaced.

    Args:
        data: PEM, several at will, or one in DER.

    Raises:
        ValueError: there is none in it.
    """
    from cryptography import x509  # noqa: PLC0415 -- as above

    begin = b"-----BEGIN X509 CRL-----"
    try:
        if begin in data:
            lists = [x509.load_pem_x509_crl(begin + part) for part in data.split(begin)[1:]]
        else:
            lists = [x509.load_der_x509_crl(data)]
        replaced = [int(each.next_update_utc.timestamp()) for each in lists if each.next_update_utc is not None]
        revoked = frozenset(entry.serial_number for each in lists for entry in each)
    except Exception as error:  # noqa: BLE001 -- as above
        raise ValueError(str(error)) from None
    return revoked, min(replaced, default=None)


def any_matches(names: Iterable[str], host: str) -> bool:
    """Whether one of the DNS names, which may begin with a wildcard, is the host's."""
    return any(_matches(name, host) for name in names)


def _matches(name: str, host: str) -> bool:
    """`*` stands for one whole label, the first (RFC 6125, section 6.4.3)."""
    wanted, given = name.lower().rstrip(".").split("."), host.lower().rstrip(".").split(".")
    if len(wanted) != len(given) or not all(given):
        return False
    return wanted[1:] == given[1:] and (wanted[0] == given[0] or (wanted[0] == "*" and len(wanted) > 1))
