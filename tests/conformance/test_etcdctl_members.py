"""Debian's etcdctl changes the members of etcd and of kvraft: same output, errors and exit codes."""

from collections.abc import Iterator
from typing import Final

import pytest

from tests.conformance import systems
from tests.conformance.differential.pair import pair
from tests.conformance.etcdctl import Etcdctl, agree
from tests.conformance.membership import wait_addable

pytestmark = pytest.mark.slow

ADDS: Final = """
    member add
    member add n4
    member add n4 http://127.0.0.1:9 more
    member add n4 nonsense
    member add n4 http://127.0.0.1:9/path
    member add n4 PEER1
    member add n4 PEER1,http://127.0.0.1:9
    member add n4 http://127.0.0.1:9,http://127.0.0.1:10
    member add n4 http://127.0.0.1:9
    member list
    cluster-health
"""
UPDATES: Final = """
    member update
    member update ADDED
    member update ADDED http://127.0.0.1:11
    member update ADDED http://127.0.0.1:11
    member list
    member update ADDED PEER2
    member update ADDED nonsense
    member update ID1 PEER1
    member update 123 http://127.0.0.1:12
    member update zz http://127.0.0.1:12
"""
REMOVALS: Final = """
    member remove
    member remove ADDED more
    member remove zz
    member remove 123
    member remove ADDED
    member remove GONE
    member update GONE http://127.0.0.1:12
    member list
    cluster-health
"""


@pytest.fixture(scope="module")
def of_three() -> Iterator[tuple[Etcdctl, Etcdctl]]:
    """For three members of each at the same index."""
    with systems.etcd(3) as oracle, systems.subject(3) as subject, pair(oracle, subject) as servers:
        for server in servers.both:
            wait_addable(server)
        servers.align()
        yield Etcdctl(servers.oracle), Etcdctl(servers.subject)


def test_members_are_added_updated_and_removed_as_with_etcd(of_three: tuple[Etcdctl, Etcdctl]) -> None:
    """Every use of `member`, and every way in which it fails; what `add` prints is what starts the new one."""
    outcomes = agree(of_three, ADDS)
    (added,) = (outcome for outcome in outcomes if "ETCD_NAME" in outcome.stdout)
    assert 'ETCD_NAME="n4"' in added.stdout
    assert ',n4=http://127.0.0.1:9"' in added.stdout
    assert 'ETCD_INITIAL_CLUSTER_STATE="existing"' in added.stdout
    outcomes += agree(of_three, UPDATES) + agree(of_three, REMOVALS)
    assert {outcome.exit_code for outcome in outcomes} == {0, 1, 5}
    assert of_three[0].server.index == of_three[1].server.index


def test_only_member_is_not_removed_and_a_second_may_be_added() -> None:
    """With a wrong URL, too: on etcd that costs the quorum, here one command undoes it."""
    with systems.etcd() as oracle, systems.subject() as subject, pair(oracle, subject) as servers:
        tools = Etcdctl(servers.oracle), Etcdctl(servers.subject)
        agree(tools, "member list\nmember remove ID1\nmember list")
        add = ["member", "add", "n2", "http://127.0.0.1:9"]
        added, likewise = (tool.run(add, settle=False) for tool in tools)
        assert (added, added.exit_code) == (likewise, 0)
        if not tools[1].server.system.is_etcd:
            assert tools[1].run(["set", "/k", "v"]).exit_code == 0
            assert tools[1].run(["member", "remove", "ADDED"]).exit_code == 0
