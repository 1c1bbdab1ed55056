"""Names in URLs that lead to more than one address, or are the same place as an address: beside the real etcd."""

from pathlib import Path

import pytest

from kvraft.testing.cluster import Cluster, Kind
from tests.conformance import hosts
from tests.proxy.running import running
from tests.proxy.silence import silent

pytestmark = [pytest.mark.slow, pytest.mark.landing]


@pytest.mark.parametrize("kind", ["etcd", "kvraft"])
def test_proxy_reaches_a_member_whose_name_has_a_dead_first_address(kind: Kind, tmp_path: Path) -> None:
    """Within the second that a dial may take."""
    with Cluster(tmp_path, size=1) as cluster:
        [member] = cluster.members
        member.terminate()
        member.cluster_flags["advertise-client-urls"] = f"http://two:{member.client_port}"
        member.start()
        member.wait_ready()
        both = hosts.wrapper(tmp_path, "::1 two", "127.0.0.1 two")
        with silent("::1", member.client_port), running(cluster, kind, wrapper=both) as proxy:
            endpoints = proxy.http("GET", "/v2/config/local/proxy").json()
            assert endpoints == {"endpoints": [f"http://two:{member.client_port}"]}
            assert proxy.http("PUT", "/v2/keys/a", form={"value": "1"}).status == 201
