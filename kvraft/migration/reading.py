"""A running cluster's contents through its v2 API: whatever answers as etcd does."""

from collections.abc import Container, Sequence
from typing import Any, Final
from urllib.parse import quote

from kvraft import clock
from kvraft.client import Client, EtcdError
from kvraft.client.errors import KEY_NOT_FOUND
from kvraft.client.values import text_in, understood, whole_number
from kvraft.keyspace.account_commands import Permissions
from kvraft.keyspace.account_records import ROOT, Role, User
from kvraft.migration.contents import NS_PER_S, Contents, Node, parent_of, ways_to

LISTING_WITHIN_S: Final = 600.0
"""For the whole tree in one answer, which a loaded etcd takes long to make."""
_ACCOUNTS: Final = ("enable", "roles", "users")
REPLACED: Final = "\ufffd".encode()
"""What the API shows for each byte that is not UTF-8."""


def target_of(path: bytes) -> str:
    """The request's path of a node."""
    return "/v2/keys" + quote(path, safe="/")


async def read_cluster(client: Client, hidden: Sequence[bytes] = (), *, accounts: bool = True) -> Contents:
    """Everything that it shows, and what is hidden at these paths and below, with the directories above them.

    `etcd_index` is the oldest of the listings: whoever follows from there misses nothing.

    Raises:
        EtcdError: it refuses, for want of a right for one.
        ClientError: it cannot be asked, or is no etcd.
    """
    contents = Contents(0)
    indices = []
    seen: set[bytes] = set()
    for top in (b"/", *hidden):
        began_ns = clock.wall_ns()
        index, nodes = await _listing(client, top)
        contents.unsure_ns = max(contents.unsure_ns, clock.wall_ns() - began_ns)
        indices.append(index)
        nodes = [node for node in await _with_way(client, top, nodes, seen) if node.path not in seen]
        contents.nodes += nodes
        seen.update(node.path for node in nodes)
    contents.etcd_index = min(indices)
    contents.nodes, unnamed = await _named(client, contents.nodes)
    if unnamed:
        contents.notes.append(
            f"{unnamed} keys are not UTF-8: the API shows them, and answers under no name; stop the etcd and import"
            " from its data directory to have them"
        )
    if any(node.value and REPLACED in node.value for node in contents.nodes):
        contents.notes.append(
            "some values have U+FFFD in them: if they were binary, only the data directory still has them as they were"
        )
    if accounts:
        await read_accounts(client, contents)
    return contents


async def _with_way(client: Client, top: bytes, nodes: list[Node], seen: Container[bytes]) -> list[Node]:
    """A listing behind the directories above it that no other one has shown; nothing if it has gone with one."""
    above: list[Node] = []
    for path in ways_to(top)[:-1] if nodes else ():
        if path not in seen:
            _, listed = await _listing(client, path, recursive=False)
            if not listed:
                return []
            above.append(listed[0])
    return above + nodes


async def _listing(client: Client, top: bytes, *, recursive: bool = True) -> tuple[int, list[Node]]:
    """The index of a listing and every node in it, parents first, `top` too unless it is the root."""
    query = {"recursive": str(recursive).lower(), "quorum": "true"}
    answer = await client.request("GET", target_of(top), query=query, timeout_s=LISTING_WITHIN_S)
    now_ns = clock.wall_ns()
    try:
        told = answer.checked().json()
    except EtcdError as error:
        if error.code != KEY_NOT_FOUND:
            raise
        return error.index, []
    nodes: list[Node] = []
    with understood(answer.endpoint, "listing"):
        stack: list[dict[str, Any]] = [told["node"]]
        while stack:
            node = stack.pop()
            if node.get("key"):
                nodes.append(node_of(node, now_ns))
            stack.extend(node.get("nodes") or ())
    return answer.etcd_index, nodes


def node_of(told: dict[str, Any], now_ns: int) -> Node:
    """A node from its JSON; it expires by our clock, counted from the TTL that was told, whatever the server's is.

    Raises:
        TypeError: it is none.
        ValueError: it has no key.
    """
    expiration_ns = 0
    if told.get("expiration"):
        expiration_ns = now_ns + whole_number(told, "ttl") * NS_PER_S
    value = None if told.get("dir") else (text_in(told, "value") or "").encode("utf-8", "replace")
    path = (text_in(told, "key") or "").encode("utf-8", "replace")
    if not path.startswith(b"/") or path == b"/":
        raise ValueError(f"{path!r} is no key")
    return Node(path, value, expiration_ns, whole_number(told, "createdIndex"), whole_number(told, "modifiedIndex"))


async def _named(client: Client, nodes: list[Node]) -> tuple[list[Node], int]:
    """The nodes that answer under the name that is shown, and how many do not."""
    kept: list[Node] = []
    unnamed: set[bytes] = set()
    for node in nodes:
        if REPLACED in node.path:
            is_gone = parent_of(node.path) in unnamed
            if is_gone or (await client.request("GET", target_of(node.path))).status == 404:
                unnamed.add(node.path)
                continue
        kept.append(node)
    return kept, len(unnamed)


async def read_accounts(client: Client, contents: Contents) -> None:
    """Users without their hashes, which no API tells, and roles."""
    try:
        answers = [(await client.request("GET", f"/v2/auth/{name}")).checked() for name in _ACCOUNTS]
    except EtcdError as error:
        why = f"users and roles cannot be read ({error}): it takes a user with the role root"
        contents.notes.append(why)
        if error.status != 404:  # an etcd from before 2.1 has none
            contents.accounts_unread = why
        return
    with understood(answers[0].endpoint, "list of users and roles"):
        _take_accounts(contents, *(answer.json() for answer in answers))


def _take_accounts(contents: Contents, enabled: Any, roles: Any, users: Any) -> None:
    contents.auth_enabled = bool(enabled.get("enabled"))
    for told in roles.get("roles") or ():
        patterns = (told.get("permissions") or {}).get("kv") or {}
        permissions = Permissions(_texts(patterns.get("read")), _texts(patterns.get("write")))
        (name,) = _texts([told["role"]])
        if name != ROOT:
            contents.roles.append(Role(name, permissions))
    for told in users.get("users") or ():
        # etcd 2.1 and 2.2 tell the names alone.
        names = [each["role"] if isinstance(each, dict) else each for each in told.get("roles") or ()]
        (name,) = _texts([told["user"]])
        contents.users.append(User(name, b"", tuple(sorted(_texts(names)))))


def _texts(told: Any) -> tuple[str, ...]:
    if not isinstance(told, list | None) or not all(isinstance(each, str) for each in told or ()):
        raise TypeError(f"{told!r:.80} is no list of texts")
    return tuple(told or ())
