"""Who the members of a running cluster are, as one of them tells."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final, TypeVar, final

from kvraft import ids
from kvraft.founding import Founder
from kvraft.records import MemberRecord
from kvraft.settings import urls
from kvraft.settings.flags import SettingsError, one_line
from kvraft.start.http_door import HttpDoor, NoAnswerError, Reply
from kvraft.start.same_places import addresses, same_places

PEER_PATH: Final = "/members"
"""On a peer port: an array, with ids as numbers."""
CLIENT_PATH: Final = "/v2/members"
"""On a client port: an object, with ids in hexadecimal."""

_Member = TypeVar("_Member", MemberRecord, Founder)


@final
@dataclass(slots=True, frozen=True)
class ToldMembers:
    """One member's word."""

    url: str
    """Where it was asked."""
    cluster_id: int
    members: tuple[MemberRecord, ...]
    voters: frozenset[int]
    """Who votes in the configuration that it goes by; nobody if it does not say."""

    def known(self) -> tuple[Founder, ...]:
        """As a data directory keeps them."""
        return tuple(Founder(member.member_id, member.name, member.peer_urls) for member in self.members)


def told(reply: Reply) -> ToldMembers:
    """Read an answer of status 200 from either port.

    Raises:
        NoAnswerError: it is not what a member answers.
    """
    value = reply.json()
    if isinstance(value, dict):
        value = value.get("members")
    try:
        cluster_id = int(reply.cluster_id, 16)
        voters = frozenset(int(voter, 16) for voter in reply.voters.split(",") if voter)
        members = tuple(_read_member(each) for each in value) if isinstance(value, list) else ()
    except (ValueError, KeyError, TypeError):
        members = ()
    if not members:
        raise NoAnswerError(f"{reply.url}: what answers there is no member of a cluster")
    return ToldMembers(reply.url, cluster_id, tuple(sorted(members, key=lambda member: member.member_id)), voters)


def _read_member(value: dict[str, object]) -> MemberRecord:
    """Raises what `told` catches, for what no member says."""
    member_id = value["id"]
    if not isinstance(member_id, int | str):
        raise TypeError
    lists = []
    for key in ("peerURLs", "clientURLs"):
        texts = value.get(key) or []
        if not isinstance(texts, list):
            raise TypeError
        lists.append(tuple(sorted(str(urls.parse(str(text))) for text in texts)))
    number = member_id if isinstance(member_id, int) else int(member_id, 16)
    if not lists[0] or not 0 < number < 1 << 64:
        raise ValueError
    return MemberRecord(number, str(value.get("name", "")), *lists)


def has_started(member: MemberRecord) -> bool:
    """Whether it has ever told of itself: a founder has its name before that, but no client URL."""
    return bool(member.client_urls)


def shown(members: Iterable[MemberRecord | Founder]) -> str:
    """For an operator: every member with its URLs."""
    return "; ".join(
        f"{member.name or ids.text(member.member_id)} at {','.join(member.peer_urls)}" for member in members
    )


def find_at(peer_urls: Sequence[str], members: Iterable[_Member]) -> _Member | None:
    """The member with these peer URLs, however they are written."""
    members = list(members)
    exact = next((member for member in members if sorted(member.peer_urls) == sorted(peer_urls)), None)
    return exact or next((member for member in members if same_places(member.peer_urls, peer_urls, addresses)), None)


def refuse_etcd(door: HttpDoor, members: Iterable[MemberRecord]) -> None:
    """Members of etcd answer the same questions; only the peer port tells the two apart, where etcd is probed.

    Raises:
        SettingsError: they are etcd's.
    """
    for url in (url for member in members for url in member.peer_urls):
        try:
            reply = door.ask(url, "/raft/probing")
        except NoAnswerError:
            continue
        if reply.status != HTTPStatus.NOT_FOUND:  # which kvraft answers to all but its two pages
            raise SettingsError(
                f"{one_line(url)} is a member of etcd: it and kvraft cannot be members of one cluster; copy the keys "
                'through the API (docs/operations.md, "Coming from etcd")'
            )
        return
