"""/v2/stats and /metrics of three members under writes, field by field beside etcd's."""

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, Final

import pytest

from tests.conformance import systems
from tests.conformance.systems import System
from tests.conformance.wire import Connection, Request, ask_all, keys_request

pytestmark = pytest.mark.slow
WRITES = 64


@pytest.fixture(scope="module")
def oracle() -> Iterator[System]:
    """Three members of etcd."""
    with systems.etcd(3) as system:
        yield system


def shape(value: Any) -> Any:
    """Names in their order, and kinds of values; member ids are all alike."""
    if isinstance(value, dict):
        named = [("<id>" if len(name) > 10 and name.isalnum() and name.islower() else name) for name in value]
        return [(name, shape(item)) for name, item in zip(named, value.values(), strict=True)]
    if isinstance(value, int | float):
        return "number"
    return type(value).__name__


def stats(system: System, member: int, name: str) -> Any:
    """One page of one member."""
    with Connection(system.client_urls[member]) as connection:
        return json.loads(connection.ask(Request("GET", f"/v2/stats/{name}".encode())).body)


def pages_under_writes(system: System) -> dict[str, Any]:
    """The pages of a leader and of a follower, asked right behind writes."""
    for _ in range(5):
        writes = [keys_request("PUT", f"/stats/{number}", "value=" + "x" * 100) for number in range(WRITES)]
        assert all(answer.status in (200, 201) for answer in ask_all(system.client_urls[0], writes))
        leader = stats(system, 0, "self")["leaderInfo"]["leader"]
        pages = [stats(system, member, "self") for member in range(3)]
        leading = next(number for number, page in enumerate(pages) if page["id"] == leader)
        follower = pages[(leading + 1) % 3]
        if "sendPkgRate" in pages[leading] and "recvPkgRate" in follower:
            return {"leader": pages[leading], "follower": follower, "followers": stats(system, leading, "leader")}
    raise AssertionError("no rates behind writes")


def test_stats_of_three_members_have_etcds_fields(oracle: System, subject_of_three: System) -> None:
    """Rates included, which etcd leaves out without traffic; what is measured is plausible for what was written."""
    expected = pages_under_writes(oracle)
    actual = pages_under_writes(subject_of_three)
    assert shape(actual["leader"]) == shape(expected["leader"])
    assert shape(actual["follower"]) == shape(expected["follower"])
    assert sorted(shape(actual["followers"]["followers"])) == sorted(shape(expected["followers"]["followers"]))
    for page, direction in (("leader", "send"), ("follower", "recv")):
        rate, size = actual[page][f"{direction}PkgRate"], actual[page][f"{direction}BandwidthRate"]
        assert rate > 0
        assert size / rate > 64


ALERTED: Final = {
    "etcd_server_has_leader",
    "etcd_server_leader_changes_seen_total",
    "etcd_server_proposals_failed_total",
    "etcd_http_failed_total",
    "etcd_http_received_total",
    "etcd_disk_wal_fsync_duration_seconds_bucket",
    "etcd_disk_backend_commit_duration_seconds_bucket",
    "process_open_fds",
    "process_max_fds",
}
"""What etcd's own alert rules ask for (contrib/mixin), gRPC and what docs/operations.md says is missing aside."""
_SAMPLE: Final = re.compile(r"^(\w+)(?:\{([^}]*)\})? \S+$", re.MULTILINE)


_ROUND_TRIP: Final = "etcd_network_peer_round_trip_time_seconds"
LATER: Final = {
    "etcd_network_peer_sent_failures_total",
    *(_ROUND_TRIP + part for part in ("_bucket", "_count", "_sum")),
}
"""What etcd shows after a failure, and after its first look at its peers, some seconds after a start."""


def labels(system: System) -> dict[str, set[str]]:
    """The names of the figures on any member's page, each with the names of its labels."""
    found: dict[str, set[str]] = defaultdict(set)
    for url in system.client_urls:
        with Connection(url) as connection:
            connection.ask(keys_request("GET", "/stats/none"))
            page = connection.ask(Request("GET", b"/metrics")).body.decode()
        for name, pairs in _SAMPLE.findall(page):
            found[name].update(re.findall(r'(\w+)="', pairs))
    return found


def test_figures_have_etcds_names_and_labels(oracle: System, subject_of_three: System) -> None:
    """What an alert rule for etcd names is there, by the same labels, and nothing under a name that etcd lacks."""
    pages = []
    for system in (oracle, subject_of_three):
        pages_under_writes(system)
        pages.append(labels(system))
    expected, actual = pages
    assert expected.keys() >= ALERTED
    assert actual.keys() >= ALERTED
    ours = {name: named for name, named in actual.items() if name.startswith("etcd_")}
    assert ours.keys() - expected.keys() <= LATER
    assert {name: expected[name] for name in ours.keys() & expected.keys() if expected[name] != ours[name]} == {}


def test_cluster_version_has_no_patch(oracle: System, subject_of_three: System) -> None:
    """Two numbers in /metrics, three in /version."""
    shown = []
    for system in (oracle, subject_of_three):
        with Connection(system.client_urls[0]) as connection:
            page = connection.ask(Request("GET", b"/metrics")).body
        found = re.findall(rb'^etcd_cluster_version\{cluster_version="([^"]*)"\}', page, re.MULTILINE)
        shown.append([name.count(b".") for name in found])
    assert shown == [[1], [1]]
