"""`kvraft member`: who belongs to the cluster, and changes of it, for those without etcdctl."""

from typing import Any, Final

from kvraft.client import Client
from kvraft.commands.calls import Call, group, subcommand

_PATH: Final = "/v2/members"

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
            member["name"],
            ", ".join(member["peerURLs"]),
            ", ".join(member["clientURLs"]),
            ("leader", "good") if member["id"] == leader_id else "",
        ]
        for member in members
    ]
    call.out.table(["ID", "NAME", "PEER URLS", "CLIENT URLS", ""], rows)


async def members_of(client: Client) -> list[dict[str, Any]]:
    """Everybody who belongs to the cluster, as /v2/members tells it."""
    members: list[dict[str, Any]] = (await client.request("GET", _PATH)).checked().json()["members"]
    return members


async def leader_of(client: Client) -> str:
    """The leader's id; empty while there is none."""
    answer = await client.request("GET", f"{_PATH}/leader")
    leader_id: str = answer.json()["id"] if answer.status == 200 else ""
    return leader_id
