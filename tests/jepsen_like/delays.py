"""Links between members on which every packet is under way for so long, as between continents.

A tun device in each member's namespace takes what is meant for the others; a thread hands each packet to the other's
device when it is due. Not netem, which kernels of test machines leave out. Clients are as near as ever.
"""

import asyncio
import collections
import contextlib
import fcntl
import os
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final, final

from tests.jepsen_like.names import LAST_NET
from tests.jepsen_like.network import Network, enter, run_command

_DEVICE: Final = "far"
_TUNSETIFF: Final = 0x400454CA  # linux/if_tun.h
_IFF_TUN: Final = 0x0001
_IFF_NO_PI: Final = 0x1000
_PACKET_BYTES_MAX: Final = 1 << 16
_WAITING_MAX: Final = 10_000
"""Packets under way; what is more is lost, as on a full link."""


@contextlib.contextmanager
def far_apart(network: Network, one_way_s: float) -> Iterator[None]:
    """Packets between members take so long each way, for a while."""
    with contextlib.ExitStack() as stack:
        ends: dict[int, int] = {}
        for number, member in enumerate(network.members, 1):
            ends[number] = _end(network, member)
            stack.callback(os.close, ends[number])  # the device and its routes go with it
        carrier = _Carrier(ends, one_way_s)
        carrier.start()
        stack.callback(carrier.stop)
        yield


def _end(network: Network, member: str) -> int:
    """A tun device in a member's namespace, with the way to all other members."""
    here = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    enter(network.namespace(member))
    try:
        end = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        fcntl.ioctl(end, _TUNSETIFF, struct.pack("16sH22x", _DEVICE.encode(), _IFF_TUN | _IFF_NO_PI))
    finally:
        enter(Path(f"/proc/self/fd/{here}"))
        os.close(here)
    inside = (*network.wrapper(member), "ip")
    run_command(*inside, "link", "set", _DEVICE, "up")
    for other in network.members:
        if other != member:
            for net in range(LAST_NET + 1):
                way = (network.address(other, net), "dev", _DEVICE, "src", network.addresses[member])
                run_command(*inside, "route", "add", *way)
    return end


@final
class _Carrier:
    """The thread between the devices, with an event loop of its own."""

    def __init__(self, ends: dict[int, int], one_way_s: float) -> None:
        self._ends = ends
        self._one_way_s = one_way_s
        self._waiting: collections.deque[tuple[float, int, bytes]] = collections.deque()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="far apart")

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self) -> None:
        for end in self._ends.values():
            self._loop.add_reader(end, self._take, end)
        self._loop.run_forever()

    def _take(self, end: int) -> None:
        """Everything that waits in a device."""
        while True:
            try:
                packet = os.read(end, _PACKET_BYTES_MAX)
            except BlockingIOError:
                return
            to = self._ends.get(packet[19])  # the last byte of an IPv4 destination, which is the member's number
            if packet[0] >> 4 != 4 or to is None or len(self._waiting) >= _WAITING_MAX:
                continue
            if not self._waiting:
                self._loop.call_later(self._one_way_s, self._deliver)
            self._waiting.append((self._loop.time() + self._one_way_s, to, packet))

    def _deliver(self) -> None:
        """Everything that is due; all take equally long, so the first comes first."""
        while self._waiting and self._waiting[0][0] <= self._loop.time():
            _due, to, packet = self._waiting.popleft()
            with contextlib.suppress(BlockingIOError):  # a full device loses packets, as others do
                os.write(to, packet)
        if self._waiting:
            self._loop.call_at(self._waiting[0][0], self._deliver)
