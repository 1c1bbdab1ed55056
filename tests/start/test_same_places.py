"""Whether a member's two flags lead to the same places, however names and addresses are written."""

import threading
from collections.abc import Callable

import pytest

from kvraft.settings import flags, settings
from kvraft.settings.flags import SettingsError
from kvraft.start import same_places
from kvraft.transport.names import Found, look_up

ZONE = {"n1.example": "127.0.0.1", "two.example": "127.0.0.2", "six.example": "::1"}
_NO_ADDRESS = OSError(-2, "Name or service not known")


def _zone(host: str, port: int) -> Found:
    return look_up(ZONE.get(host, host), port) if host in ZONE or not host.endswith(".example") else _NO_ADDRESS


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[str, int], Found]], None]:
    """What sets who answers lookups; without a pause between them."""
    monkeypatch.setattr(same_places, "_AGAIN_S", 0)

    def set_to(answer: Callable[[str, int], Found]) -> None:
        monkeypatch.setattr(same_places, "look_up", answer)

    set_to(_zone)
    return set_to


def _check(cluster: str, advertised: str) -> tuple[str, ...]:
    """The URLs that the member has, if its start goes on."""
    listen = "--listen-peer-urls=http://127.0.0.1:2380"
    peers = f"--peers={cluster},n2=http://10.0.0.2:1"
    given = flags.read(["--name=n1", peers, listen, f"--initial-advertise-peer-urls={advertised}"], {})
    wanted = settings.from_flags(given)
    same_places.refuse_other_places(given, wanted)
    return wanted.initial_advertise_peer_urls


@pytest.mark.usefixtures("answers")
@pytest.mark.parametrize(
    ("cluster", "advertised"),
    [
        ("n1=http://n1.example:2380", "http://127.0.0.1:2380"),
        ("n1=http://127.0.0.1:2380", "http://n1.example:2380"),
        ("n1=http://[::1]:2380", "http://six.example:2380"),
        ("n1=http://[::1]:2380", "http://[0:0::1]:2380"),
        ("n1=http://n1.example:2380", "http://N1.EXAMPLE:2380"),
        ("n1=http://n1.example:2380,n1=http://127.0.0.2:12381", "http://two.example:12381,http://127.0.0.1:2380"),
    ],
)
def test_member_has_the_urls_of_initial_cluster(cluster: str, advertised: str) -> None:
    """As in etcd: the others make the same ids of them."""
    ZONE["N1.EXAMPLE"] = ZONE["n1.example"]
    assert list(_check(cluster, advertised)) == sorted(part.removeprefix("n1=") for part in cluster.split(","))


@pytest.mark.usefixtures("answers")
@pytest.mark.parametrize(
    ("cluster", "advertised"),
    [
        ("n1=http://two.example:2380", "http://127.0.0.1:2380"),
        ("n1=http://n1.example:2380", "http://127.0.0.1:2381"),
        ("n1=http://n1.example:2380", "https://127.0.0.1:2380"),
        ("n1=http://127.0.0.1:2380", "http://localhost:2380"),
        ("n1=http://n1.example:2380", "http://localhost:2380"),
        ("n1=http://127.0.0.1:2380", "http://127.0.0.2:2380"),
        ("n1=http://n1.example:2380", "http://127.0.0.1:2380,http://127.0.0.1:2381"),
    ],
)
def test_other_places_are_refused(cluster: str, advertised: str) -> None:
    """`localhost` too, which etcd does not look up, and another scheme."""
    with pytest.raises(SettingsError) as caught:
        _check(cluster, advertised)
    line = f"--initial-advertise-peer-urls={advertised}: --initial-cluster has {cluster}: make the two the same"
    assert str(caught.value) == line


def test_name_that_has_no_address_yet_is_asked_for_again(
    answers: Callable[[Callable[[str, int], Found]], None],
) -> None:
    """Where names come up with their hosts."""
    missing = [_NO_ADDRESS] * 3

    def later(host: str, port: int) -> Found:
        return missing.pop() if missing and host in ZONE else _zone(host, port)

    answers(later)
    assert _check("n1=http://n1.example:2380", "http://127.0.0.1:2380") == ("http://n1.example:2380",)
    assert not missing


def test_name_that_never_has_an_address_is_named(
    answers: Callable[[Callable[[str, int], Found]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the line, when the time is over; also if a name server says nothing at all."""
    monkeypatch.setattr(same_places, "_OWN_WITHIN_S", 0.02)
    with pytest.raises(SettingsError, match=r"same \(gone\.example: Name or service not known\)$"):
        _check("n1=http://gone.example:2380", "http://127.0.0.1:2380")
    end = threading.Event()

    def hang(_host: str, _port: int) -> Found:
        end.wait()
        return []

    answers(hang)
    with pytest.raises(SettingsError, match=r"same \(127\.0\.0\.1: no name server has answered in time\)$"):
        _check("n1=http://gone.example:2380", "http://127.0.0.1:2380")
    end.set()


def test_lookup_of_anothers_name_has_an_end(
    answers: Callable[[Callable[[str, int], Found]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name server that says nothing leaves a member nowhere, rather than the start waiting for minutes."""
    monkeypatch.setattr(same_places, "_LOOK_UP_S", 0.01)
    end = threading.Event()

    def hang(_host: str, _port: int) -> Found:
        end.wait()
        return []

    answers(hang)
    assert same_places.addresses("http://silent.example:1") == frozenset()
    end.set()


@pytest.mark.usefixtures("answers")
def test_lookup_that_gets_no_thread_is_one_that_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is a line, not a traceback."""

    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(same_places, "_OWN_WITHIN_S", 0)
    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(SettingsError, match=r"\(127\.0\.0\.1: no thread to look it up: can't start new thread\)$"):
        _check("n1=http://n1.example:2380", "http://127.0.0.1:2380")
