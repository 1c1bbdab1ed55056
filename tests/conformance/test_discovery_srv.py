"""Members that find each other by SRV records, beside etcd's, from a name server of the test's own.

Each member has a network namespace, and an /etc/resolv.conf that names that server.
"""

import contextlib
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, final

import pytest

from kvraft.testing import leash
from kvraft.testing.cluster import Cluster, Kind, Member, Program
from tests.cluster import operating
from tests.conformance.etcdctl import ETCDCTL_TIMEOUTS
from tests.conformance.zone_server import ZoneServer
from tests.jepsen_like.names import SystemFiles
from tests.jepsen_like.network import CLIENT_PORT, CLIENTS, PEER_PORT, Network, remove_leftovers

pytestmark = [pytest.mark.slow, pytest.mark.landing]

NAMES: Final = ("n1", "n2", "n3")
SERVICE: Final = "n4"
PAGE: Final = Path(__file__).parents[2] / "docs" / "operations.md"
DOMAIN: Final = "example.com"
SERVERS: Final = "_etcd-server._tcp.example.com."


@final
@dataclass(slots=True, frozen=True)
class Place:
    """Namespaces, and who tells names in them."""

    network: Network
    server: ZoneServer
    files: SystemFiles
    directory: Path

    @contextlib.contextmanager
    def cluster(self, kind: Kind, scheme: Literal["http", "https"] = "http", **flags: str) -> Iterator[Cluster]:
        """Three members that know a domain and nothing of each other, laid out and not started."""
        cluster = Cluster(
            self.directory / kind,
            size=3,
            program=Program(kind, peer_scheme=scheme),
            client_ports=[CLIENT_PORT] * 3,
            peer_ports=[PEER_PORT] * 3,
            hosts=[self.network.addresses[name] for name in NAMES],
        )
        cluster.directory.mkdir(parents=True)
        for member in cluster.members:
            wrapper = self.network.wrapper(member.name) + self.files.wrapper(member.name)
            member.program = Program(kind, wrapper=wrapper, peer_scheme=scheme)
            member.cluster_flags = {
                "discovery-srv": DOMAIN,
                **{flag.replace("_", "-"): value for flag, value in flags.items()},
            }
        try:
            yield cluster
        finally:
            cluster.stop()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """Four hosts, and this process among their clients."""
    remove_leftovers()
    with Network((*NAMES, SERVICE)) as network:
        files = SystemFiles(tmp_path / "names")
        for name in network.members:
            files.set_hosts(name, {})
            files.set_name_server(name, CLIENTS)
        hosts = {(f"{name}.{DOMAIN}.", "A"): [network.addresses[name]] for name in NAMES}
        zone = {
            (SERVERS, "SRV"): [f"0 0 {PEER_PORT} {name}.{DOMAIN}." for name in NAMES],
            ("_etcd-server-blue._tcp.example.com.", "SRV"): [f"0 0 {PEER_PORT} {name}.{DOMAIN}." for name in NAMES],
            ("_etcd-client._tcp.example.com.", "SRV"): [f"0 0 {CLIENT_PORT} {name}.{DOMAIN}." for name in NAMES],
            **hosts,
        }
        with ZoneServer(CLIENTS, zone) as server:
            yield Place(network, server, files, tmp_path)


def _known(member: Member) -> dict[str, tuple[str, ...]]:
    """The ids of all members, with names and peer URLs; once all have told theirs."""

    def told() -> dict[str, tuple[str, ...]]:
        members = member.http("GET", "/v2/members").json()["members"]
        found = {each["id"]: (each["name"], *each["peerURLs"]) for each in members}
        return found if {name for name, _ in found.values()} == set(NAMES) else {}

    return member.wait_for("three names", told, 20)


def test_members_find_each_other_as_etcd_s_do(place: Place) -> None:
    """The same ids, names and peer URLs. With TLS, as etcd 3.4.23 asks for the other records and does not use them."""
    place.server.zone = {
        ("_etcd-server-ssl._tcp.example.com.", "SRV"): place.server.zone[SERVERS, "SRV"],
        **{key: records for key, records in place.server.zone.items() if key != (SERVERS, "SRV")},
    }
    known = {}
    kinds: tuple[Kind, ...] = ("etcd", "kvraft")
    for kind in kinds:
        with place.cluster(kind, "https", peer_auto_tls="true") as cluster:
            cluster.start()
            known[kind] = _known(cluster.members[0])
    assert known["kvraft"] == known["etcd"]
    assert _urls(known["kvraft"]) == {f"https://{name}.{DOMAIN}:{PEER_PORT}" for name in NAMES}


