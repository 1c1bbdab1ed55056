"""What can be learned about a cluster by asking each of its members: a look at a moment, and what is wrong with it.

Members of kvraft are asked for /v2/kvraft/status. Those that have no such page, etcd's above all, are asked for what
etcd shows to everybody, and the rest stays unknown.
"""

import asyncio
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, final

from kvraft.client import BadAnswer, Client, ClientError, EtcdError
from kvraft.client.values import Answer, understood, whole_number
from kvraft.commands.exits import Failure

MEMBERS: Final = "/v2/members"
_STATUS: Final = "/v2/kvraft/status"
_OK: Final = 200
_NOT_FOUND: Final = 404
_ROLES: Final = {"StateLeader": "leader", "StateFollower": "follower", "StateCandidate": "candidate"}

_COUNTS: Final = (
    "term",
    "appliedIndex",
    "commitIndex",
    "etcdIndex",
    "historyStart",
    "logBytes",
    "diskUsedBytes",
    "diskFreeBytes",
)
"""What `status` calculates with."""
_NUMBER: Final = re.compile(r"[0-9]{1,20}")

NewClient = Callable[[Sequence[str]], Client]
"""A client of these endpoints, which asks as the same user."""


@final
@dataclass(slots=True)
class MemberView:
    """One member."""

    record: dict[str, Any]
    """As /v2/members tells it: id, name, peerURLs, clientURLs."""
    status: dict[str, Any] | None
    """What it tells of itself; None if it does not answer."""
    error: str = ""
    """Why it does not; empty also if it has never been started, so that nobody knows where to ask."""

    @property
    def title(self) -> str:
        """Its name, or its id before it has one."""
        return str(self.record["name"] or self.record["id"])

    @property
    def role(self) -> str:
        """Empty if it is not known."""
        return str(self.status.get("role", "")) if self.status else ""


@final
@dataclass(slots=True)
class ClusterView:
    """All members."""

    members: list[MemberView]
    problems: list[str] = field(default_factory=list)
    """What is wrong, a line each; empty if nothing is."""

    @property
    def leader(self) -> MemberView | None:
        """Who leads, by its own word; of two who say so the one with the later term."""
        leading = [member for member in self.members if member.role == "leader"]
        return max(leading, key=lambda member: _number(member, "term"), default=None)

    def lag(self, member: MemberView) -> int | None:
        """How many entries a member is behind what its leader has committed; None if that is not known.

        For one that does not answer here the leader's word counts.
        """
        leader = self.leader
        if leader is None or leader.status is None or "commitIndex" not in leader.status:
            return None
        if member.status and "appliedIndex" in member.status:
            at = member.status["appliedIndex"]
        else:
            told = {each["id"]: each["matchIndex"] for each in leader.status.get("followers", ())}
            at = told.get(member.record["id"])
        return None if at is None else max(leader.status["commitIndex"] - at, 0)


async def look(client: Client, endpoints: Iterable[str], new_client: NewClient, now_s: float) -> ClusterView:
    """Ask every member, all at once, at the endpoints that were given and otherwise where members say they are.

    Raises:
        ClientError: nobody says who the members are.
        EtcdError: 401 or 403, if whoever asks may not know this.
    """
    records = await members_of(client)
    named = list(dict.fromkeys(endpoints))
    given = await asyncio.gather(*(_ask([endpoint], new_client) for endpoint in named))
    by_id = {found["id"]: found for found in reversed(given) if isinstance(found, dict)}

    async def view(record: dict[str, Any]) -> MemberView:
        if record["id"] in by_id:
            return MemberView(record, by_id[record["id"]])
        if not record["clientURLs"]:
            return MemberView(record, None)
        found = await _ask(record["clientURLs"], new_client)
        if isinstance(found, str):
            return MemberView(record, None, found)
        if found["id"] != record["id"]:
            return MemberView(record, None, f"member {found['id']} answers at {record['clientURLs'][0]}")
        return MemberView(record, found)

    members = await asyncio.gather(*map(view, records))
    cluster = ClusterView(sorted(members, key=lambda member: member.title))
    cluster.problems = _problems(cluster, now_s) + _strange(cluster, dict(zip(named, given, strict=True)))
    return cluster


async def members_of(client: Client) -> list[dict[str, Any]]:
    """Everybody who belongs to the cluster, as /v2/members tells it."""
    answer = (await client.request("GET", MEMBERS)).checked()
    told = answer.json()
    members = told.get("members") if isinstance(told, dict) else None
    if not isinstance(members, list) or not all(map(_is_record, members)):
        raise BadAnswer(answer.endpoint, "answered what no list of members is")
    return members


def _is_record(told: object) -> bool:
    if not isinstance(told, dict) or not all(isinstance(told.get(key), str) for key in ("id", "name")):
        return False
    urls = [told.get(key) for key in ("peerURLs", "clientURLs")]
    return all(isinstance(each, list) and all(isinstance(url, str) for url in each) for each in urls)


def record_in(answer: Answer) -> dict[str, Any]:
    """The one member in an answer.

    Raises:
        BadAnswer: it is none.
    """
    told = answer.json()
    if not _is_record(told):
        raise BadAnswer(answer.endpoint, "answered what no member is")
    record: dict[str, Any] = told
    return record


async def leader_of(client: Client) -> str:
    """The leader's id; empty while there is none."""
    answer = await client.request("GET", f"{MEMBERS}/leader")
    told = answer.json() if answer.status == _OK else {"id": ""}
    leader_id = told.get("id") if isinstance(told, dict) else None
    if not isinstance(leader_id, str):
        raise BadAnswer(answer.endpoint, "answered what no leader is")
    return leader_id


