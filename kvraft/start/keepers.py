"""Files of TLS, read when they are first needed, one keeper for each kind of URL."""

import pathlib
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final, final

from kvraft.security.files import TlsFiles
from kvraft.settings.urls import Url

if TYPE_CHECKING:
    from kvraft.security.credentials import Credentials

CLIENT_ALPN: Final = ("http/1.1",)
"""`h2` comes before it when it is spoken; a client that offers only that is then served as if it offered nothing."""
PEER_ALPN: Final = ("http/1.1", "h2")
"""Who speaks both gets pages; gRPC offers `h2` alone."""


@final
class Keeper:
    """Credentials of one kind of URL, read when they are first asked for."""

    def __init__(self, files: TlsFiles, listen: Sequence[Url], alpn: tuple[str, ...]) -> None:
        self.files = files
        self.is_served: Final = any(url.is_secure for url in listen)
        self._listen: Final = listen
        self._alpn: Final = alpn
        self._credentials: Credentials | None = None

    def credentials(self) -> "Credentials":
        """What the files hold; without any, the system's CAs are believed and nothing is shown.

        Raises:
            SecurityError: a file cannot be used. Not after it could once.
        """
        if self._credentials is None:
            from kvraft.security.credentials import Credentials  # noqa: PLC0415 -- who has no TLS does not load it

            self._credentials = Credentials(self.files, self._alpn)
        return self._credentials

    def make_missing(self, directory: pathlib.Path) -> None:
        """Make a certificate that is signed by itself, if one is to be served and there is none.

        Raises:
            SecurityError: it cannot be written.
        """
        if self.files.is_self_signed and self.is_served:
            from kvraft.security.self_signed import make_if_missing  # noqa: PLC0415 -- who has no TLS does not load it

            cert, key = make_if_missing(directory, [url.host for url in self._listen])
            self.files = replace(self.files, cert_file=cert, key_file=key)
            self._credentials = None
