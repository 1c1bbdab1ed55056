"""What an Authorization header says, and which of them were found right lately.

A password costs a hash of some 60 ms to compare, so that nobody can try many; who is right is remembered, so that he
pays once. What is remembered is a digest under a key that this process drew and keeps: neither the password nor what
it could be guessed by.
"""

import binascii
import re
import secrets
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Final, final

REMEMBERED_MAX: Final = 10_000
"""Different headers: more than any cluster has users. The oldest gives way."""
_DIGEST_BYTES: Final = 32
_SCHEME: Final = b"basic "
_LINE_ENDS: Final = re.compile(rb"[\r\n]")


@final
@dataclass(slots=True, frozen=True)
class Login:
    """Who asks, found right."""

    name: str
    """Empty: nobody in particular, the guest."""
    password_hash: bytes = field(default=b"", repr=False)
    """That of the user when the password was compared: with another one it counts no more. Empty without password."""


GUEST: Final = Login("")


def basic(header: bytes) -> tuple[bytes, bytes] | None:
    """Name and password of a Basic header; None if it is something else (Go's `Request.BasicAuth`)."""
    if header[: len(_SCHEME)].lower() != _SCHEME:
        return None
    try:
        # Go passes over line ends, and over nothing else.
        encoded = _LINE_ENDS.sub(b"", header[len(_SCHEME) :])
        decoded = binascii.a2b_base64(encoded, strict_mode=True)
    except binascii.Error:
        return None
    if len(encoded) % 4:
        return None  # too many signs at its end, which Python takes
    name, colon, password = decoded.partition(b":")
    return (name, password) if colon else None


@final
class RememberedLogins:
    """The headers that were found right."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(_DIGEST_BYTES)
        self._logins: dict[bytes, Login] = {}

    def digest(self, header: bytes) -> bytes:
        """What stands for a header. Different headers of one user may differ in form alone; that costs a hash each."""
        return blake2b(header, key=self._key, digest_size=_DIGEST_BYTES).digest()

    def find(self, digest: bytes) -> Login | None:
        """Whose header it is, as long as his hash is the same; None if it is not known."""
        return self._logins.get(digest)

    def remember(self, digest: bytes, login: Login) -> None:
        """This header is right."""
        self._logins.pop(digest, None)
        if len(self._logins) >= REMEMBERED_MAX:
            del self._logins[next(iter(self._logins))]
        self._logins[digest] = login

    def forget(self, digest: bytes) -> None:
        """Its user has another password now, or is gone."""
        self._logins.pop(digest, None)
