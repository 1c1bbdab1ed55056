"""The heads of the plain requests that `fast_protocol` serves itself. Pure.

Only what is beyond doubt is read here: one Host, at most one Content-Length and Content-Type, no Transfer-Encoding, no
folded line, no odd character. Everything else is None, and aiohttp, which is then given the connection, judges it; so
requests are refused in one place, and nothing is read differently here and there.

Clients repeat their header lines to the byte, so parsed ones are remembered, those with a password by a keyed digest.
A digest costs as much as all else that is done with a head, so a head with a password is known by its bytes as well,
but only for the moment: `forget_lately` is called every so many seconds.
"""

import re
import secrets
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Final, final

from kvraft.api_v2.asker import says_forwarded

HEAD_BYTES_MAX: Final = 64 << 10
"""Longer heads are aiohttp's: they are rare, and their length is then limited in one place."""

_HEADERS_MAX: Final = 64
_REMEMBERED_MAX: Final = 1024
"""How many distinct header blocks are remembered; forgotten all at once when there are more."""
_REMEMBERED_BYTES_MAX: Final = 2048

_HEADER: Final = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):([\t\x20-\x7e\x80-\xff]*)")
_CONTENT_LENGTH: Final = re.compile(rb"[0-9]{1,9}")
_HOST: Final = re.compile(rb"[A-Za-z0-9._~:\[\]\-]+")
_NOT_PLAIN: Final = frozenset((b"transfer-encoding", b"expect", b"upgrade", b"origin", b"te", b"trailer"))
"""Headers that change how a request is read or whether it may write."""


@final
@dataclass(slots=True, frozen=True)
class HeaderFacts:
    """What an answer depends on of a request's header lines."""

    content_length: int
    content_type: bytes | None
    keep_alive: bool
    has_credentials: bool = False
    """Whether there is an Authorization header; what it says is read when somebody wants to know."""
    forwarded: bool = False
    """Whether a proxy says that it has sent this on."""
    token: bytes = b""
    """Stands for all header lines, if one of them is an Authorization: a keyed digest, the same as long as they are."""


NO_FACTS: Final = HeaderFacts(0, None, keep_alive=True)
_CREDENTIALS: Final = re.compile(rb"authorization", re.IGNORECASE)
_ONCE: Final = frozenset((b"content-length", b"content-type", b"host", b"authorization"))
"""Twice, they are not plain."""
_DIGEST_KEY: Final = secrets.token_bytes(32)

_remembered: dict[bytes, HeaderFacts | None] = {}
_lately: dict[bytes, HeaderFacts] = {}
"""Plain heads with credentials, as they came."""
_NEW: Final = HeaderFacts(0, None, keep_alive=False)


def header_facts(block: bytes) -> HeaderFacts | None:
    """The facts of a head's header lines, each with its CRLF; None if they are not plain."""
    known = _remembered.get(block, _NEW)
    if known is not _NEW:
        return known
    lately = _lately.get(block)
    if lately is not None:
        return lately
    facts = _read(block)
    if facts is not None and facts.has_credentials and len(block) <= _REMEMBERED_BYTES_MAX:
        if len(_lately) >= _REMEMBERED_MAX:
            _lately.clear()
        _lately[block] = facts
    return facts


def forget_lately() -> None:
    """Keep no password."""
    _lately.clear()


def _read(block: bytes) -> HeaderFacts | None:
    """The facts of a block that has not come lately."""
    key, token = block, b""
    if b"uthorization" in block or _CREDENTIALS.search(block):
        # Nothing that is kept for long shows a password.
        key = token = blake2b(block, key=_DIGEST_KEY, digest_size=32).digest()
        known = _remembered.get(key, _NEW)
        if known is not _NEW:
            return known
    facts = parse_headers(block)
    if facts is not None and facts.has_credentials:
        facts = replace(facts, token=token)
    if len(block) <= _REMEMBERED_BYTES_MAX:
        if len(_remembered) >= _REMEMBERED_MAX:
            _remembered.clear()
        _remembered[key] = facts
    return facts


def parse_headers(block: bytes) -> HeaderFacts | None:
    """`header_facts` without memory."""
    lines = block.split(b"\r\n")
    if lines.pop() or len(lines) > _HEADERS_MAX:
        return None
    keep_alive = True
    once: dict[bytes, bytes] = {}
    for line in lines:
        header = _HEADER.fullmatch(line)
        if header is None:
            return None
        name, value = header.group(1).lower(), header.group(2).strip(b" \t")
        if name in _NOT_PLAIN or (name in once and name in _ONCE):
            return None
        if name == b"connection":
            token = value.lower()
            if token not in {b"keep-alive", b"close"}:
                return None
            keep_alive = keep_alive and token == b"keep-alive"
        once[name] = value
    host, length = once.get(b"host", b""), once.get(b"content-length", b"0")
    if not _HOST.fullmatch(host) or not _CONTENT_LENGTH.fullmatch(length):
        return None
    forwarded = says_forwarded(once)
    return HeaderFacts(int(length), once.get(b"content-type"), keep_alive, b"authorization" in once, forwarded)
