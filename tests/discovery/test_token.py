"""A member and a token: etcd's steps, against a service in memory."""

from collections.abc import Callable
from typing import Final

import pytest

from kvraft import ids
from kvraft.discovery import founders, registry
from kvraft.discovery.interfaces import (
    Answer,
    DiscoveryError,
    FullClusterError,
    RegisteredBeforeError,
    Service,
    UnreachableError,
)
from kvraft.founding import Founder
from kvraft.settings.discovery_flags import Discovery
from kvraft.settings.flags import SettingsError
from tests.discovery.fake_service import SIZE, TOKEN, FakeService, given_up

URL: Final = f"http://d:1{TOKEN}"
WANTED: Final = Discovery(url=URL, source=f"--discovery={URL}")


def member(number: int) -> Founder:
    """Number 1 is the one that is tested."""
    urls = (f"http://10.0.0.{number}:2380",)
    return Founder(ids.member_id(urls, URL), f"n{number}", urls)


def key(number: int) -> str:
    """Where it registers."""
    return f"{TOKEN}/{ids.text(member(number).member_id)}"


def register(service: FakeService, number: int) -> Callable[[], None]:
    """What happens when another member comes."""
    return lambda: service.put(key(number), f"n{number}=http://10.0.0.{number}:2380")


def found(service: Service, *, has_been: bool = False) -> tuple[tuple[Founder, ...], bool]:
    """What the member makes of it. Whoever pauses here has not thought of it."""
    return founders.by_token(WANTED, member(1), service, has_been=has_been, pause=no_pause)


def no_pause(seconds: float) -> None:
    """Fails."""
    pytest.fail(f"a pause of {seconds} s")


def test_last_one_of_three_finds_the_others_at_once() -> None:
    """All are sorted by name, with ids made of their URLs and of the token's."""
    service = FakeService("3")
    register(service, 3)()
    register(service, 2)()
    assert found(service) == ((member(1), member(2), member(3)), False)
    assert service.asked == [
        f"GET {SIZE}",
        f"GET {TOKEN}",
        f"PUT {key(1)} n1=http://10.0.0.1:2380",
        f"WAIT {key(1)} 14 False",
        f"GET {SIZE}",
        f"GET {TOKEN}",
    ]


def test_first_one_waits_for_the_others_from_the_index_behind_its_reading() -> None:
    """Nothing is missed between reading and waiting."""
    service = FakeService("3")
    service.events.extend([register(service, 2), register(service, 3)])
    assert found(service) == ((member(1), member(2), member(3)), False)
    assert [asked for asked in service.asked if asked.startswith(f"WAIT {TOKEN} ")] == [
        f"WAIT {TOKEN} 13 True",
        f"WAIT {TOKEN} 14 True",
    ]


def test_changes_that_are_no_new_members_are_none() -> None:
    """A registration that is written again, a key that was deleted: who is there is read anew."""
    service = FakeService("2")
    again = register(service, 1)
    service.events.extend([again, lambda: None, register(service, 2)])
    assert found(service) == ((member(1), member(2)), False)


def test_watch_whose_place_in_the_history_is_gone_goes_on() -> None:
    """The members are read anew."""
    service = FakeService("2")

    def cleared() -> Answer:
        register(service, 2)()
        return service.cleared()

    service.events.append(cleared)
    assert found(service) == ((member(1), member(2)), False)


def test_one_too_many_is_told_the_peer_urls_and_leaves_nothing() -> None:
    """The first ones by creation have the places."""
    service = FakeService("2")
    register(service, 4)()
    register(service, 2)()
    register(service, 3)()
    with pytest.raises(FullClusterError, match=r"^discovery: cluster is full$") as caught:
        found(service)
    assert caught.value.peer_urls == ("http://10.0.0.4:2380", "http://10.0.0.2:2380")
    assert not any(asked.startswith("PUT") for asked in service.asked)


def test_what_others_have_registered_may_be_no_urls() -> None:
    """Whoever falls back to a proxy asks and keeps the rest."""
    service = FakeService("2")
    service.put(f"{TOKEN}/1", "n2=http://[::1,n2=http://10.0.0.2:2380,n2=http://10.0.0.2:x")
    register(service, 3)()
    with pytest.raises(FullClusterError) as caught:
        found(service)
    assert caught.value.peer_urls == ("http://10.0.0.2:2380", "http://10.0.0.3:2380")


def test_one_too_many_that_came_at_the_same_time_is_full_too() -> None:
    """Others register between its reading and its own registration."""
    service = FakeService("2")
    created = service.create

    class Late:
        get = service.get
        wait = service.wait

        def create(self, path: str, value: str) -> Answer:
            register(service, 2)()
            register(service, 3)()
            return created(path, value)

    with pytest.raises(FullClusterError):
        found(Late())


def test_member_that_registered_before_is_refused() -> None:
    """As by etcd: it may have lost what it had promised."""
    service = FakeService("3")
    register(service, 1)()
    with pytest.raises(RegisteredBeforeError, match=r"^discovery: found duplicate id$"):
        found(service)


def test_member_that_may_have_been_finds_its_cluster_again() -> None:
    """With --rebuild."""
    service = FakeService("2")
    register(service, 1)()
    register(service, 2)()
    assert found(service, has_been=True) == ((member(1), member(2)), True)