async def _ask(urls: Sequence[str], new_client: NewClient) -> dict[str, Any] | str:
    """What a member tells of itself, or why it does not."""
    try:
        async with new_client(urls) as client:
            answer = await client.request("GET", _STATUS)
            if answer.status == _NOT_FOUND:
                return await _ask_etcd(client)
            status = answer.checked().json()
            with understood(answer.endpoint, "status of a member"):
                return _checked(status)
    except EtcdError as error:
        if error.status in {401, 403}:
            raise  # whoever may not ask one of them may ask none
        return str(error)
    except (ClientError, Failure) as error:  # what a member says of its place may be no endpoint
        return str(error)


async def _ask_etcd(client: Client) -> dict[str, Any]:
    """What every etcd v2 shows, by the same names."""
    own = (await client.request("GET", "/v2/stats/self")).checked().json()
    version = (await client.request("GET", "/version")).checked().json()
    head = (await client.request("GET", "/v2/keys/")).headers
    health = (await client.request("GET", "/health")).status
    with understood(client.endpoints[0], "status of a member"):
        shown = {
            "id": own["id"],
            "name": own["name"],
            "clusterId": head.get("X-Etcd-Cluster-Id", ""),
            "clusterVersion": version.get("etcdcluster", ""),
            "role": _ROLES.get(own["state"], own["state"]),
            "leader": own.get("leaderInfo", {}).get("leader", ""),
            "startTime": own["startTime"],
            "etcdVersion": version.get("etcdserver", ""),
            "isHealthy": health == _OK,
        }
        for name, header in (("term", "X-Raft-Term"), ("appliedIndex", "X-Raft-Index"), ("etcdIndex", "X-Etcd-Index")):
            if _NUMBER.fullmatch(head.get(header, "")):
                shown[name] = int(head[header])
        return _checked(shown)


def _checked(status: Any) -> dict[str, Any]:
    """What a member tells of itself, where what is shown of it is of its kind; the rest is not looked at.

    Raises:
        TypeError: it is not.
        ValueError: a certificate ends at no time.
        LookupError: something is missing.
    """
    for name in ("id", "clusterId", "leader", "version" if "version" in status else "etcdVersion"):
        _expect(status[name], str)
    for name in ("role", "name"):
        _expect(status.get(name, ""), str)
    for name in _COUNTS:
        whole_number(status, name)
    for alarm in status.get("alarms", []):
        _expect(alarm, str)
    for follower in status.get("followers", []):
        _expect(follower["id"], str)
        _expect(follower["matchIndex"], int)
    for certificate in status.get("certificates", []):
        _expect(certificate["listener"], str)
        days_left(certificate["endsAt"], 0)
    told: dict[str, Any] = status
    return told


def _expect(value: object, kind: type) -> None:
    if type(value) is not kind:
        raise TypeError(f"{value!r:.80} where {kind.__name__} belongs")


def _problems(cluster: ClusterView, now_s: float) -> list[str]:
    """What an operator should know, the worst first."""
    problems = []
    if cluster.leader is None:
        problems.append("no leader: nothing can be written until a majority of the members can talk to each other")
    elif len({member.status["leader"] for member in cluster.members if member.status}) > 1:
        problems.append("the members do not agree on who leads; an election may be under way")
    if len({member.status["clusterId"] for member in cluster.members if member.status}) > 1:
        problems.append("the members belong to different clusters")
    for member in cluster.members:
        if member.status is None:
            why = f"does not answer: {member.error}" if member.error else "has never been started"
            problems.append(f"{member.title} {why}")
            continue
        problems += [f"{member.title} has the alarm {alarm}" for alarm in member.status.get("alarms", ())]
        if member.status.get("isHealthy") is False:
            problems.append(f"{member.title} is not healthy, by its own word")
        for certificate in member.status.get("certificates", ()):
            days = days_left(certificate["endsAt"], now_s)
            if days < 0:
                problems.append(f"{member.title}: its {certificate['listener']} certificate has ended")
    return problems


def _strange(cluster: ClusterView, given: Mapping[str, dict[str, Any] | str]) -> list[str]:
    """What is wrong with endpoints that were named: whoever names one wants to know of it, whoever else answers."""
    problems = []
    silent = {url for member in cluster.members if member.status is None for url in member.record["clientURLs"]}
    own = {member.record["id"]: member.status["clusterId"] for member in cluster.members if member.status}
    for endpoint, found in given.items():
        if isinstance(found, str):
            if endpoint not in silent:  # its member has a line
                problems.append(f"{endpoint} does not answer: {found.removeprefix(f'{endpoint}: ')}")
        elif own and found["clusterId"] not in own.values():
            problems.append(f"{endpoint} belongs to another cluster, {found['clusterId']}")
        elif own.get(found["id"]) != found["clusterId"]:
            problems.append(f"{endpoint} is member {found['id']}, which does not belong to the cluster")
    return problems


def days_left(ends_at: str, now_s: float) -> int:
    """Whole days until a time like `2027-01-31T12:00:00Z`; negative if it is over."""
    from datetime import datetime  # noqa: PLC0415 -- few clusters have certificates

    return int((datetime.fromisoformat(ends_at).timestamp() - now_s) // 86_400)


def _number(member: MemberView, name: str) -> int:
    return int((member.status or {}).get(name, 0))
