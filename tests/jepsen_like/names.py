"""What the names of members mean to each member, and a name server that a test can spoil.

Each member's process has an /etc/hosts and an /etc/resolv.conf of its own, bind mounts in its mount namespace.
"""

import asyncio
import dataclasses
import struct
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeAlias, cast, final

from tests.jepsen_like.network import CLIENTS, Network

Zone: TypeAlias = Mapping[str, Iterable[str]]
"""The addresses of each name, in the order in which they are told."""

FIRST_NET: Final = 1
LAST_NET: Final = 2
"""The third byte of the addresses between which a name moves; `Network.addresses` are left to clients."""

_DOMAIN: Final = "members.test"
_PORT: Final = 53
_TYPE_A: Final = 1
_RESPONSE_HERE: Final = 0x8480  # RFC 1035, 4.1.1: QR, AA, and RA for resolvers that ask for recursion
_NO_SUCH_NAME: Final = 3
_POINTER_TO_QUESTION: Final = 0xC00C
_BIND: Final = 'mount --bind "$0" /etc/hosts && mount --bind "$1" /etc/resolv.conf && shift && exec "$@"'


def name_of(member: str) -> str:
    """The host name of a member."""
    return f"{member}.{_DOMAIN}"


@final
class SystemFiles:
    """The files with which members resolve names. They may be changed while members run."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)

    def wrapper(self, member: str) -> tuple[str, ...]:
        """The words that start a command with the files of a member."""
        files = map(str, (self._hosts(member), self._resolv_conf(member)))
        return ("unshare", "--mount", "--propagation", "private", "--", "sh", "-c", _BIND, *files)

    def set_hosts(self, member: str, zone: Zone) -> None:
        """What the member's hosts file says, IPv4 and nothing else."""
        lines = [f"{address} {name}\n" for name, addresses in zone.items() for address in addresses]
        _write_in_place(self._hosts(member), "127.0.0.1 localhost\n" + "".join(lines))

    def set_name_server(self, member: str, address: str) -> None:
        """Whom the member asks for what is not in its hosts file."""
        _write_in_place(self._resolv_conf(member), f"nameserver {address}\n")

    def _hosts(self, member: str) -> Path:
        return self._directory / f"{member}.hosts"

    def _resolv_conf(self, member: str) -> Path:
        return self._directory / f"{member}.resolv.conf"


def _write_in_place(path: Path, text: str) -> None:
    """In one write, and without a new file: what is mounted is the file, whatever its name is given to."""
    if not path.exists():
        path.touch()
    with path.open("r+b", buffering=0) as file:
        length = len(text.encode())
        file.write(text.encode().ljust(path.stat().st_size, b"\n"))
        file.truncate(length)


@final
class Names:
    """The names by which members know each other, each for an address that nobody else uses; asked of a name server.

    As a context manager, inside the network's: the server runs.
    """

    def __init__(self, directory: Path, network: Network) -> None:
        self._network = network
        self._net = dict.fromkeys(network.members, FIRST_NET)
        self.files: Final = SystemFiles(directory)
        self.server: Final = NameServer()
        for member in network.members:
            network.have_address(member, FIRST_NET)
            self.files.set_hosts(member, {})
            self.files.set_name_server(member, self.server.address)
        self.server.zone = self.zone()

    def __enter__(self) -> Self:
        self.server.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.server.__exit__(kind, error, trace)

    def zone(self) -> dict[str, list[str]]:
        """Where every member is."""
        return {name_of(member): [self._network.address(member, net)] for member, net in self._net.items()}

    def move(self, member: str) -> None:
        """A member's name will mean another address, and nobody answers at the old one. No file or server is told."""
        old, new = self._net[member], LAST_NET if self._net[member] == FIRST_NET else FIRST_NET
        self._network.have_address(member, new)
        self._network.give_up_address(member, old)
        self._net[member] = new


@final
@dataclasses.dataclass(slots=True)
class _Udp(asyncio.DatagramProtocol):
    """Hands on what comes."""

    server: "NameServer"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.server.transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.server.asked(data, addr)


@final
class NameServer:
    """A DNS server where the clients are, in a thread of its own. As a context manager: it listens inside.

    It answers for the names of its zone with IPv4 addresses; that there are no IPv6 ones, and no other names, too.
    """

    address: Final = CLIENTS

    def __init__(self) -> None:
        self.zone: Zone = {}
        self.answers_after_s: float | None = 0.0
        """None: never, as if it were switched off."""
        self.questions = 0
        self.transport: asyncio.DatagramTransport
        self._loop = asyncio.new_event_loop()
        self._listening = threading.Event()
        self._thread = threading.Thread(target=self._run, name="name server")

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._listening.wait(10), "the name server does not listen"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def asked(self, question: bytes, asker: tuple[str, int]) -> None:
        """Answer in time, or not at all."""
        self.questions += 1
        if self.answers_after_s is not None:
            answer = answer_to(question, self.zone)
            self._loop.call_later(self.answers_after_s, self.transport.sendto, answer, asker)

    def _run(self) -> None:
        listen = self._loop.create_datagram_endpoint(lambda: _Udp(self), local_addr=(self.address, _PORT))
        self._loop.run_until_complete(listen)
        self._listening.set()
        self._loop.run_forever()
        self.transport.close()
        self._loop.run_until_complete(asyncio.sleep(0))


def answer_to(question: bytes, zone: Zone) -> bytes:
    """The answer to a question of one name (RFC 1035, 4.1)."""
    at, labels = 12, []
    while length := question[at]:
        labels.append(question[at + 1 : at + 1 + length].decode("ascii").lower())
        at += 1 + length
    asked = question[12 : at + 5]  # the end of the name, type and class
    (kind,) = struct.unpack_from("!H", question, at + 1)
    addresses = zone.get(".".join(labels))
    records = [
        struct.pack("!HHHIH4s", _POINTER_TO_QUESTION, _TYPE_A, 1, 0, 4, bytes(map(int, address.split("."))))
        for address in (addresses or ())
        if kind == _TYPE_A
    ]
    code = _RESPONSE_HERE | (_NO_SUCH_NAME if addresses is None else 0)
    return question[:2] + struct.pack("!HHHHH", code, 1, len(records), 0, 0) + asked + b"".join(records)
