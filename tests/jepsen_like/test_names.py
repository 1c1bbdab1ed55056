"""Members that know each other by name, whose server may be dead, slow or late: etcd and kvraft side by side."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from kvraft.testing.cluster import Cluster
from tests.jepsen_like import db
from tests.jepsen_like.names import Names, name_of
from tests.jepsen_like.network import SILENT

pytestmark = pytest.mark.timeout(240)

SERVES_WITHIN_S: Final = 20.0
"""Both, on a machine that others use too."""
ELECTION_TIMEOUT_S: Final = 1.0
BUSY_S: Final = 3.0


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[db.Pair]:
    with db.pair(tmp_path, named=True) as both:
        yield both


def _names(pair: db.Pair) -> Names:
    assert pair.names is not None
    return pair.names


def _serve(pair: db.Pair, *members: str) -> None:
    """Wait until these members of both serve, etcd's first."""
    for cluster in pair.clusters:
        for member in members:
            cluster[member].wait_ready(SERVES_WITHIN_S)


def _write(cluster: Cluster, member: str, key: str) -> float:
    """How long it took."""
    began = time.monotonic()
    answer = cluster[member].http("PUT", f"/v2/keys/{key}", form={"value": "v"})
    assert answer.status in {200, 201}, answer.body
    return time.monotonic() - began


def _by_hosts_file(pair: db.Pair) -> None:
    """Names are in the hosts files, IPv4 only, and the name server never answers."""
    names = _names(pair)
    for member in pair.network.members:
        names.files.set_hosts(member, names.zone())
        names.files.set_name_server(member, SILENT)


@pytest.mark.slow
def test_names_of_the_hosts_file_need_no_name_server(pair: db.Pair) -> None:
    """The members find each other at once, and so do others when one of them is started again (etcd#7798)."""
    _by_hosts_file(pair)
    pair.start()
    _serve(pair, "n1", "n2", "n3")
    for cluster in pair.clusters:
        cluster["n1"].kill()
    pair.start("n1")
    _serve(pair, "n1")


@pytest.mark.torture
def test_lookup_that_hangs_holds_nobody_else_up(pair: db.Pair) -> None:
    """One name is known to nobody but a name server that never answers: the other two serve as ever."""
    names = _names(pair)
    _by_hosts_file(pair)
    known = {name: addresses for name, addresses in names.zone().items() if name != name_of("n3")}
    for member in ("n1", "n2"):
        names.files.set_hosts(member, known)
    pair.start("n1", "n2")
    _serve(pair, "n1", "n2")
    until = time.monotonic() + 12  # longer than a resolver tries
    while time.monotonic() < until:
        for cluster in pair.clusters:
            assert _write(cluster, "n1", "a") < BUSY_S
            assert _write(cluster, "n2", "a") < BUSY_S
    assert sum(member.log_text().count("became leader") for member in pair.kvraft.members) == 1


@pytest.mark.torture
def test_slow_name_server_delays_a_start_and_nothing_else(tmp_path: Path) -> None:
    """Answers take three seconds, longer than an election timeout; etcd gives each of its dials up before."""
    with db.pair(tmp_path, named=True) as pair:
        names = _names(pair)
        names.server.answers_after_s = 3.0
        for member in pair.kvraft.members:
            member.start()
        for member in pair.kvraft.members:
            member.wait_ready(SERVES_WITHIN_S)
        assert names.server.questions > 0


@pytest.mark.torture
def test_member_is_found_again_while_the_name_server_is_dead(tmp_path: Path) -> None:
    """The others know where it was and dial it there, so it need not know anybody; etcd would wait for the server."""
    with db.started(tmp_path, "kvraft", named=True) as database:
        assert database.names is not None
        database.names.server.answers_after_s = None
        leader = database.cluster.leader()
        leader.restart(SERVES_WITHIN_S)
        leader.restart(SERVES_WITHIN_S)


@pytest.mark.torture
def test_name_that_moves_is_followed_over_a_restart(pair: db.Pair) -> None:
    """A member comes back on another address, and the name server says so."""
    names = _names(pair)
    pair.start()
    _serve(pair, "n1", "n2", "n3")
    for name in pair.network.members:
        for cluster in pair.clusters:
            cluster[name].kill()
        names.move(name)
        names.server.zone = names.zone()
        pair.start(name)
        _serve(pair, name)


@pytest.mark.torture
def test_name_that_moves_is_followed_while_all_run(pair: db.Pair) -> None:
    """The old address is gone without a word; whoever dialled it finds the new one."""
    names = _names(pair)
    pair.start()
    _serve(pair, "n1", "n2", "n3")
    for moved in pair.network.members:
        names.move(moved)
        names.server.zone = names.zone()
        _serve(pair, "n1", "n2", "n3")
        for cluster in pair.clusters:
            _write(cluster, moved, moved)


@pytest.mark.torture
def test_first_of_several_addresses_may_be_dead(tmp_path: Path) -> None:
    """Every name has an address at which nobody answers before the right one; etcd tries the first for ever."""
    with db.pair(tmp_path, named=True) as pair:
        names = _names(pair)
        names.server.zone = {name: [SILENT, *addresses] for name, addresses in names.zone().items()}
        for member in pair.kvraft.members:
            member.start()
        for member in pair.kvraft.members:
            member.wait_ready(SERVES_WITHIN_S)