def test_members_without_tls_find_each_other(place: Place) -> None:
    """All see the same; each is what its data says from then on, whatever the records say."""
    with place.cluster("kvraft") as cluster:
        cluster.start()
        first, second, third = cluster.members
        assert _known(third) == _known(first)
        assert _urls(_known(first)) == {f"http://{name}.{DOMAIN}:{PEER_PORT}" for name in NAMES}
        assert first.http("PUT", "/v2/keys/a", form={"value": "1"}).status == 201
        place.server.zone = {}
        second.restart()
        second.wait_for_text("is ignored since a cluster has already been initialized")
        assert second.http("GET", "/v2/keys/a?quorum=true").json()["node"]["value"] == "1"


def test_proxy_finds_its_members_by_the_records(place: Place) -> None:
    """And keeps them: started again, it asks for none."""
    with place.cluster("kvraft") as cluster:
        cluster.start()
        wrapper = place.network.wrapper(SERVICE) + place.files.wrapper(SERVICE)
        program = Program("kvraft", {"proxy": "on", "discovery-srv": DOMAIN}, wrapper=wrapper)
        host = place.network.addresses[SERVICE]
        proxy = Member("proxy", program, cluster.directory, CLIENT_PORT, PEER_PORT, host)
        try:
            for number in range(2):
                proxy.start()
                proxy.wait_ready()
                assert proxy.http("PUT", f"/v2/keys/{number}", form={"value": "1"}).status == 201
                assert cluster.members[number].http("GET", f"/v2/keys/{number}?quorum=true").status == 200
                assert proxy.terminate() == 0
                place.server.zone = {key: records for key, records in place.server.zone.items() if key[1] != "SRV"}
        finally:
            proxy.kill()
        kept = json.loads((proxy.data_dir / "proxy" / "cluster").read_bytes())["PeerURLs"]
        assert set(kept) == {f"http://{name}.{DOMAIN}:{PEER_PORT}" for name in NAMES}


def _urls(known: dict[str, tuple[str, ...]]) -> set[str]:
    return {url for _, *urls in known.values() for url in urls}


