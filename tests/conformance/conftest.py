"""Servers shared by the conformance tests of one run."""

from collections.abc import Iterator

import pytest

from tests.conformance import systems
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


@pytest.fixture(scope="session", params=["etcd", "subject", "subject_of_three"])
def system(request: pytest.FixtureRequest) -> System:
    """Each of the three in turn."""
    running = request.getfixturevalue(request.param)
    assert isinstance(running, System)
    return running
