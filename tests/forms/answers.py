"""`python -m tests.forms.answers --seed 1 --requests 1000`: a cluster in one process, and what its clients are told.

Three whole members on memory disks, in virtual time, each with the fast front before it; requests as the differential
test sends them to etcd, some in pieces, pipelined, damaged, or of clients that stop reading or sending. Every byte that
a client gets is printed (its hash, and the first of them), and in the end the state of each member, so that two runs
can be compared line by line. The same seed prints the same.
"""

import argparse
import asyncio
import contextlib
import hashlib
import pathlib
import random
import tempfile
from collections.abc import Sequence
from typing import Any, Final, cast, final

from kvraft import clock
from kvraft.api_v2.app import App
from kvraft.api_v2.backend import Backend
from kvraft.api_v2.fast_protocol import FastFront
from kvraft.api_v2.http_dates import DateLine
from kvraft.api_v2.settings import ApiSettings
from kvraft.api_v2.unfinished import Unfinished
from kvraft.api_v2.unread import Unread
from kvraft.member.settings import MemberSettings
from kvraft.metrics import Metrics
from tests.conformance.differential.generate import sequence_of
from tests.conformance.differential.steps import Ask, Elsewhere, Expire, OpenWatch, Oversized, Step, World, request_of
from tests.conformance.wire import Request, keys_request
from tests.member import virtual_time
from tests.member.host import MEMBER_IDS, Host
from tests.member.network import Network

ANSWER_S: Final = 1.0
"""A client that has no answer by then goes on with something else, as those do that watch."""
FOUNDED_S: Final = 5.0
SETTINGS: Final = MemberSettings(snapshot_count=200, catch_up_entries=50, flush_interval_ms=700, flush_commands_max=100)


@final
class Client:
    """A connection to one member: the transport below a protocol of the fast front."""

    def __init__(self, front: FastFront) -> None:
        self._protocol = cast("Any", front.new_protocol())
        self.told = b""
        """All that was written to it, and in angle brackets what else the member did with the connection."""
        self.is_open = True
        self._heard = asyncio.Event()
        self._protocol.connection_made(self)

    # -- what the front does ------------------------------------------------------------------------------------

    def get_extra_info(self, name: str) -> object:
        """Of its address nothing is shown."""
        return self if name == "socket" else None

    def setsockopt(self, *_option: int) -> None:
        """As a socket."""

    def set_write_buffer_limits(self, _high: int) -> None:
        """It never fills."""

    def write(self, data: bytes) -> None:
        """Bytes for the client."""
        self.told += data
        self._heard.set()

    def writelines(self, parts: Sequence[bytes]) -> None:
        """Bytes for the client."""
        self.write(b"".join(parts))

    def pause_reading(self) -> None:
        """Too much was sent ahead."""
        self.told += b"<pause>"

    def resume_reading(self) -> None:
        """It may go on."""
        self.told += b"<resume>"

    def is_closing(self) -> bool:
        """Whether it is over."""
        return not self.is_open

    def write_eof(self) -> None:
        """The last was written."""
        self.told += b"<eof>"

    def close(self) -> None:
        """The member ends it."""
        self._end(b"<close>")

    def abort(self) -> None:
        """The member ends it at once."""
        self._end(b"<abort>")

    def handed_over(self, received: bytes, *, last: bool) -> None:
        """It is aiohttp's now, which is the same in both forms."""
        self.is_open = False
        self.told += b"<aiohttp's, with %d bytes %b, last %d>" % (len(received), received[:80], last)
        self._heard.set()

    def _end(self, how: bytes) -> None:
        if self.is_open:
            self.is_open = False
            self.told += how
            self._heard.set()
            asyncio.get_running_loop().call_soon(self._protocol.connection_lost, None)

    # -- what the client does -----------------------------------------------------------------------------------

    def send(self, data: bytes) -> None:
        """Bytes for the member."""
        if self.is_open:
            self._protocol.data_received(data)

    async def ask(self, data: bytes) -> bytes:
        """What the member says next, as far as it says something soon."""
        before = len(self.told)
        self._heard.clear()
        self.send(data)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ANSWER_S):
                await self._heard.wait()
        return self.told[before:]

    def stop_reading(self) -> None:
        """What it is told waits before it."""
        if self.is_open:
            self._protocol.pause_writing()

    def read_on(self) -> None:
        """It has taken everything."""
        if self.is_open:
            self._protocol.resume_writing()

    def stop_sending(self) -> None:
        """It reads on."""
        if self.is_open and not self._protocol.eof_received():
            self.close()


@final
class AiohttpFront:
    """Takes what the fast front does not serve."""

    def adopt(self, transport: Client, received: bytes, *, last: bool) -> None:
        """As `LateFront`."""
        transport.handed_over(received, last=last)


