"""The members that SRV records name, from records and addresses that a test makes up."""

from collections.abc import Mapping
from typing import Final, final

import pytest

from kvraft import ids
from kvraft.discovery import founders
from kvraft.discovery.interfaces import DiscoveryError, Target
from kvraft.founding import Founder
from kvraft.settings.discovery_flags import Discovery

WANTED: Final = Discovery(domain="example.com", source="--discovery-srv=example.com")
SSL: Final = "_etcd-server-ssl._tcp.example.com"
PLAIN: Final = "_etcd-server._tcp.example.com"
ADDRESSES: Final = {"n1.example.com": "10.0.0.1", "n2.example.com": "10.0.0.2", "n3.example.com": "10.0.0.3"}
THREE: Final = tuple(Target(host, 2380) for host in ("n3.example.com", "n1.example.com", "n2.example.com"))


@final
class Zone:
    """Satisfies `Records`."""

    def __init__(self, records: Mapping[str, tuple[Target, ...]]) -> None:
        self._records = records

    def targets(self, name: str) -> tuple[Target, ...]:
        """Of a name."""
        return self._records.get(name, ())


def address(host: str, port: int) -> frozenset[tuple[str, int]]:
    """A number is its own address."""
    known = ADDRESSES.get(host, host if host.startswith("10.") else "")
    return frozenset({(known, port)} if known else ())


def found(
    records: Mapping[str, tuple[Target, ...]],
    *own_urls: str,
    name: str = "n1",
    wanted: Discovery = WANTED,
) -> tuple[tuple[Founder, ...], Founder]:
    """By a member with these URLs."""
    return founders.by_srv_records(wanted, Founder(0, name, own_urls), "token", Zone(records), address)


def test_members_are_the_targets_and_this_one_is_at_its_address() -> None:
    """Its URL is the record's, whatever it advertises; the others have numbers for names until they tell theirs."""
    cluster, own = found({PLAIN: THREE}, "http://10.0.0.1:2380")
    assert {member.name: member.peer_urls for member in cluster} == {
        "n1": ("http://n1.example.com:2380",),
        "0": ("http://n2.example.com:2380",),
        "1": ("http://n3.example.com:2380",),
    }
    assert own == Founder(ids.member_id(["http://n1.example.com:2380"], "token"), "n1", ("http://n1.example.com:2380",))


def test_all_members_find_the_same_ids() -> None:
    """Whatever the order of the records, and whatever they are called."""
    clusters = [
        found({PLAIN: records}, f"http://10.0.0.{number}:2380", name=f"n{number}")[0]
        for number, records in ((1, THREE), (2, THREE[1:] + THREE[:1]), (3, THREE[::-1]))
    ]
    [same] = {frozenset(member.member_id for member in cluster) for cluster in clusters}
    assert len(same) == 3


def test_member_whose_name_is_a_number_shares_it_with_nobody() -> None:
    """In etcd the two become one member."""
    cluster, own = found({PLAIN: THREE}, "http://10.0.0.1:2380", name="0")
    assert sorted(member.name for member in cluster) == ["0", "1", "2"]
    assert own.peer_urls == ("http://n1.example.com:2380",)


def test_records_for_tls_and_others_are_taken_together() -> None:
    """Each has the scheme of its service."""
    cluster, own = found({SSL: THREE[:2], PLAIN: THREE[2:]}, "https://10.0.0.1:2380")
    assert {url for member in cluster for url in member.peer_urls} == {
        "https://n3.example.com:2380",
        "https://n1.example.com:2380",
        "http://n2.example.com:2380",
    }
    assert own.peer_urls == ("https://n1.example.com:2380",)


def test_service_name_stands_behind_that_of_the_service() -> None:
    """So several clusters have their records in one domain."""
    wanted = Discovery(domain="example.com", service_name="blue", source="--discovery-srv=example.com")
    records = {"_etcd-server-blue._tcp.example.com": THREE[1:2], PLAIN: THREE}
    cluster, _ = found(records, "http://10.0.0.1:2380", wanted=wanted)
    assert [member.peer_urls for member in cluster] == [("http://n1.example.com:2380",)]


@pytest.mark.parametrize(
    ("records", "own_urls", "line"),
    [
        ({}, ["http://10.0.0.1:2380"], f"no SRV records are at {SSL} and {PLAIN}: add one for each member"),
        (
            {PLAIN: THREE},
            ["http://10.0.0.9:2380"],
            'cannot find local etcd member "n1" in SRV records: they lead to http://n1.example.com:2380, '
            "http://n2.example.com:2380, http://n3.example.com:2380, and this member is at http://10.0.0.9:2380",
        ),
        (
            {PLAIN: THREE},
            ["http://10.0.0.1:2381"],
            'cannot find local etcd member "n1" in SRV records',
        ),
        (
            {PLAIN: THREE},
            ["http://n9.example.com:2380"],
            "http://n9.example.com:2380 has no address, so it cannot be found among the targets",
        ),
        (
            {PLAIN: (*THREE, Target("n9.example.com", 2380))},
            ["http://10.0.0.1:2380"],
            f"n9.example.com, a target of {PLAIN}, has no address: members that know it would found another cluster",
        ),
        (
            {PLAIN: THREE},
            ["https://10.0.0.1:2380"],
            f"bootstrap at http://n1.example.com:2380 from DNS for {PLAIN} has scheme mismatch with expected peer "
            "https://10.0.0.1:2380",
        ),
        (
            {PLAIN: (*THREE, Target("10.0.0.1", 2380))},
            ["http://10.0.0.1:2380"],
            "SRV records lead to this member as http://10.0.0.1:2380 and http://n1.example.com:2380, and others would",
        ),
        (
            {PLAIN: THREE},
            ["http://10.0.0.1:2380", "http://10.0.0.1:7001"],
            "http://10.0.0.1:7001 is a peer URL of this member, and no SRV record leads there: give "
            "--initial-advertise-peer-urls=http://n1.example.com:2380",
        ),
    ],
)
def test_records_by_which_members_would_not_find_one_cluster_are_refused(
    records: Mapping[str, tuple[Target, ...]], own_urls: list[str], line: str
) -> None:
    """In one line that says what to do."""
    with pytest.raises(DiscoveryError) as caught:
        found(records, *own_urls)
    assert str(caught.value).startswith(line)
    assert str(caught.value).isprintable()
