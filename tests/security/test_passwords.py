"""Passwords are hashed and compared beside the event loop, a bounded number at once."""

import asyncio
import os
import subprocess
import sys
import threading
from random import Random

import bcrypt
import pytest

from kvraft import clock
from kvraft.security import passwords, system_bcrypt
from kvraft.security.passwords import Passwords

COST = 4
"""bcrypt's smallest: what is tested here is not its strength."""


async def hashed(by: Passwords, password: bytes) -> bytes | None:
    """The hash of a password."""
    answer: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()
    by.hash(password, answer.set_result)
    return await answer


async def checked(by: Passwords, password: bytes, password_hash: bytes | None) -> bool | None:
    """Whether it is that hash's."""
    answer: asyncio.Future[bool | None] = asyncio.get_running_loop().create_future()
    by.check(password, password_hash, answer.set_result)
    return await answer


async def test_a_password_matches_its_hash_and_no_other() -> None:
    """Two hashes of one password differ; bytes beyond the 72nd do not count, and a NUL does."""
    by = Passwords(COST)
    one, other = await hashed(by, b"pw"), await hashed(by, b"pw")
    assert one is not None
    assert one != other
    assert await checked(by, b"pw", one) is True
    assert await checked(by, b"pW", one) is False
    long = await hashed(by, b"y" * 80)
    assert await checked(by, b"y" * 72, long) is True
    assert await checked(by, b"y" * 71, long) is False
    assert await checked(by, b"a", await hashed(by, b"a\0b")) is False
    by.close()


async def test_nobodys_password_is_compared_with_the_same_effort(monkeypatch: pytest.MonkeyPatch) -> None:
    """An unknown user costs one hash of the same cost, and a hash that is none matches nothing."""
    salts = []
    hashpw = bcrypt.hashpw

    def noted(password: bytes, salt: bytes) -> bytes:
        salts.append(salt)
        return hashpw(password, salt)

    monkeypatch.setattr(bcrypt, "hashpw", noted)
    monkeypatch.setattr(passwords, "_system", lambda: None)
    by = Passwords(COST)
    assert await checked(by, b"pw", None) is False
    assert [salt[:7] for salt in salts] == [b"$2b$04$"]
    assert await checked(by, b"pw", b"no hash") is False
    assert [salt[:7] for salt in salts] == 2 * [b"$2b$04$"]
    assert await checked(by, b"pw", b"$2b$99$" + 53 * b".") is False
    by.close()


async def test_nobodys_password_costs_the_system_a_hash_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where its libcrypt compares: once, with a setting of the same cost that it takes, and not the package's way."""
    system = system_bcrypt.find()
    assert system is not None
    made: list[tuple[bytes, bytes]] = []

    def noted(password: bytes, setting: bytes) -> bytes:
        made.append((setting[:7], system(password, setting)))
        return made[-1][1]

    by = Passwords(COST)
    stored = await hashed(by, b"pw")
    monkeypatch.setattr(passwords, "_system", lambda: noted)
    monkeypatch.setattr(bcrypt, "hashpw", lambda _password, _salt: pytest.fail("by the package"))
    for password_hash in (stored, None, b"no hash"):
        assert await checked(by, b"pw", password_hash) is (password_hash is stored)
    assert [setting for setting, _ in made] == 3 * [b"$2b$04$"]
    assert all(passwords._HASH.fullmatch(found) for _, found in made), "a setting that it refuses costs nothing"
    by.close()


async def test_what_cannot_be_hashed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits is answered, whether the work fails or no thread can be had; and the next one finds his turn."""

    def broken(*_arguments: object) -> bool:
        raise MemoryError

    by = Passwords(COST)
    stored = await hashed(by, b"pw")
    with monkeypatch.context() as patched:
        patched.setattr(passwords, "_is_right", broken)
        assert await checked(by, b"pw", stored) is None
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", lambda _thread: broken_start())
        assert await checked(Passwords(COST), b"pw", stored) is None
    assert by._waiting == 0
    assert await checked(by, b"pw", stored) is True
    by.close()


async def test_what_got_no_thread_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither its password, for ever, nor its work, for which the next one would wait."""
    hashed_here = []

    def noted(password: bytes, cost: int) -> bytes:
        hashed_here.append(password)
        return password

    monkeypatch.setattr(passwords, "_hash", noted)
    by = Passwords(COST)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", lambda _thread: broken_start())
        by.get_ready()
        for _ in range(3):
            assert await hashed(by, b"refused") is None
    assert await hashed(by, b"next") == b"next"
    assert hashed_here == [b"next"]
    by.close()


