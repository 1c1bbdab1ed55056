"""Servers shared by the conformance tests of one run."""

import json
from collections.abc import Iterator

import pytest

from tests.conformance import systems
from tests.conformance.differential.pair import pair
from tests.conformance.long_runs import LongRuns, long_runs
from tests.conformance.scene import WATCHER
from tests.conformance.secure_place import SecurePlace
from tests.conformance.systems import System


@pytest.fixture(scope="session")
def etcd() -> Iterator[System]:
    """A running etcd of one member, shared: a test works under a path of its own."""
    with systems.etcd() as system:
        yield system


@pytest.fixture(scope="session")
def subject() -> Iterator[System]:
    """A running kvraft of one member, shared: a test works under a path of its own."""
    with systems.subject() as system:
        yield system


@pytest.fixture(scope="session")
def subject_of_three() -> Iterator[System]:
    """A running kvraft of three members, shared: a test works under a path of its own."""
    with systems.subject(3) as system:
        yield system


@pytest.fixture(scope="session")
def subject_with_auth() -> Iterator[System]:
    """A running kvraft of three members with auth on, whose guests may do nothing and `WATCHER` all about keys."""
    with systems.subject(3) as system:
        rights = {"kv": {"read": ["/*"], "write": ["/*"]}}
        user, _, password = WATCHER.partition(":")
        for path, body in (
            ("users/root", {"user": "root", "password": password}),
            ("roles/all", {"role": "all", "permissions": rights}),
            ("roles/guest", {"role": "guest"}),
            (f"users/{user}", {"user": user, "password": password, "roles": ["all"]}),
            ("enable", {}),
        ):
            answer = system.cluster.members[0].http("PUT", f"/v2/auth/{path}", body=json.dumps(body).encode())
            assert answer.status in {200, 201}, answer
        system.cluster.wait_for(
            "auth on all members",
            lambda: all(member.http("GET", "/v2/keys/").status == 401 for member in system.cluster.members),
            systems.DECIDED_WITHIN_S,
        )
        yield system


@pytest.fixture(scope="session")
def secure_place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecurePlace]:
    """Three members of each with TLS and auth on, at the same index, their windows of history full."""
    made = SecurePlace(tmp_path_factory.mktemp("certificates"))
    with (
        systems.etcd(3, made.secured) as oracle,
        systems.subject(3, made.secured) as subject,
        pair(oracle, subject) as opened,
    ):
        made.servers = opened
        opened.reset(above=systems.HISTORY_SIZE)
        made.enable()
        yield made


@pytest.fixture(scope="session", params=["etcd", "subject", "subject_of_three"])
def system(request: pytest.FixtureRequest) -> System:
    """Each of the three in turn."""
    running = request.getfixturevalue(request.param)
    assert isinstance(running, System)
    return running


@pytest.fixture(scope="session", autouse=True)
def begun(request: pytest.FixtureRequest) -> Iterator[LongRuns]:
    """The long runs of the tests that were selected, begun with the first test of this tier."""
    waiting = (item for item in request.session.items if isinstance(item, pytest.Function))
    selected = {item.path.stem for item in waiting if "under_way" in item.fixturenames}
    with long_runs(replays="test_recordings" in selected, generated="test_differential" in selected) as begun:
        yield begun


@pytest.fixture(scope="session")
def under_way(begun: LongRuns) -> LongRuns:
    """The long runs, for a test that waits for one of them: such tests come last."""
    return begun
