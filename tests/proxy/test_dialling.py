"""An endpoint's name with several addresses, some of which are dead."""

import asyncio
import socket
import ssl
from collections.abc import Callable

import pytest

from kvraft.proxy import dialling
from kvraft.proxy.dialling import Dialler
from kvraft.proxy.director import Endpoint
from kvraft.transport.names import Address, Found, Names
from tests.proxy.conftest import WITHIN_S, NoTls, ScriptedMember, says
from tests.proxy.silence import silent

DIAL_TIMEOUT_MS = 1000
"""`--proxy-dial-timeout` by default."""


def _address_of(member: ScriptedMember) -> Address:
    return Address(socket.AF_INET, ("127.0.0.1", int(member.url.rpartition(":")[2])))


def _endpoint() -> Endpoint:
    return Endpoint("http://name:1", lambda _: None)


def _dialler(look_up: Callable[[str, int], Found]) -> Dialler:
    return Dialler(NoTls(), DIAL_TIMEOUT_MS, 0, 0, Names(look_up))


@pytest.mark.slow
async def test_name_whose_first_address_is_dead_is_reached_at_its_next(monkeypatch: pytest.MonkeyPatch) -> None:
    """Within the dial timeout, as by etcd; and at once by the next request, which tries first what worked."""
    tried: list[Address] = []
    connect = dialling._connected

    async def connected(address: Address) -> socket.socket:
        tried.append(address)
        return await connect(address)

    monkeypatch.setattr(dialling, "_connected", connected)
    async with ScriptedMember(says(b"")) as member:
        with silent("::1") as address:
            dead, alive = Address(socket.AF_INET6, address), _address_of(member)
            dialler = _dialler(lambda *_: [dead, alive])
            for expected in ([dead, alive], [alive]):
                tried.clear()
                (await dialler.dial(_endpoint())).close()
                assert tried == expected
        await member.until(lambda: member.ended == 2)


async def test_address_that_refuses_costs_no_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next one is begun when it has failed; what the last one failed with is told when all have."""
    monkeypatch.setattr(dialling, "_NEXT_ADDRESS_S", WITHIN_S)
    nobody = Address(socket.AF_INET, ("127.0.0.1", 1))
    async with ScriptedMember(says(b"")) as member:
        (await _dialler(lambda *_: [nobody, _address_of(member)]).dial(_endpoint())).close()
    with pytest.raises(ConnectionRefusedError):
        await _dialler(lambda *_: [nobody]).dial(_endpoint())
    with pytest.raises(OSError, match="no address"):
        await _dialler(lambda *_: []).dial(_endpoint())


async def test_address_without_a_handshake_is_not_the_first_from_then_on() -> None:
    """Something else listens there: it connected in place of an address that was slow for once."""

    class Refusing:
        async def dial(self, connected: object, host: str, protocol: asyncio.Protocol) -> asyncio.Transport:
            raise ssl.SSLError(f"{host} {connected} {protocol}")

    nobody = Address(socket.AF_INET, ("127.0.0.1", 1))
    async with ScriptedMember(says(b"")) as member:
        names = Names(lambda *_: [nobody, _address_of(member)])
        endpoint = Endpoint("https://name:1", lambda _: None)
        with pytest.raises(ssl.SSLError):
            await Dialler(Refusing(), DIAL_TIMEOUT_MS, 0, 0, names).dial(endpoint)
        assert names.worked(endpoint.target) == nobody


async def test_connection_that_comes_second_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if both come in the same turn of the loop."""
    monkeypatch.setattr(dialling, "_NEXT_ADDRESS_S", 0)
    both = asyncio.Barrier(2)
    made: list[socket.socket] = []

    async def connected(address: Address) -> socket.socket:
        own = socket.socket(address.family, socket.SOCK_STREAM)
        made.append(own)
        await both.wait()
        return own

    monkeypatch.setattr(dialling, "_connected", connected)
    addresses = [Address(socket.AF_INET, ("127.0.0.1", port)) for port in (1, 2)]
    winner, _ = await dialling._first_connected(addresses)
    await asyncio.sleep(0)
    assert [each for each in made if each.fileno() >= 0] == [winner]
    winner.close()


def test_families_are_tried_in_turn() -> None:
    """Two dead addresses of one family do not take all the time; the one that worked is first."""
    six, seven = (Address(socket.AF_INET6, (f"::{n}", 1, 0, 0)) for n in (6, 7))
    four = Address(socket.AF_INET, ("127.0.0.4", 1))
    assert dialling._in_turn([six, seven, four], None) == [six, four, seven]
    assert dialling._in_turn([six, seven, four], seven) == [seven, six, four]
    assert dialling._in_turn([], None) == []
