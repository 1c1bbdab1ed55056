"""What the guided fuzzer demands of each target: functions of bytes that raise where a bug is."""

import asyncio
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from aiohttp.base_protocol import BaseProtocol
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import HttpRequestParser

from kvraft.api_v2.key_requests import parse_general, parse_key_request
from kvraft.api_v2.request_heads import parse_headers
from kvraft.api_v2.request_splitter import Piece, Splitter
from kvraft.api_v2.targets import clean_path, parse_target, redirect_header, redirect_url
from kvraft.keyspace.errors import EtcdError
from kvraft.raft.messages import Heartbeat
from kvraft.transport import framing
from kvraft.transport.codec import WireError, Word, encode_frames, encode_word
from tests.fuzz import peers, records, settings

NOW_NS: Final = 10**18
LINE_BYTES_MAX: Final = 200
HEADER_BYTES_MAX: Final = 300
HEADERS_MAX: Final = 5
METHODS: Final = (b"GET", b"HEAD", b"PUT", b"POST", b"DELETE")
FORM: Final = b"application/x-www-form-urlencoded"
RECORDS: Final = sorted({**records.SEALED, **records.PLAIN})


def _fed(data: bytes, size: int) -> tuple[list[Piece], bool]:
    """Every piece of what comes `size` bytes at a time, and whether all of it was told apart."""
    splitter = Splitter(LINE_BYTES_MAX, HEADER_BYTES_MAX, HEADERS_MAX)
    pieces = [piece for at in range(0, len(data), size) for piece in splitter.feed(data[at : at + size])]
    return pieces, not splitter._over


def _requests(pieces: list[Piece]) -> list[tuple[bytes, bytes, bool]]:
    return [
        (piece.line.method, piece.line.target, piece.line.body_is_broken) for piece in pieces if piece.line is not None
    ]


def check_splitter(data: bytes) -> None:
    """The first byte says how the rest is cut; the requests are those of the whole, and one each for the parser."""
    if len(data) < 2:
        return
    size, data = 1 + data[0], data[1:]
    pieces, is_clear = _fed(data, size)
    whole, is_clear_as_a_whole = _fed(data, len(data))
    assert _requests(pieces) == _requests(whole)
    assert is_clear == is_clear_as_a_whole
    if is_clear:  # How much of what is refused is given on before differs.
        assert b"".join(piece.data for piece in pieces) == b"".join(piece.data for piece in whole)
    loop = asyncio.new_event_loop()
    try:
        parser = HttpRequestParser(BaseProtocol(loop), loop, 2**16)
        for piece in pieces:
            try:
                found = len(parser.feed_data(piece.data)[0])
            except HttpProcessingError:
                return
            if piece.line is not None:
                assert found == 1, piece
            else:
                assert found == 0, piece
    finally:
        loop.close()


def check_heads(data: bytes) -> None:
    """Header lines that are plain: aiohttp's parser takes them, and finds the same length, type and persistence."""
    facts = parse_headers(data)
    if facts is None:
        return
    loop = asyncio.new_event_loop()
    try:
        parser = HttpRequestParser(BaseProtocol(loop), loop, 2**16)
        ((message, _),) = parser.feed_data(b"PUT / HTTP/1.1\r\n" + data + b"\r\n")[0]
    finally:
        loop.close()
    assert int(message.headers.get("Content-Length", "0")) == facts.content_length
    content_type = message.headers.get("Content-Type")
    assert (content_type.encode("utf-8", "surrogateescape") if content_type is not None else None) == facts.content_type
    assert message.should_close != facts.keep_alive
    assert not message.chunked
    assert not message.upgrade


def check_key_request(data: bytes) -> None:
    """A byte for the method; then content type, query and body, with zero bytes between them."""
    if not data:
        return
    content_type, _, rest = data[1:].partition(b"\0")
    query, _, body = rest.partition(b"\0")
    request = (METHODS[data[0] % len(METHODS)], b"/k", query, content_type or None, body)
    assert _outcome(parse_key_request, request) == _outcome(parse_general, request)


def _outcome(parse: Callable[..., object], request: tuple[object, ...]) -> object:
    try:
        return parse(*request, lambda: NOW_NS)
    except EtcdError as error:
        assert error.index == 0
        return error.code, error.cause


def check_target(data: bytes) -> None:
    """What is taken has a clean path that stays as it is, and leads there by one header line."""
    target = parse_target(data)
    if target is None:
        return
    path = clean_path(target.path)
    assert path.startswith(b"/")
    assert clean_path(path) == path
    assert not {b"", b".", b".."} & set(path.strip(b"/").split(b"/")) or path == b"/"
    header = redirect_header(redirect_url(path, target.query))
    assert header.isascii()
    assert not set(header) & set(range(0x21))