def test_service_that_is_away_is_asked_again_after_growing_pauses() -> None:
    """2, 4, 8 seconds and so on up to 256, anew after each answer."""
    service = FakeService("1")
    service.failures = 10
    pauses: list[float] = []
    cluster, _ = founders.by_token(WANTED, member(1), service, has_been=False, pause=pauses.append)
    assert cluster == (member(1),)
    assert pauses == [2, 4, 8, 16, 32, 64, 128, 256, 256, 256]


def test_watch_that_breaks_off_is_begun_anew_after_a_pause() -> None:
    """Whether the connection ends, or the answer has nothing in it."""
    service = FakeService("2")

    def broken() -> Answer:
        raise UnreachableError("http://d:1: Connection reset by peer")

    service.events.extend([broken, given_up, register(service, 2)])
    pauses: list[float] = []
    cluster, _ = founders.by_token(WANTED, member(1), service, has_been=False, pause=pauses.append)
    assert cluster == (member(1), member(2))
    assert pauses == [2, 2]


def test_registration_without_an_answer_ends_the_start() -> None:
    """As in etcd: asked again, it could be taken for that of a double."""
    service = FakeService("3")
    service.is_lost = True
    with pytest.raises(DiscoveryError, match=r"^discovery: registering failed, and nobody knows how far it came: .*"):
        found(service)


@pytest.mark.parametrize(
    ("size", "line"),
    [
        (None, "discovery: size key not found: the token is unknown there"),
        ("", "discovery: size key is bad: ''"),
        ("three", "discovery: size key is bad: 'three' in _config/size is no number of members"),
        ("0", "discovery: size key is bad: '0'"),
        ("-1", "discovery: size key is bad: '-1'"),
        ("3.0", "discovery: size key is bad: '3.0'"),
        ("\u0663", "discovery: size key is bad: '\u0663'"),
        ("9" * 5000, "discovery: size key is bad: '99999"),
    ],
)
def test_token_without_a_size_is_refused(size: str | None, line: str) -> None:
    """Before anything is registered."""
    service = FakeService(size)
    with pytest.raises(DiscoveryError) as caught:
        found(service)
    assert str(caught.value).startswith(line)
    assert service.asked == [f"GET {SIZE}"]


@pytest.mark.parametrize(
    "answer",
    [
        Answer(200, None, is_empty=False, index=0),
        Answer(404, None, is_empty=False, index=0),
        Answer(200, [], is_empty=False, index=0),
        Answer(200, {"node": 5}, is_empty=False, index=0),
        Answer(407, {"errorCode": 0}, is_empty=False, index=0),
        Answer(200, {"errorCode": "100"}, is_empty=True, index=0),
    ],
)
def test_whoever_has_no_keys_of_etcd_is_no_service(answer: Answer) -> None:
    """A web server, a proxy's page, another API."""

    class Stranger(FakeService):
        def get(self, path: str) -> Answer:
            return answer

    with pytest.raises(DiscoveryError, match="discovery: bad discovery endpoint"):
        found(Stranger("3"))


@pytest.mark.parametrize(
    ("value", "line"),
    [
        ("n2=10.0.0.2:2380", "discovery: invalid URL: n2: URL scheme must be http or https"),
        ("n2", "discovery: invalid URL: 'n2' has no name"),
        ("n2=http://10.0.0.1:2380", "discovery: invalid URL: duplicate url http://10.0.0.1:2380"),
    ],
)
def test_registration_that_is_none_ends_the_start(value: str, line: str) -> None:
    """Somebody else's, or a slip."""
    service = FakeService("2")
    service.put(key(2), value)
    with pytest.raises(SettingsError) as caught:
        found(service)
    assert str(caught.value).startswith(f"--discovery={URL}: {line}")


def test_two_registrations_of_one_name_end_the_start() -> None:
    """They would be one member with two URLs."""
    service = FakeService("2")
    service.put(key(2), "n1=http://10.0.0.2:2380")
    with pytest.raises(DiscoveryError, match=r"^discovery: found duplicate name: n1 has registered more than once"):
        found(service)


def test_size_is_no_member_where_a_service_lists_it() -> None:
    """Hidden keys are not listed by etcd, but may be by what answers in its place."""
    nodes = [{"key": "/t/_config", "dir": True, "createdIndex": 3}, {"key": "/t/1f", "value": "a=b", "createdIndex": 4}]
    answer = Answer(200, {"node": {"key": "/t", "nodes": nodes}}, is_empty=False, index=9)
    seats = registry.read_seats(answer, 3)
    assert [seat.member for seat in seats.taken] == ["1f"]
    assert seats.index == 9


@pytest.mark.parametrize(
    ("url", "size", "directory"),
    [
        ("http://d/t", "/t/_config/size", "/t"),
        ("http://d/t/", "/t/_config/size", "/t/"),
        ("http://d//v2/keys/./t", "/v2/keys/t/_config/size", "/v2/keys/t"),
        ("https://d:1/a%20b?x=y", "/a%20b/_config/size", "/a%20b"),
    ],
)
def test_paths_are_those_of_etcd_s_client(url: str, size: str, directory: str) -> None:
    """Cleaned, but for a slash at the end of the token."""
    wanted = Discovery(url=url)
    assert wanted.token_path("_config", "size") == size
    assert wanted.token_path() == directory


def test_directory_that_lists_no_keys_is_refused() -> None:
    """Whatever a service lists there."""
    answer = Answer(200, {"node": {"nodes": [5]}}, is_empty=False, index=1)
    with pytest.raises(DiscoveryError, match="its directory lists no keys"):
        registry.read_seats(answer, 3)