async def test_who_waits_in_a_pool_that_gets_no_more_threads_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is on a thread is finished; what is not yet there is refused with the one that found none."""
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    go_on = threading.Event()

    def slow(password: bytes, cost: int) -> bytes:
        assert go_on.wait(20)
        return password

    monkeypatch.setattr(passwords, "_hash", slow)
    by = Passwords(COST)
    first = asyncio.ensure_future(hashed(by, b"first"))
    await asyncio.sleep(0)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", lambda _thread: None)  # it does not get to its work
        second = asyncio.ensure_future(hashed(by, b"second"))
        await asyncio.sleep(0)
        patched.setattr(threading.Thread, "start", lambda _thread: broken_start())
        assert await hashed(by, b"third") is None
    async with asyncio.timeout(20):
        assert await second is None
    go_on.set()
    assert await first == b"first"
    assert by._waiting == 0
    by.close()


def broken_start() -> None:
    """As the interpreter says it."""
    message = "can't start new thread"
    raise RuntimeError(message)


@pytest.mark.parametrize("has_system", [True, False])
async def test_system_and_package_find_the_same_hash(monkeypatch: pytest.MonkeyPatch, *, has_system: bool) -> None:
    """Of any bytes, and whatever Go, libxcrypt and OpenBSD call it."""
    if not has_system:
        monkeypatch.setattr(passwords, "_system", lambda: None)
    by, random = Passwords(COST), Random(20261129)
    odd = (b"", b"\0", b"a\0b", b"\xff" * 72, "\u00e9\u4e2d".encode(), b"x" * 100, bytes(range(1, 256)))
    for password in (*odd, *(random.randbytes(random.randrange(80)) for _ in range(30))):
        stored = await hashed(by, password)
        assert stored is not None
        for named in (stored, *(b"$2" + name + stored[3:] for name in (b"a", b"y"))):
            assert await checked(by, password, named) is True, (password, named)
            assert await checked(by, b"!" + password[1:], named) is (password[:1] == b"!"), (password, named)
    by.close()


def test_system_of_these_tests_has_the_function() -> None:
    """Otherwise the above compares the package with itself."""
    assert system_bcrypt.find() is not None


async def test_what_waits_is_bounded_and_the_loop_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """One more than may wait is told so at once; half of the cores work, and the others find their turn."""
    monkeypatch.setattr(passwords, "WAITING_MAX", 3)
    go_on = threading.Event()
    working = []

    def slow(password: bytes, cost: int) -> bytes:
        working.append(threading.current_thread().name)
        assert go_on.wait(20)
        return password

    monkeypatch.setattr(passwords, "_hash", slow)
    by = Passwords(COST)
    waiting = [asyncio.ensure_future(hashed(by, b"%d" % number)) for number in range(3)]
    await asyncio.sleep(0)
    assert await hashed(by, b"too many") is None
    go_on.set()
    assert await asyncio.gather(*waiting) == [b"0", b"1", b"2"]
    assert all(name.startswith("passwords") for name in working)
    assert await hashed(by, b"again") == b"again"
    by.close()


async def test_one_that_comes_when_none_waits_is_not_put_behind_others_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that take more than a second at once, or a tenth of the time for good, are, and any beside another."""
    now_ns = [1000]
    monkeypatch.setattr(clock, "monotonic_ns", lambda: now_ns[0])
    monkeypatch.setattr(clock, "thread_cpu_ns", lambda: now_ns[0])
    workers: list[str] = []

    def noted(password: bytes, cost: int) -> bytes:
        workers.append(threading.current_thread().name.rpartition("_")[0])
        now_ns[0] += 600_000_000
        return password

    monkeypatch.setattr(passwords, "_hash", noted)
    by = Passwords(COST)
    for _ in range(3):
        await hashed(by, b"pw")
    now_ns[0] += 3 * 10**9
    await hashed(by, b"pw")
    now_ns[0] += 60 * 10**9
    await asyncio.gather(hashed(by, b"one"), hashed(by, b"other"))
    assert workers[:4] == ["passwords-quick", "passwords-quick", "passwords", "passwords-quick"]
    assert sorted(workers[4:]) == ["passwords", "passwords-quick"]
    by.close()


async def test_what_others_take_of_the_machine_puts_nobody_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """60 ms of a core that take two seconds are 60 ms: users are made and log in one after another, each in time."""
    now_ns, cpu_ns = [1000], [1000]
    monkeypatch.setattr(clock, "monotonic_ns", lambda: now_ns[0])
    monkeypatch.setattr(clock, "thread_cpu_ns", lambda: cpu_ns[0])
    workers: set[str] = set()

    def starved(password: bytes, cost: int) -> bytes:
        workers.add(threading.current_thread().name.rpartition("_")[0])
        now_ns[0] += 2 * 10**9
        cpu_ns[0] += 60_000_000
        return password

    monkeypatch.setattr(passwords, "_hash", starved)
    by = Passwords(COST)
    for _ in range(20):
        await hashed(by, b"pw")
    assert workers == {"passwords-quick"}
    by.close()


def test_getting_ready_loads_the_library_on_a_thread() -> None:
    """The first login does not wait for it."""
    program = (
        "import sys; from kvraft.security.passwords import Passwords; by = Passwords(); by.get_ready();"
        "by._quick.shutdown(); print('bcrypt' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "True\n"


def test_a_member_without_auth_never_loads_the_library() -> None:
    """Neither with the room that holds passwords nor with the API."""
    program = "import sys, kvraft.api_v2.server; print('bcrypt' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
