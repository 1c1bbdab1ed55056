"""Which changes of the members the strict check is against: etcd's rules, but for one."""

import pytest

from kvraft.keyspace.commands import AddMember, MoveMember, PublishMember, RemoveMember
from kvraft.keyspace.keyspace import Keyspace
from kvraft.member.cluster import Cluster
from kvraft.member.strict_check import NOT_ENOUGH_STARTED, UNHEALTHY, StrictCheck

ADD = AddMember(99, ("http://h:99",))


def judged(members: dict[int, str], command: AddMember | RemoveMember | MoveMember) -> str | None:
    """What member 1 says of a change when each of the members is `there`, `away` or only `added`."""
    keyspace = Keyspace()
    for member_id, state in members.items():
        keyspace.apply(AddMember(member_id, (f"http://h:{member_id}",)), 0)
        if state != "added":
            keyspace.apply(PublishMember(member_id, f"m{member_id}", ()), 0)
    cluster = Cluster(7, PublishMember(1, "m1", ()), [], 1000, keyspace)
    return StrictCheck(cluster, lambda member_id: members.get(member_id) == "there").risk_of(command)


@pytest.mark.parametrize(
    ("others", "risk"),
    [
        ("", None),
        ("added", NOT_ENOUGH_STARTED),
        ("there", None),
        ("away", UNHEALTHY),
        ("there added", NOT_ENOUGH_STARTED),
        ("there away", None),
        ("away away", UNHEALTHY),
        ("there added added", NOT_ENOUGH_STARTED),
        ("there there added", None),
        ("there there added added", NOT_ENOUGH_STARTED),
        ("there away added", None),
    ],
)
def test_member_is_added_while_a_quorum_of_those_that_started_is_there(others: str, risk: str | None) -> None:
    """All must be in etcd, as an added member counts there at once; here a dead one can be replaced."""
    assert judged({1: "there", **dict(enumerate(others.split(), 2))}, ADD) == risk


@pytest.mark.parametrize(
    ("others", "removed", "risk"),
    [
        ("", 1, NOT_ENOUGH_STARTED),
        ("added", 2, None),
        ("added", 1, NOT_ENOUGH_STARTED),
        ("there", 1, None),
        ("there", 2, None),
        ("away", 2, None),
        ("away", 1, UNHEALTHY),
        ("there there", 3, None),
        ("there away", 3, None),
        ("there away", 2, UNHEALTHY),
        ("there added", 3, None),
        ("there added", 2, NOT_ENOUGH_STARTED),
        ("", 77, None),
        ("there", 77, None),
    ],
)
def test_member_is_removed_unless_the_rest_would_be_no_quorum(others: str, removed: int, risk: str | None) -> None:
    """One that is away is no part of it, and one that is unknown is judged where the change is applied."""
    assert judged({1: "there", **dict(enumerate(others.split(), 2))}, RemoveMember(removed)) == risk


def test_move_is_never_against_it() -> None:
    """As in etcd."""
    assert judged({1: "there", 2: "away"}, MoveMember(2, ("http://h:3",))) is None
