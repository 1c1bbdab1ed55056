"""Keys, over HTTP, against a served keyspace."""

import pytest

from kvraft.client import Client, EtcdError
from kvraft.client.errors import COMPARE_FAILED, KEY_NOT_FOUND, NODE_EXISTS
from tests.api_v2.conftest import Served


async def test_what_is_set_is_got(client: Client) -> None:
    """Values, indices and the node before come back as they are."""
    first = await client.set("/a", "one")
    second = await client.set("a", "two ü & =")
    assert (first.action, first.prev_node, first.node.key) == ("set", None, "/a")
    assert second.prev_node is not None and second.prev_node.value == "one"
    got = await client.get("/a", quorum=True)
    assert (got.node.value, got.node.modified_index) == ("two ü & =", second.node.modified_index)
    assert got.etcd_index == second.node.modified_index == second.node.created_index
    assert (got.node.ttl, got.node.expiration, got.node.is_directory) == (None, None, False)


@pytest.mark.parametrize("key", ["/with space", "/ü/☃", "/a%2Fb", "/q?x=1#y", "/plus+and&more", "/semi;colon"])
async def test_any_key_may_be_named(client: Client, key: str) -> None:
    """What is special in a URL is special in no key."""
    assert (await client.set(key, "v")).node.key == key
    assert (await client.get(key)).node.value == "v"
    assert (await client.delete(key)).prev_node is not None


async def test_value_of_any_bytes_is_sent(client: Client) -> None:
    """Bytes that are no UTF-8 are sent as they are; JSON shows them as Go does."""
    assert (await client.set("/raw", b"\xff+ &")).node.value == "\ufffd+ &"


async def test_directory_is_listed_with_all_below_it(client: Client) -> None:
    """A tree comes back as nodes in nodes, also from the root, which etcd gives no key."""
    await client.set("/d/e/f", "deep")
    await client.set("/d/b", "flat", ttl=100)
    root = await client.get("/", recursive=True, sorted=True)
    assert root.node.key == "/"
    (d,) = root.node.nodes
    b, e = d.nodes
    assert (d.is_directory, d.value, e.nodes[0].value) == (True, None, "deep")
    assert b.ttl is not None and 98 <= b.ttl <= 100
    assert b.expiration is not None


async def test_directories_are_made_and_deleted(client: Client) -> None:
    """`directory` makes one, gives it a TTL, and deletes it if it is empty."""
    made = await client.set("/d", directory=True, ttl=50)
    assert made.node.is_directory and made.node.ttl == 50
    assert (await client.set("/d", directory=True, prev_exist=True)).action == "update"
    await client.set("/d/x", "1")
    with pytest.raises(EtcdError, match="Directory not empty"):
        await client.delete("/d", directory=True)
    assert (await client.delete("/d", recursive=True)).node.value is None


async def test_conditions_are_etcds(client: Client) -> None:
    """prevExist, prevValue and prevIndex, each with its error and its action."""
    created = await client.set("/a", "1", prev_exist=False)
    assert created.action == "create"
    with pytest.raises(EtcdError) as exists:
        await client.set("/a", "1", prev_exist=False)
    assert (exists.value.code, exists.value.status) == (NODE_EXISTS, 412)
    with pytest.raises(EtcdError) as compared:
        await client.set("/a", "2", prev_value="x")
    assert compared.value.code == COMPARE_FAILED
    swapped = await client.set("/a", "2", prev_index=created.node.modified_index)
    assert swapped.action == "compareAndSwap"
    assert (await client.delete("/a", prev_value="2")).action == "compareAndDelete"
    with pytest.raises(EtcdError) as gone:
        await client.get("/a")
    assert (gone.value.code, gone.value.cause, gone.value.status) == (KEY_NOT_FOUND, "/a", 404)
    assert str(gone.value) == f"100: Key not found (/a) [{gone.value.index}]"


async def test_refresh_changes_the_ttl_alone(client: Client) -> None:
    """The value stays."""
    await client.set("/a", "v", ttl=10)
    refreshed = await client.set("/a", ttl=500, prev_exist=True, refresh=True)
    assert (refreshed.node.value, refreshed.node.ttl) == ("v", 500)


async def test_keys_in_order_sort_by_their_creation(client: Client) -> None:
    """POST, whose names sort as they were made."""
    events = [await client.create_in_order("/queue", str(n), ttl=60) for n in range(3)]
    listed = await client.get("/queue", sorted=True)
    assert [node.value for node in listed.node.nodes] == ["0", "1", "2"]
    assert [node.key for node in listed.node.nodes] == [event.node.key for event in events]


async def test_any_endpoint_can_be_asked(client: Client, served: Served) -> None:
    """Whole answers with headers in whatever case, and refusals that are no error until asked for."""
    answer = await client.request("GET", "/v2/members")
    assert answer.checked().json()["members"][0]["name"] == "g"
    assert answer.headers["x-etcd-cluster-id"] == answer.headers["X-Etcd-Cluster-Id"]
    assert answer.endpoint == served.url
    refused = await client.request("POST", "/v2/members", json={"peerURLs": ["nonsense"]})
    assert refused.status == 400
    with pytest.raises(EtcdError) as error:
        refused.checked()
    assert (error.value.code, error.value.status) == (0, 400)
    assert (await client.request("GET", "/nothing")).status == 404
