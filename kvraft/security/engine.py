"""One TLS session without I/O: bytes in, bytes out. And what its errors mean, in words."""

import ssl
from typing import Final, final

from kvraft.security import certificates
from kvraft.security.certificates import Certificate

_WORDS: Final = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "it sent no certificate, and must",
    "UNSUPPORTED_PROTOCOL": "it speaks no TLS from version 1.2 on",
    "VERSION_TOO_LOW": "it speaks no TLS from version 1.2 on",
    "NO_SHARED_CIPHER": "it has no cipher suite that is spoken here",
    "TLSV1_ALERT_PROTOCOL_VERSION": "it speaks no TLS version of ours",
    "SSLV3_ALERT_HANDSHAKE_FAILURE": "it ended the handshake: no cipher suite in common, or it wants a certificate",
    "TLSV1_ALERT_UNKNOWN_CA": "it does not accept our certificate: it does not trust our CA",
    "SSLV3_ALERT_BAD_CERTIFICATE": "it does not accept our certificate",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "it does not accept our certificate: it has expired",
    "SSLV3_ALERT_CERTIFICATE_REVOKED": "it does not accept our certificate: it is revoked",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "it does not accept our certificate",
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": "it does not accept our certificate: it is for another purpose",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "it wants a certificate, and there is none",
    "WRONG_VERSION_NUMBER": "what it sent is no TLS",
    "UNEXPECTED_EOF_WHILE_READING": "it closed the connection in the midst of the handshake",
}
"""By OpenSSL's names of reasons."""


def sentence(error: ssl.SSLError) -> str:
    """Why a handshake failed, about the other side."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {error.verify_message.rstrip('.')}"
    reason = error.reason or ""
    return _WORDS.get(reason) or reason.replace("_", " ").lower() or str(error)


@final
class Engine:
    """A session. `incoming` is fed what arrives, `outgoing` holds what is to leave."""

    __slots__ = ("incoming", "outgoing", "session")

    def __init__(self, context: ssl.SSLContext, server_hostname: str | None = None) -> None:
        """As the acceptor, or for a dialler with the host that it dialled."""
        self.incoming = ssl.MemoryBIO()
        self.outgoing = ssl.MemoryBIO()
        self.session = context.wrap_bio(
            self.incoming, self.outgoing, server_side=server_hostname is None, server_hostname=server_hostname
        )

    def shake_hands(self) -> bool:
        """Go on with the handshake; whether it is complete. Something may have to leave either way.

        Raises:
            ssl.SSLError: it has failed; an alert may have to leave.
        """
        try:
            self.session.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def chain(self) -> list[Certificate]:
        """What the other side has shown, the leaf first; empty for nothing.

        Raises:
            ValueError: it is no certificate that can be read.
        """
        leaf = self.session.getpeercert(binary_form=True)
        if leaf is None:
            return []
        shown = self.session._sslobj.get_unverified_chain()  # type: ignore[attr-defined]  # noqa: SLF001 -- public from Python 3.13 on, and there under this name too
        others = [der for each in shown or () if (der := ssl.PEM_cert_to_DER_cert(each.public_bytes())) != leaf]
        return [certificates.parse(leaf), *map(certificates.parse, others)]
