"""One TLS session without I/O: bytes in, bytes out. And what its errors mean, in words."""

import ssl
from collections.abc import Iterator
from typing import Final, final

from kvraft.security import certificates
from kvraft.security.certificates import Certificate

_RECORD_BYTES: Final = 16 << 10
"""The most that a record holds (RFC 8446, section 5.1), and so the most that one call gives."""
FED_BYTES: Final = 32 << 10
"""To be decrypted at once. OpenSSL's buffers never shrink: a whole read would stay with a connection for as long as it
idles, and whoever floods could not be stopped before its end."""
ENCRYPTED_BYTES: Final = 64 << 10
"""To be encrypted at once, for the same reason; what is smaller, as answers are as a rule, leaves in one piece."""
_OVERHEAD_BYTES: Final = {"TLSv1.3": 5 + 1 + 16}
"""Of a record with data (RFC 8446, section 5.2)."""
_OVERHEAD_BYTES_BEFORE: Final = 128
"""The most in TLS 1.2, where no records are left that cost much and hold no data."""
_FORGIVEN_BYTES: Final = 4 << 10
"""Of what has some data: an honest client may pad its records, or change its keys, once in a while. That a byte of data
made up for everything before it would be a way around the bound."""

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


def parts(data: bytes | bytearray | memoryview, size: int) -> Iterator[memoryview]:
    """Pieces of so many bytes, without a copy; the last one may be smaller."""
    view = memoryview(data)
    return (view[begin : begin + size] for begin in range(0, len(view), size))


@final
class Engine:
    """A session. `incoming` is fed what arrives, `outgoing` holds what is to leave."""

    __slots__ = ("_overhead_bytes", "_read_record", "barren_bytes", "incoming", "outgoing", "session")

    def __init__(self, context: ssl.SSLContext, server_hostname: str | None = None) -> None:
        """As the acceptor, or for a dialler with the host that it dialled."""
        self.incoming = ssl.MemoryBIO()
        self.outgoing = ssl.MemoryBIO()
        self.session = context.wrap_bio(
            self.incoming, self.outgoing, server_side=server_hostname is None, server_hostname=server_hostname
        )
        self.barren_bytes = 0
        """Given to `decrypt` without data in them, or with too little for so many."""
        self._overhead_bytes = 0
        self._read_record = self.session.read

    def shake_hands(self) -> bool:
        """Go on with the handshake; whether it is complete. Something may have to leave either way.

        Raises:
            ssl.SSLError: it has failed; an alert may have to leave.
        """
        try:
            self.session.do_handshake()
        except ssl.SSLWantReadError:
            return False
        self._overhead_bytes = _OVERHEAD_BYTES.get(self.session.version() or "", _OVERHEAD_BYTES_BEFORE)
        return True

    def decrypt(self, data: bytes | memoryview, records: list[bytes]) -> bool:
        """Add what is complete with this, of `FED_BYTES` at most; whether the other side says that it was the last.

        Raises:
            ssl.SSLError: it is no TLS, or the other side does not accept ours; an alert may have to leave.
        """
        incoming, session = self.incoming, self.session
        incoming.write(data)
        barren_bytes, overhead_bytes = self.barren_bytes + len(data), self._overhead_bytes
        before, ended = len(records), True
        try:
            while record := self._read_record(_RECORD_BYTES):
                records.append(record)
                barren_bytes -= len(record) + overhead_bytes
                if not incoming.pending and not session.pending():
                    ended = False
                    break
        except ssl.SSLWantReadError:
            ended = False
        if len(records) > before:
            barren_bytes -= _FORGIVEN_BYTES
        self.barren_bytes = barren_bytes if barren_bytes > 0 else 0  # noqa: FURB136 -- once for each read, and a call costs more
        return ended

    def encrypt(self, data: bytes | bytearray | memoryview) -> list[bytes]:
        """What is to leave for something large.

        Raises:
            ssl.SSLError: it has failed before.
        """
        encrypted = []
        for part in parts(data, ENCRYPTED_BYTES):
            sent = self.session.write(part)
            assert sent == len(part), "memory takes everything, and partial writes were not asked for"
            encrypted.append(self.outgoing.read())
        return encrypted

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
