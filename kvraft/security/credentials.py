"""The doors to TLS files: contexts of what they hold now.

Files are looked at for each handshake, as etcd does; they are read again only when one of them has changed (other
inode, size or time of change), which costs a few microseconds. What cannot be read then is said once, and what was in
force stays so: a renewal is often seen half done, the certificate new and the key old.
"""

import dataclasses
import pathlib
import ssl
from typing import Final, final

from kvraft import clock, logs
from kvraft.security import certificates, ciphers
from kvraft.security.certificates import Certificate, Rules
from kvraft.security.ciphers import Choice
from kvraft.security.files import SecurityError, TlsFiles

_log = logs.get(__name__)

SOON_S: Final = 30 * 24 * 60 * 60
"""A certificate that ends within so long is spoken of at the start."""

_Stamp = tuple[tuple[int, int, int], ...]


@final
@dataclasses.dataclass(slots=True, frozen=True)
class Loaded:
    """What the files held when they were last read, whole."""

    server: ssl.SSLContext | None
    """None without a certificate."""
    client: ssl.SSLContext
    rules: Rules
    own: Certificate | None
    """The certificate that is served."""


@final
class Credentials:
    """What is served, shown, trusted and revoked on one kind of listener.

    Args:
        files: Where it is.
        alpn: Protocols that are offered to who connects, the best first.
    """

    def __init__(self, files: TlsFiles, alpn: tuple[str, ...] = ("http/1.1",)) -> None:
        """Read the files.

        Raises:
            SecurityError: one of them cannot be used.
        """
        self.files: Final = files
        given = (files.cert_file, files.key_file, files.trusted_ca_file, files.crl_file)
        self._paths: Final = tuple(pathlib.Path(path) for path in given if path)
        self._alpn: Final = alpn
        self._stamp = self._look()
        self._loaded = self._load()
        self._say_when_it_ends()

    def current(self) -> Loaded:
        """What the files hold now; what they held before if that cannot be read. Never raises."""
        stamp = self._look()
        if stamp != self._stamp:
            self._stamp = stamp  # also if it cannot be used: it is tried again when it changes again
            try:
                self._loaded = self._load()
            except SecurityError as error:
                _log.error("TLS files have changed and cannot be used: the old ones stay in force", error=error)
            else:
                _log.info("TLS files read anew", files=",".join(map(str, self._paths)))
                self._say_when_it_ends()
        return self._loaded

    def server_context(self) -> ssl.SSLContext:
        """For one connection that was accepted."""
        context = self.current().server
        assert context is not None, "an https URL without a certificate is refused at the start"
        return context

    def client_context(self) -> ssl.SSLContext:
        """For one connection that this member dials: what it shows, and whom it believes."""
        return self.current().client

    @property
    def ends_s(self) -> int | None:
        """When the certificate that is served ends, in Unix seconds."""
        own = self._loaded.own
        return own.ends_s if own is not None else None

    def _look(self) -> _Stamp:
        stamps = []
        for path in self._paths:
            try:
                seen = path.stat()
            except OSError:
                stamps.append((0, 0, 0))
            else:
                stamps.append((seen.st_ino, seen.st_mtime_ns, seen.st_size))
        return tuple(stamps)

    def _load(self) -> Loaded:
        files = self.files
        rules = Rules(self._revoked(), files.allowed_cn, files.allowed_hostname)
        choice = ciphers.choice_of(files.cipher_suites)
        server, own = None, None
        if files.cert_file and files.key_file:
            server = self._context(ssl.PROTOCOL_TLS_SERVER, choice)
            server.set_alpn_protocols(list(self._alpn))
            if files.wants_certificates:
                server.verify_mode = ssl.CERT_REQUIRED
                self._trust(server)
                # Who resumes a session is not asked for his certificate again. That of TLS 1.2 cannot be told off, so
                # the rules look at dates, too; new files have a context, and so sessions, of their own.
                server.options |= ssl.OP_NO_TICKET
                server.num_tickets = 0
            own = self._own()
        client = self._context(ssl.PROTOCOL_TLS_CLIENT, choice)
        client.hostname_checks_common_name = False
        if files.is_self_signed:
            client.check_hostname = False
            client.verify_mode = ssl.CERT_NONE
        else:
            self._trust(client)
        return Loaded(server, client, rules, own)

    def _context(self, protocol: int, choice: Choice) -> ssl.SSLContext:
        files = self.files
        context = ssl.SSLContext(protocol)
        context.minimum_version = ssl.TLSVersion.TLSv1_2 if choice.suites else ssl.TLSVersion.TLSv1_3
        if not choice.has_tls13:
            context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION | ssl.OP_CIPHER_SERVER_PREFERENCE
        if choice.suites:
            try:
                context.set_ciphers(choice.suites)
            except ssl.SSLError:
                raise SecurityError(f"--cipher-suites: this host's OpenSSL has none of {choice.suites}") from None
        if files.cert_file and files.key_file:
            self._read(files.cert_file, "cert-file")
            self._read(files.key_file, "key-file")
            try:
                context.load_cert_chain(files.cert_file, files.key_file, password=_no_passphrase)
            except (ssl.SSLError, OSError, ValueError) as error:
                raise SecurityError(
                    f"{files.flag('cert-file')}={files.cert_file} with {files.flag('key-file')}={files.key_file}: "
                    f"{_reason(error)}: give a certificate and its key, both PEM, the key without a passphrase"
                ) from None
        return context

    def _trust(self, context: ssl.SSLContext) -> None:
        path = self.files.trusted_ca_file
        if not path:
            context.load_default_certs(
                ssl.Purpose.CLIENT_AUTH if context.protocol == ssl.PROTOCOL_TLS_SERVER else ssl.Purpose.SERVER_AUTH
            )
            return
        self._read(path, "trusted-ca-file")
        # As in Go, each certificate of the file is an anchor, also one that another CA has signed.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        try:
            context.load_verify_locations(path)
        except (ssl.SSLError, OSError) as error:
            raise SecurityError(
                f"{self.files.flag('trusted-ca-file')}={path}: {_reason(error)}: give certificates of CAs in PEM"
            ) from None

    def _revoked(self) -> frozenset[int]:
        path = self.files.crl_file
        if not path:
            return frozenset()
        data = self._read(path, "crl-file")
        try:
            revoked, replaced_s = certificates.revoked_serials(data)
        except ValueError as error:
            raise SecurityError(
                f"{self.files.flag('crl-file')}={path}: {_reason(error)}: give revocation lists in PEM, or one in DER"
            ) from None
        if replaced_s is not None and replaced_s < clock.wall_ns() // 10**9:
            _log.warning("a revocation list should have been replaced by now, and stays in force", path=path)
        return revoked

    def _own(self) -> Certificate:
        """The leaf."""
        path = self.files.cert_file
        pem = self._read(path, "cert-file").decode("latin-1")
        _, _, rest = pem.partition(ssl.PEM_HEADER)
        leaf = ssl.PEM_HEADER + rest.partition(ssl.PEM_FOOTER)[0] + ssl.PEM_FOOTER
        try:
            return certificates.parse(ssl.PEM_cert_to_DER_cert(leaf))
        except ValueError as error:
            raise SecurityError(f"{self.files.flag('cert-file')}={path}: {_reason(error)}: give one in PEM") from None

    def _read(self, path: str, flag: str) -> bytes:
        """The bytes of a file. OpenSSL reads it for itself, and does not say which of two it could not open."""
        try:
            with open(path, "rb") as file:  # noqa: PTH123 -- the path is named in errors as it was given
                return file.read()
        except OSError as error:
            raise SecurityError(
                f"{self.files.flag(flag)}={path}: open {path}: {error.strerror}: give a file that this user can read"
            ) from None

    def _say_when_it_ends(self) -> None:
        own, now_s = self._loaded.own, clock.wall_ns() // 10**9
        if own is None:
            return
        fields = {"path": self.files.cert_file, "names": own.names, "days": (own.ends_s - now_s) // 86_400}
        if own.ends_s <= now_s:
            _log.error("the certificate that is served has ended: nobody who looks will accept it", **fields)
        elif own.starts_s > now_s:
            _log.error("the certificate that is served has not begun: nobody who looks will accept it", **fields)
        elif own.ends_s - now_s < SOON_S:
            _log.warning("the certificate that is served ends soon: renew it in place, it is read anew", **fields)


def _no_passphrase() -> str:
    """OpenSSL would ask at the terminal."""
    raise ValueError("the key has a passphrase")


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        words = (error.reason or "").replace("_", " ").lower()
        return words or str(error)
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return str(error).partition("\n")[0]
