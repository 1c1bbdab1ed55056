"""Answers that are not the keyspace's: plain text as Go's net/http sends it, and etcd's `{"message":...}`. Pure."""

from typing import Final

from kvraft.api_v2.answers import Answer
from kvraft.api_v2.go_json import quote

PLAIN: Final = b"Content-Type: text/plain; charset=utf-8\r\n"
_PLAIN_ERROR: Final = PLAIN + b"X-Content-Type-Options: nosniff\r\n"
_JSON: Final = b"Content-Type: application/json\r\n"


def text_error(status: int, text: bytes, headers: bytes = b"") -> Answer:
    """http.Error: plain text with a line feed, and browsers told not to guess."""
    return Answer(status, headers + _PLAIN_ERROR, text + b"\n")


def not_found() -> Answer:
    """http.NotFound."""
    return text_error(404, b"404 page not found")


def unknown_host(host: bytes) -> Answer:
    """What etcd 3.4 answers to a Host that `--host-whitelist` lacks (embed/serve.go, errCVE20185702).

    `host` is quoted as a JSON text, which for every name of a host is as Go quotes it.
    """
    text = (
        b"\netcd received your request, but the Host header was unrecognized.\n\n"
        b"To fix this, choose one of the following options:\n"
        b"- Enable TLS, then any HTTPS request will be allowed.\n"
        b"- Add the hostname you want to use to the whitelist in settings.\n"
        b"  - e.g. etcd --host-whitelist " + quote(host) + b"\n\n"
        b'This requirement has been added to help prevent "DNS Rebinding" attacks (CVE-2018-5702).\n'
    )
    return text_error(421, text)


def method_not_allowed(allowed: bytes, headers: bytes = b"") -> Answer:
    """What etcd's allowMethod answers. `allowed` is its list, comma without space; empty: no Allow header."""
    allow = b"Allow: " + allowed + b"\r\n" if allowed else b""
    return text_error(405, b"Method Not Allowed", allow + headers)


def bad_request(reason: bytes = b"") -> Answer:
    """A request that is not HTTP as Go understands it; the connection ends with it."""
    text = b"400 Bad Request" + (b": " + reason if reason else b"")
    return Answer(400, PLAIN, text, close=True)


def head_too_large() -> Answer:
    """A request line or header lines beyond the limits; the connection ends with it."""
    return Answer(431, PLAIN, b"431 Request Header Fields Too Large", close=True)


def too_slow() -> Answer:
    """A request whose rest does not come while the server has no room for so many; the connection ends with it."""
    text = b"408 Request Timeout: too many unfinished requests: send all of it again"
    return Answer(408, PLAIN, text, close=True)


def message(status: int, text: bytes, headers: bytes = _JSON) -> Answer:
    """httptypes.HTTPError: `{"message":...}` without a line feed."""
    return Answer(status, headers, b'{"message":' + quote(text) + b"}")
