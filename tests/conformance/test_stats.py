"""/v2/stats of three members under writes, field by field beside etcd's."""

import json
from typing import Any

import pytest

from tests.conformance import systems
from tests.conformance.systems import System
from tests.conformance.wire import Connection, Request, ask_all, keys_request

pytestmark = pytest.mark.slow
WRITES = 64


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


def test_stats_of_three_members_have_etcds_fields(subject_of_three: System) -> None:
    """Rates included, which etcd leaves out without traffic; what is measured is plausible for what was written."""
    with systems.etcd(3) as oracle:
        expected = pages_under_writes(oracle)
    actual = pages_under_writes(subject_of_three)
    assert shape(actual["leader"]) == shape(expected["leader"])
    assert shape(actual["follower"]) == shape(expected["follower"])
    assert sorted(shape(actual["followers"]["followers"])) == sorted(shape(expected["followers"]["followers"]))
    for page, direction in (("leader", "send"), ("follower", "recv")):
        rate, size = actual[page][f"{direction}PkgRate"], actual[page][f"{direction}BandwidthRate"]
        assert rate > 0
        assert size / rate > 64