def check_record(data: bytes) -> None:
    """The first byte names the kind of record."""
    if data:
        records.check((RECORDS[data[0] % len(RECORDS)], data[1:]), Path("/nonexistent"))


def check_settings(data: bytes) -> None:
    """A command line as a shell reads it, without variables; behind a NUL, what is in its configuration file."""
    line, separator, file = data.partition(b"\0")
    try:
        words = shlex.split(line.decode("utf-8", "replace"))
    except ValueError:  # an open quotation mark: no command line
        return
    settings.check((words, {}, file if separator else None))


def _good_record(name: str) -> bytes:
    if name in records.SEALED:
        return records.unsealed(name)
    return {
        "node": records.NODES[-1][1],
        "event": records.STATE.history[0][1],
        "meta": records.STATE.meta,
        "configuration": records.WITH_REMOVED.encode(),
        "entry": records.ENTRIES[0].chain_hash + records.ENTRIES[0].record,
    }[name]


def _messages(data: bytes, size: int) -> list[bytes] | None:
    """Every message of what comes `size` bytes at a time; None if it is damaged."""
    splitter = framing.Splitter(LINE_BYTES_MAX)
    try:
        return [message for at in range(0, len(data), size) for message in splitter.feed(data[at : at + size])]
    except WireError:
        return None


def check_session(data: bytes) -> None:
    """However a connection is cut its messages are the same, and each is one that a member can have sent, or refused.

    The first byte says how it is cut; of the rest every stretch up to a zero byte is sealed if the first byte is odd.
    """
    if not data:
        return
    size, stream = 1 + data[0] // 2, data[1:]
    if data[0] % 2:
        stream = b"".join(framing.seal(message) for message in stream.split(b"\x00"))
    messages = _messages(stream, size)
    assert messages == _messages(stream, 1)
    for message in messages or ():
        peers.check(message)


CHECKS: Final[Mapping[str, Callable[[bytes], object]]] = {
    "splitter": check_splitter,
    "heads": check_heads,
    "key-request": check_key_request,
    "targets": check_target,
    "records": check_record,
    "settings": check_settings,
    "session": check_session,
}
_HOST: Final = b"Host: a\r\n"
EXAMPLES: Final[Mapping[str, tuple[bytes, ...]]] = {
    "splitter": (
        b"\x03PUT /v2/keys/a HTTP/1.1\r\n"
        + _HOST
        + b"Content-Length: 3\r\n\r\nabcGET / HTTP/1.1\r\n"
        + _HOST
        + b"\r\n",
        b"\x40PUT / HTTP/1.1\r\n" + _HOST + b"Transfer-Encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\nT: x\r\n\r\n",
        b"\x01FOO / HTTP/1.0\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n",
    ),
    "session": (
        b"\x07" + encode_word(Word.ACCEPTED),
        b"\x20" + framing.seal(encode_word(Word.RETIRE)) + framing.PING + framing.seal(b"no message"),
        b"\x21" + encode_word(Word.FETCH) + b"\x00" + encode_frames([Heartbeat(3, 0, 5, 1)])[:5],
    ),
    "heads": (
        _HOST + b"Content-Length: 3\r\nContent-Type: " + FORM + b"\r\n",
        _HOST + b"Connection: close\r\nAccept: */*\r\n",
        _HOST + b"Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n",
    ),
    "key-request": (
        b"\x02" + FORM + b"\0prevExist=false&prevIndex=3\0value=a+b%20&ttl=5",
        b"\x00\0recursive=true&sorted=1&wait=true&waitIndex=7&stream=t&quorum=false\0",
        b"\x03" + FORM + b'; charset="utf-8"; a=b\0dir=true\0refresh=true&prevValue=x',
    ),
    "targets": (b"/v2/keys//a/../b/./%2e%2e/%c3%a9/?x=%zz#f", b"http://host:1/v2/keys?a", b"*"),
    "records": tuple(bytes([number]) + _good_record(name) for number, name in enumerate(RECORDS)),
    "settings": (
        b"--name n1 --peers n1=http://127.0.0.1:2380,n2=http://127.0.0.1:2381",
        b"--data-dir=x --listen-client-urls=http://[::1]:1,http://0.0.0.0:2 --heartbeat-interval 100",
        b"-election-timeout=1000 --initial-cluster-state existing --snapshot-count=5 --rebuild",
        b"--rebuild\0name: n1\nsnapshot-count: 5\nlog-outputs: [stderr]\npeer-transport-security: {auto-tls: false}",
    ),
}
"""What a grammar would begin with."""