@final
class Story:
    """Three members and what is asked of them."""

    def __init__(self, seed: int, directory: pathlib.Path) -> None:
        self._rng = random.Random(seed)
        network = Network(random.Random(self._rng.random()))
        self._hosts = []
        for member_id in MEMBER_IDS:
            place = directory / str(member_id)
            place.mkdir()
            self._hosts.append(Host(member_id, network, place, SETTINGS, random.Random(self._rng.random())))
        self._fronts: list[FastFront] = []
        self._clients: list[Client] = []
        self._world = World(0)

    async def tell(self, requests: int) -> None:
        """Ask so much, and print what was answered."""
        for host in self._hosts:
            host.start()
        await asyncio.sleep(FOUNDED_S)
        assert all(host.serving for host in self._hosts), "a cluster that is left in peace is there by then"
        self._fronts = [self._front(host) for host in self._hosts]
        asked = 0
        while asked < requests:
            sequence = sequence_of(self._rng)
            for step in sequence.steps:
                await self._take(step, sequence.prefix)
            asked += len(sequence.steps)
            await asyncio.sleep(self._rng.choice((0, 0, 0.3, 2.5)))
            await self._take_leave()
        for client in self._clients:
            self._print(client)
        await asyncio.sleep(5)
        for host in self._hosts:
            assert host.run is not None
            assert not host.failures, host.failures
            keyspace = host.run.member.clients.keyspace
            print("member", host.member_id, keyspace.etcd_index, keyspace.state_hash)
            await host.run.stop()

    def _front(self, host: Host) -> FastFront:
        assert host.run is not None
        backend = cast("Backend", host.run.member.clients)
        app = App(backend, ApiSettings(), Metrics())
        dates = DateLine(clock.wall_ns)
        return FastFront(app, dates, cast("Any", AiohttpFront()), Unread(1 << 20), Unfinished(1 << 20))

    async def _take(self, step: Step, prefix: str) -> None:
        match step:
            case Ask():
                before = self._world.index
                told = await self._ask(request_of(step, prefix, self._world))
                self._world.index = max(before, _index_in(told))
                if told.startswith(b"HTTP/1.1 20") and step.method != "GET" and self._world.index > before:
                    self._world.note_write(step, self._world.index)
            case OpenWatch():
                query = f"wait=true&recursive={str(step.recursive).lower()}&stream={str(step.stream).lower()}"
                if step.wait_index is not None:
                    query += f"&waitIndex={self._world.resolve(step.wait_index, step.path)}"
                self._clients.append(watching := Client(self._rng.choice(self._fronts)))
                watching.send(keys_request("GET", prefix + step.path, query=query).encode("h"))
            case Expire():
                for path in step.paths:
                    form = f"ttl={step.ttl}" + ("&dir=true" if step.directory else "&value=x")
                    await self._ask(keys_request("PUT", prefix + path, form))
                await asyncio.sleep(1.5)
            case Elsewhere():
                if "stats" not in step.target and "metrics" not in step.target and "debug" not in step.target:
                    await self._ask(Request(step.method, step.target.encode()))
            case Oversized():
                await self._ask(keys_request("PUT", prefix + step.path, "value=" + "v" * (300 << 10)))
            case _:
                raise AssertionError(step)

    async def _ask(self, request: Request) -> bytes:
        """The answer of one of some clients, who have manners of their own."""
        data = request.encode("127.0.0.1:2379")
        rng = self._rng
        idle = [client for client in self._clients if client.is_open][-8:]
        if not idle or rng.random() < 0.1:
            self._clients.append(client := Client(rng.choice(self._fronts)))
        else:
            client = rng.choice(idle)
        manner = rng.random()
        if manner < 0.1:
            cut = rng.randrange(len(data))
            client.send(data[:cut])
            await asyncio.sleep(rng.choice((0, 0.01)))
            data = data[cut:]
        elif manner < 0.15:
            data += keys_request("GET", "/a", query="recursive=true&sorted=true").encode("h")
        elif manner < 0.2:
            at = rng.randrange(len(data))
            data = data[:at] + rng.choice((b"", b"\0", b"\r\n", b"%", b"\xff", b" ", b":")) + data[at + 1 :]
        elif manner < 0.22:
            client.stop_reading()
        elif manner < 0.24:
            client.read_on()
        told = await client.ask(data)
        if manner > 0.99:
            client.stop_sending()
        return told

    async def _take_leave(self) -> None:
        """Some clients go; what the others are told until then is as much as is compared of it."""
        for client in self._rng.sample(self._clients, len(self._clients) // 2):
            client.read_on()
            client.stop_sending()
            client.close()
            self._clients.remove(client)
            self._print(client)

    def _print(self, client: Client) -> None:
        told = client.told
        print(hashlib.blake2b(told, digest_size=8).hexdigest(), len(told), told[:2000])


def _index_in(told: bytes) -> int:
    _, _, rest = told.partition(b"X-Etcd-Index: ")
    return int(rest.partition(b"\r\n")[0] or 0)


def main() -> None:
    """Tell one story."""
    parser = argparse.ArgumentParser(prog="python -m tests.forms.answers", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--requests", type=int, default=1000)
    given = parser.parse_args()

    async def story(directory: pathlib.Path) -> None:
        await Story(given.seed, directory).tell(given.requests)

    with tempfile.TemporaryDirectory() as directory:
        virtual_time.run(story(pathlib.Path(directory)))


if __name__ == "__main__":
    main()