def test_records_of_a_service_name_and_those_for_clients(place: Place) -> None:
    """`--discovery-srv-name` asks for the former, etcdctl for the latter."""
    with place.cluster("kvraft", discovery_srv_name="blue") as cluster:
        cluster.start()
        assert (SERVERS, "SRV") not in place.server.asked
        inside = (*place.network.wrapper("n1"), *place.files.wrapper("n1"))
        command = (*inside, "etcdctl", *ETCDCTL_TIMEOUTS, "--discovery-srv", DOMAIN, "--insecure-discovery")
        told = subprocess.run(
            [*command, "cluster-health"],
            env={**os.environ, "ETCDCTL_API": "2"},
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert told.stdout.endswith("cluster is healthy\n"), told.stdout + told.stderr
        assert ("_etcd-client._tcp.example.com.", "SRV") in place.server.asked


def test_member_that_was_added_asks_those_of_the_records(place: Place) -> None:
    """`--initial-cluster-state=existing`: its record is there before it is."""
    whole = dict(place.server.zone)
    place.server.zone = {**whole, (SERVERS, "SRV"): whole[SERVERS, "SRV"][:2]}
    with place.cluster("kvraft") as cluster:
        first, second, third = cluster.members
        first.start()
        second.start()
        first.wait_ready()
        place.server.zone = whole
        url = f"http://n3.{DOMAIN}:{PEER_PORT}"
        operating.add_url(first, url)
        third.cluster_flags["initial-cluster-state"] = "existing"
        third.start()
        third.wait_ready()
        assert _known(third) == _known(first)


@pytest.mark.parametrize(
    ("spoiled", "line"),
    [
        (
            {(SERVERS, "SRV"): []},
            "no SRV records are at _etcd-server-ssl._tcp.example.com and _etcd-server._tcp.example.com",
        ),
        (
            {(SERVERS, "SRV"): [f"0 0 {PEER_PORT} n2.{DOMAIN}."]},
            'cannot find local etcd member "n1" in SRV records: they lead to http://n2.example.com:2380',
        ),
        (
            {(f"n3.{DOMAIN}.", "A"): []},
            "n3.example.com, a target of _etcd-server._tcp.example.com, has no address",
        ),
        (
            {("refused", ""): [SERVERS]},
            "error querying DNS SRV records for _etcd-server._tcp.example.com: ",
        ),
    ],
)
def test_records_that_do_not_name_a_cluster_end_the_start_in_one_line(
    spoiled: dict[tuple[str, str], list[str]], line: str, place: Place
) -> None:
    """Nothing is made."""
    place.server.refused = frozenset(spoiled.pop(("refused", ""), []))
    place.server.zone = {**place.server.zone, **spoiled}
    with place.cluster("kvraft") as cluster:
        [member, *_] = cluster.members
        member.start()
        assert member.wait_exit() == 1
        last = member.log_text().splitlines()[-1]
        assert last.startswith(f"kvraft: --discovery-srv={DOMAIN}: {line}"), member.log_text()
        assert "Traceback" not in member.log_text()
        assert not member.data_dir.exists()


def test_name_server_that_is_not_there_is_one_line(place: Place) -> None:
    """Refused at once: nobody listens at that address."""
    place.files.set_name_server("n1", "127.0.0.9")
    with place.cluster("kvraft") as cluster:
        [member, *_] = cluster.members
        member.start()
        assert member.wait_exit(60) == 1
        assert (
            "kvraft: --discovery-srv=example.com: error querying DNS SRV records for _etcd-server" in member.log_text()
        )
        assert not member.data_dir.exists()


def _typed(place: Place, name: str, block: str) -> list[str]:
    """A block of the page as it is typed on a host: its addresses, its directories, its name."""
    for number, host in ((9, SERVICE), (1, "n1"), (2, "n2"), (3, "n3")):
        block = block.replace(f"10.0.0.{number}:", f"{place.network.addresses[host]}:")
    block = block.replace("/var/lib/kvraft", str(place.directory))
    command = f'kvraft() {{ exec {shlex.quote(sys.executable)} -m kvraft "$@"; }}\n'
    given = f"NAME={name} HOST={place.network.addresses[name]}\n"
    return [*place.network.wrapper(name), *place.files.wrapper(name), "sh", "-ec", command + given + block]


def _blocks(heading: str) -> list[str]:
    """The shell blocks below a heading."""
    _, found, rest = PAGE.read_text().partition(f"\n{heading}\n")
    assert found, f"the page has no section {heading!r}"
    return re.findall(r"```sh\n(.*?)```", re.split(r"^##+ ", rest, maxsplit=1, flags=re.MULTILINE)[0], re.DOTALL)


def _run(words: list[str]) -> str:
    ended = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def _start_as_typed(place: Place, cluster: Cluster, block: str) -> None:
    """Type a block that is one `kvraft` on each host, and wait until all serve as one cluster."""
    for member in cluster.members:
        with member.log_path.open("ab") as log:
            words = _typed(place, member.name, block)
            process = subprocess.Popen(words, stdout=log, stderr=log, start_new_session=True)
        leash.hold(process.pid)
        member._process = process
    for member in cluster.members:
        member.wait_ready()
    assert _known(cluster.members[0]) == _known(cluster.members[2])


def test_commands_of_the_page_find_members_by_a_token(place: Place) -> None:
    """With a member of another cluster as the service."""
    makes, starts, shows = _blocks("### By a token")
    with (
        Cluster(
            place.directory / "service",
            size=1,
            program=Program(wrapper=place.network.wrapper(SERVICE)),
            client_ports=[CLIENT_PORT],
            peer_ports=[PEER_PORT],
            hosts=[place.network.addresses[SERVICE]],
        ),
        place.cluster("kvraft") as cluster,
    ):
        _run(_typed(place, SERVICE, makes))
        _start_as_typed(place, cluster, starts)
        assert _run(_typed(place, SERVICE, shows)).count("=http://") == 3


def test_commands_of_the_page_find_members_by_dns(place: Place) -> None:
    """With the records that the page shows."""
    (starts,) = _blocks("### By DNS")
    with place.cluster("kvraft") as cluster:
        _start_as_typed(place, cluster, starts)
