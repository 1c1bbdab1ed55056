"""`kvraft member`: who belongs to the cluster, and changes of it, for those without etcdctl.

The changes are those of /v2/members, so they work with etcd as well. Where users have to say who they are, they are for
those with the role root.
"""

from collections.abc import Sequence
from typing import Any, Final

import click

from kvraft.client import Client, EtcdError
from kvraft.client.values import Answer
from kvraft.commands.calls import Call, group, subcommand
from kvraft.commands.cluster_view import MEMBERS, leader_of, members_of, record_in
from kvraft.commands.exits import Exit, Failure
from kvraft.commands.options import Text

_CHANGE_S: Final = 10.0
"""A change of the members is answered within 7 s, by a cluster without a quorum too."""
_SERVER_ERROR: Final = 500

Record = dict[str, Any]
"""A member as /v2/members tells it."""

command = group("List, add, remove, move and replace members.")


@subcommand("list", command)
async def list_members(call: Call) -> None:
    """List the members with their ids, names and URLs."""
    async with call.client() as client:
        members = await members_of(client)
        leader_id = await leader_of(client)
    if call.out.is_json:
        call.out.json([{**member, "isLeader": member["id"] == leader_id} for member in members])
        return
    rows = [
        [
            member["id"],
            member["name"] or ("not started", "doubtful"),
            ("leader", "good") if member["id"] == leader_id else "",
            ", ".join(member["peerURLs"]),
            ", ".join(member["clientURLs"]),
        ]
        for member in members
    ]
    call.out.table(["ID", "NAME", "", "PEER URLS", "CLIENT URLS"], rows)


@subcommand("add", command)
@click.argument("name", type=Text())
@click.argument("peer_urls", metavar="PEER_URL[,...]", type=Text())
async def add(call: Call, name: str, peer_urls: str) -> None:
    """Add a member, and print what it has to be started with.

    The lines go into the new member's environment file as they are; beside them it needs what every member does. It
    gets the data first and votes once it has caught up. The list of members is that of the moment, so add and start
    one member after the other.
    """
    async with call.client(timeout_s=_CHANGE_S) as client:
        added = record_in(await _change(client, "POST", MEMBERS, peer_urls))
        members = await members_of(client)
    variables = {
        "ETCD_NAME": name,
        "ETCD_INITIAL_CLUSTER": ",".join(_founders(members, added["id"], name)),
        "ETCD_INITIAL_ADVERTISE_PEER_URLS": ",".join(added["peerURLs"]),
        "ETCD_INITIAL_CLUSTER_STATE": "existing",
    }
    _print_new(call, f"added member {name} with id {added['id']}", added, variables)


@subcommand("replace", command)
@click.argument("member", type=Text())
@click.argument("name", type=Text())
@click.argument("peer_urls", metavar="PEER_URL[,...]", type=Text())
async def replace(call: Call, member: str, name: str, peer_urls: str) -> None:
    """Add a member in the place of MEMBER, and print what it has to be started with.

    MEMBER is a name or an id. It is removed by the new member, as soon as that one votes itself; until then the
    cluster can lose no further member, as before. The lines go into the new member's environment file; beside them it
    needs what every member does. A member that only lost its disk takes its own place: start it with --replace and
    --join, or with --rebuild.
    """
    async with call.client(timeout_s=_CHANGE_S) as client:
        members = await members_of(client)
        old = _find(members, member)
        if not old["name"]:
            text = f"{member} has never been started, so nobody can come in its place: kvraft member remove {old['id']}"
            raise Failure(text, Exit.WRONG_ARGUMENTS)
        if set(old["peerURLs"]) & set(peer_urls.split(",")):
            text = (
                f"{old['name']} itself is at {peer_urls}: if only its disk is lost, start it with --join and "
                f"--replace {old['name']}, or with --rebuild"
            )
            raise Failure(text, Exit.WRONG_ARGUMENTS)
        added = record_in(await _change(client, "POST", MEMBERS, peer_urls))
    running = [url for each in members if each["id"] != old["id"] for url in each["clientURLs"]]
    variables = {
        "ETCD_NAME": name,
        "ETCD_JOIN": ",".join(running or old["clientURLs"]),
        "ETCD_REPLACE": old["name"],
        "ETCD_INITIAL_ADVERTISE_PEER_URLS": ",".join(added["peerURLs"]),
    }
    _print_new(call, f"added member {name} with id {added['id']}; it will remove {old['name']}", added, variables)


