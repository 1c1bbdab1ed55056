"""Cipher suites by Go's names, which `--cipher-suites` has, and by OpenSSL's."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, final

from kvraft.security.files import SecurityError

TLS12_DEFAULT: Final = (
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:"
    "ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:"
    "ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"
)
"""Of TLS 1.2 what is authenticated encryption with a fresh key for each connection, which every client of today has.
etcd by itself offers CBC and keys without forward secrecy, too (audit of 2020, TOB-015)."""

_OPENSSL: Final = {
    "TLS_RSA_WITH_AES_128_CBC_SHA": "AES128-SHA",
    "TLS_RSA_WITH_AES_256_CBC_SHA": "AES256-SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA256": "AES128-SHA256",
    "TLS_RSA_WITH_AES_128_GCM_SHA256": "AES128-GCM-SHA256",
    "TLS_RSA_WITH_AES_256_GCM_SHA384": "AES256-GCM-SHA384",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA": "ECDHE-ECDSA-AES128-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA": "ECDHE-ECDSA-AES256-SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA": "ECDHE-RSA-AES128-SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA": "ECDHE-RSA-AES256-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256": "ECDHE-ECDSA-AES128-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256": "ECDHE-RSA-AES128-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305": "ECDHE-RSA-CHACHA20-POLY1305",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305": "ECDHE-ECDSA-CHACHA20-POLY1305",
}
"""etcd v3.4.23 pkg/tlsutil/cipher_suites.go, without RC4 and 3DES, which OpenSSL has no longer."""
_TLS13: Final = frozenset({"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"})
"""Of TLS 1.3, where OpenSSL chooses among all three."""
_BROKEN: Final = ("_RC4_", "_3DES_")


@final
@dataclass(slots=True, frozen=True)
class Choice:
    """What contexts are set to."""

    suites: str = TLS12_DEFAULT
    """For `SSLContext.set_ciphers`; empty for no suite of TLS 1.2."""
    has_tls13: bool = True


def choice_of(go_names: Sequence[str]) -> Choice:
    """The suites with these names and no others; our own choice for no names.

    Raises:
        SecurityError: a name is none, or that of a suite that nobody should speak any more.
    """
    if not go_names:
        return Choice()
    suites = []
    for name in go_names:
        if any(word in name for word in _BROKEN):
            raise SecurityError(f"--cipher-suites: {name!r} is broken and not spoken here: leave it out")
        if name in _TLS13:
            continue
        openssl = _OPENSSL.get(name) or _OPENSSL.get(name.removesuffix("_SHA256"))
        if openssl is None:
            raise SecurityError(
                f"--cipher-suites: unexpected TLS cipher suite {name!r}: use Go's names, by commas, "
                "such as TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"
            )
        suites.append(openssl)
    return Choice(":".join(suites), has_tls13=not _TLS13.isdisjoint(go_names))
