"""A connection over a transport that is none: what it keeps of large data, and what it bears from who sends nothing."""

import asyncio
import contextlib
import ssl
from pathlib import Path
from typing import Any, Final, cast

import pytest

from kvraft.security.connection import TlsConnection
from kvraft.security.credentials import Credentials
from kvraft.security.engine import Engine
from kvraft.security.files import TlsFiles
from kvraft.testing.certificates import Authority
from tests.security.changing_keys import KEY_UPDATE_BYTES, key_update

KEPT_MAX: Final = 100_000
"""What a connection may have in one of OpenSSL's buffers, which never shrink."""


BROKEN: Final = b"\x17\x03\x03\x00\x20" + bytes(32)
"""A record that nobody has encrypted."""


class Plain(asyncio.Transport):
    """Keeps what it is given until somebody reads."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.writes = 0
        self.is_aborted = False
        self.has_ended = False

    def set_protocol(self, _protocol: asyncio.BaseProtocol) -> None:
        pass

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.has_ended, "uvloop raises an error of its own"
        self.writes += 1
        self.written.append(bytes(data))

    def writelines(self, list_of_data: Any) -> None:
        self.write(b"".join(list_of_data))

    def write_eof(self) -> None:
        self.has_ended = True

    def get_write_buffer_size(self) -> int:
        return sum(map(len, self.written))

    def close(self) -> None:
        self.has_ended = True

    def abort(self) -> None:
        self.is_aborted = True

    def read(self) -> bytes:
        data = b"".join(self.written)
        self.written.clear()
        return data


class App(asyncio.Protocol):
    """Keeps what it hears."""

    def __init__(self) -> None:
        self.reads: list[bytes] = []
        self.lost: list[Exception | None] = []

    def data_received(self, data: bytes) -> None:
        self.reads.append(data)

    def eof_received(self) -> bool:
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.append(exc)


class Watched:
    """A buffer of OpenSSL, and the most that it has held."""

    def __init__(self, bio: ssl.MemoryBIO) -> None:
        self.bio = bio
        self.most = 0

    @property
    def pending(self) -> int:
        return self.bio.pending

    def write(self, data: bytes) -> int:
        taken = self.bio.write(data)
        self.most = max(self.most, self.bio.pending)
        return taken

    def read(self) -> bytes:
        self.most = max(self.most, self.bio.pending)
        return self.bio.read()


class Pair:
    """A client whose bytes go where the test says, and the connection that it has."""

    def __init__(self, directory: Path) -> None:
        ca = Authority(directory)
        server = ca.issue("server")
        credentials = Credentials(TlsFiles(cert_file=server.cert_file, key_file=server.key_file))
        engine = Engine(credentials.server_context())
        self.client = Engine(ssl.create_default_context(cafile=ca.ca_file), "localhost")
        complete = False
        while not complete:
            self.client.shake_hands()
            engine.incoming.write(self.client.outgoing.read())
            complete = engine.shake_hands()
            self.client.incoming.write(engine.outgoing.read())
        self.incoming, self.outgoing = Watched(engine.incoming), Watched(engine.outgoing)
        engine.incoming, engine.outgoing = cast("ssl.MemoryBIO", self.incoming), cast("ssl.MemoryBIO", self.outgoing)
        self.plain, self.app = Plain(), App()
        self.rejections: list[str] = []
        self.connection = TlsConnection(self.plain, engine, None, self.rejections.append)
        self.connection.begin(self.app)
        assert self.plain.writes == 0

    def sent(self, data: bytes) -> bytes:
        """What leaves the client for this."""
        self.client.session.write(data)
        return self.client.outgoing.read()

    def received(self) -> bytes:
        """What the client has read, of all that was written until now."""
        self.client.incoming.write(self.plain.read())
        data = b""
        with contextlib.suppress(ssl.SSLWantReadError):
            while record := self.client.session.read(1 << 14):
                data += record
        return data


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return Pair(tmp_path)


@pytest.mark.parametrize("size", [1, 16 << 10, 64 << 10, (64 << 10) + 1, 8 << 20])
def test_large_answer_leaves_in_one_write_and_nothing_of_it_stays(pair: Pair, size: int) -> None:
    """OpenSSL's buffers never shrink, and idle connections are many."""
    data = bytes(range(256)) * (size // 256) + bytes(size % 256)
    pair.connection.write(data)
    assert pair.plain.writes == 1
    assert pair.received() == data
    assert pair.outgoing.most < KEPT_MAX


@pytest.mark.parametrize("read_bytes", [1000, 16 << 10, 250_000, 1 << 30])
def test_large_request_is_given_on_read_by_read_and_nothing_of_it_stays(pair: Pair, read_bytes: int) -> None:
    """Records end where they like."""
    data = bytes(range(256)) * (2 << 12)
    sent = pair.sent(data)
    reads = [sent[begin : begin + read_bytes] for begin in range(0, len(sent), read_bytes)]
    for read in reads:
        pair.connection.data_received(read)
    assert b"".join(pair.app.reads) == data
    assert len(pair.app.reads) <= len(reads)
    assert pair.incoming.most < KEPT_MAX
    assert pair.rejections == []


def test_what_comes_before_a_broken_record_is_given_on(pair: Pair) -> None:
    """Whole records and, in the same read, one that is none."""
    sent = pair.sent(b"x" * 100_000)
    pair.connection.data_received(sent + BROKEN)
    assert pair.app.reads == [b"x" * 100_000]
    assert pair.plain.has_ended


def test_changes_of_keys_between_data_are_answered(pair: Pair) -> None:
    """A client may change its keys as often as it likes, as long as it says something and reads."""
    for number in range(2000):
        pair.connection.data_received(key_update(pair.client) + pair.sent(b"%d" % number))
        assert pair.received() == b""
    assert pair.app.reads == [b"%d" % number for number in range(2000)]
    pair.connection.write(b"answer")
    assert pair.received() == b"answer"
    assert pair.rejections == []


@pytest.mark.parametrize("read_bytes", [KEY_UPDATE_BYTES, 10_000, 80_000])
def test_flood_of_changes_of_keys_ends_after_64_kib(pair: Pair, read_bytes: int) -> None:
    """Each costs two derivations of keys, and a read of uvloop may have ten thousand."""
    flood = b"".join(key_update(pair.client) for _ in range(80_000 // KEY_UPDATE_BYTES))
    for begin in range(0, len(flood), read_bytes):
        pair.connection.data_received(flood[begin : begin + read_bytes])
        pair.plain.read()
        if pair.plain.is_aborted:
            break
    assert pair.plain.is_aborted
    assert begin <= 64 << 10
    assert pair.rejections == ["64 KiB of TLS records without data in them"]
    assert pair.connection.is_closing()


def test_flood_with_a_little_data_in_it_ends_too(pair: Pair) -> None:
    """A byte now and then does not make a client of it."""
    flood = [b"".join(key_update(pair.client) for _ in range(100)) + pair.sent(b"x") for _ in range(40)]
    pair.connection.data_received(b"".join(flood))
    assert pair.rejections == ["64 KiB of TLS records without data in them"]


def test_many_small_records_are_data(pair: Pair) -> None:
    """A client may write byte by byte."""
    pair.connection.data_received(b"".join(pair.sent(b"x") for _ in range(10_000)))
    assert pair.app.reads == [b"x" * 10_000]
    assert pair.rejections == []


def test_who_reads_no_answers_to_changes_of_keys_is_ended(pair: Pair) -> None:
    """Data in between help nobody: the answers would be kept without a limit."""
    for _ in range(2500):
        pair.connection.data_received(key_update(pair.client) + pair.sent(b"x"))
        if pair.plain.is_aborted:
            break
    assert pair.plain.is_aborted
    assert pair.rejections == ["it changes keys again and again, and reads no answer"]
    assert pair.plain.get_write_buffer_size() <= 64 << 10


def test_what_follows_a_goodbye_is_not_kept(pair: Pair) -> None:
    """OpenSSL reads nothing of it any more."""
    pair.connection.data_received(_goodbye(pair.client))
    for _ in range(100):
        pair.connection.data_received(bytes(10_000))
        if pair.plain.is_aborted:
            break
    assert pair.plain.is_aborted
    assert pair.incoming.most < KEPT_MAX


@pytest.mark.parametrize("is_broken", [False, True])
def test_nothing_is_answered_behind_the_own_goodbye(pair: Pair, is_broken: bool) -> None:
    """Neither a change of keys nor what is no TLS: nothing can be written to what has ended."""
    pair.connection.write_eof()
    for _ in range(3):
        pair.connection.data_received(BROKEN if is_broken else key_update(pair.client))
    assert pair.rejections == []


def test_end_by_a_flood_is_told_to_the_protocol(pair: Pair) -> None:
    """As the reason for which it lost its connection."""
    pair.connection.data_received(b"".join(key_update(pair.client) for _ in range((64 << 10) // KEY_UPDATE_BYTES + 1)))
    pair.connection.connection_lost(None)
    assert [str(error) for error in pair.app.lost] == ["64 KiB of TLS records without data in them"]


def _goodbye(engine: Engine) -> bytes:
    with pytest.raises(ssl.SSLWantReadError):
        engine.session.unwrap()
    return engine.outgoing.read()