@subcommand("remove", command)
@click.argument("member", type=Text())
async def remove(call: Call, member: str) -> None:
    """Remove a member.

    MEMBER is a name or an id. The member is told and ends by itself; its directory can then be deleted.
    """
    async with call.client(timeout_s=_CHANGE_S) as client:
        record = _find(await members_of(client), member)
        await _change(client, "DELETE", f"{MEMBERS}/{record['id']}")
    _print_changed(call, f"removed member {_title(record)}", record)


@subcommand("update", command)
@click.argument("member", type=Text())
@click.argument("peer_urls", metavar="PEER_URL[,...]", type=Text())
async def update(call: Call, member: str, peer_urls: str) -> None:
    """Tell the cluster that a member is at other peer URLs.

    MEMBER is a name or an id. It keeps its id and its data: stop it, tell the cluster, and start it there.
    """
    async with call.client(timeout_s=_CHANGE_S) as client:
        record = _find(await members_of(client), member)
        await _change(client, "PUT", f"{MEMBERS}/{record['id']}", peer_urls)
    moved = {**record, "peerURLs": peer_urls.split(",")}
    _print_changed(call, f"member {_title(record)} is at {peer_urls} from now on", moved)


async def _change(client: Client, method: str, path: str, peer_urls: str = "") -> Answer:
    """Change the members.

    Raises:
        Failure: the cluster does not do it, and has no word for the reason.
        EtcdError: it says why.
    """
    body = {"peerURLs": peer_urls.split(",")} if peer_urls else None
    try:
        return (await client.request(method, path, json=body)).checked()
    except EtcdError as error:
        if error.status < _SERVER_ERROR:
            raise
        raise Failure(
            f"the cluster does not do it: {error}: there is no majority, a member does not answer or was never started "
            f"(--strict-reconfig-check), or members differ in version; the log of {client.endpoints[0]} says which"
        ) from None


def _find(members: Sequence[Record], wanted: str) -> Record:
    """The member of a name or id.

    Raises:
        Failure: there is none, or there are several.
    """
    found = [member for member in members if member["id"] == wanted.lower()]
    found = found or [member for member in members if member["name"] == wanted]
    if len(found) == 1:
        return found[0]
    known = ", ".join(map(_title, members))
    if found:
        raise Failure(f"several members have the name {wanted}: give an id: {known}", Exit.WRONG_ARGUMENTS)
    raise Failure(f"no member has the name or id {wanted!r}: there are {known}", Exit.WRONG_ARGUMENTS)


def _title(record: Record) -> str:
    return f"{record['name']} ({record['id']})" if record["name"] else f"{record['id']} (not started)"


def _founders(members: Sequence[Record], added_id: str, name: str) -> list[str]:
    """`NAME=URL` of all, as etcdctl prints them."""
    return [
        f"{name if member['id'] == added_id else member['name']}={url}"
        for member in members
        for url in member["peerURLs"]
    ]


def _print_new(call: Call, text: str, record: Record, variables: dict[str, str]) -> None:
    """The variables alone go to stdout: `kvraft member add ... > environment`."""
    if call.out.is_json:
        call.out.json({**record, "environment": variables})
        return
    call.out.note(text)
    for name, value in variables.items():
        call.out.line(f'{name}="{value}"')


def _print_changed(call: Call, text: str, record: Record) -> None:
    if call.out.is_json:
        call.out.json(record)
    else:
        call.out.line(text)
