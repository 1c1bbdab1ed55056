"""A member that rebuilds asks the members of the day, not the founders: whoever answers tells who they are.

It needs all of them anyway before it takes part again (`kvraft/raft/rebuild.py`), so it waits for the first one here.
Whom that one does not know yet the others' logs name, one by one.
"""

import asyncio
import contextlib
from dataclasses import replace
from typing import Final

from kvraft import ids, logs
from kvraft.founding import Founder
from kvraft.settings.flags import SettingsError, one_line
from kvraft.settings.settings import Settings
from kvraft.start.arriving import as_member
from kvraft.start.http_door import Contexts, HttpDoor, NoAnswerError
from kvraft.start.told_members import CLIENT_PATH, PEER_PATH, ToldMembers, find_at, shown, told

_ANSWER_S: Final = 2.0
_AGAIN_S: Final = 1.0
_TELL_EVERY: Final = 5
"""So many attempts."""

log = logs.get(__name__)


async def learn_members(wanted: Settings, stop: asyncio.Event, security: Contexts | None = None) -> Settings | None:
    """Wait until somebody tells who the members are; None if told to stop first.

    Raises:
        SettingsError: this member is not one of them.
    """
    attempts = 0
    while True:
        answers = await _ask_all(wanted, HttpDoor(_ANSWER_S, security))
        if answers:
            return _as_one_of(wanted, answers)
        if attempts % _TELL_EVERY == 0:
            others = [member for member in wanted.members if member.member_id != wanted.member_id]
            log.warning("rebuilding: no other member answers who the members are", asked=shown(others))
        attempts += 1
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_AGAIN_S):
                await stop.wait()
                return None


async def voters_told(wanted: Settings, security: Contexts | None = None) -> dict[int, frozenset[int]]:
    """Who votes, as each of the others has it now that can be asked and knows."""
    told_by: dict[int, frozenset[int]] = {}
    for answer in await _ask_all(wanted, HttpDoor(_ANSWER_S, security)):
        teller = next((member for member in wanted.members if answer.url in member.peer_urls), None)
        if teller is not None and answer.voters:
            told_by[teller.member_id] = answer.voters
    return told_by


async def _ask_all(wanted: Settings, door: HttpDoor) -> list[ToldMembers]:
    """What all say that are known, and those of whom they tell."""
    asked: set[str] = set()
    answers: list[ToldMembers] = []
    places = [(url, PEER_PATH) for member in _others(wanted, wanted.members) for url in member.peer_urls]
    places += [(url, CLIENT_PATH) for url in wanted.joining.urls]
    while places:
        asked.update(url for url, _ in places)
        found = await asyncio.gather(*(asyncio.to_thread(_ask, wanted, door, url, path) for url, path in places))
        answers += [answer for answer in found if answer is not None]
        known = {url for answer in answers for member in _others(wanted, answer.known()) for url in member.peer_urls}
        places = [(url, PEER_PATH) for url in sorted(known - asked)]
    return answers


def _others(wanted: Settings, members: tuple[Founder, ...]) -> list[Founder]:
    own_urls = set(wanted.initial_advertise_peer_urls)
    return [member for member in members if not own_urls & set(member.peer_urls)]


def _ask(wanted: Settings, door: HttpDoor, url: str, path: str) -> ToldMembers | None:
    """In a thread. An answer of another cluster is none, if it is known which one this member is of."""
    try:
        answer = door.ask_round([url], path, told)
    except NoAnswerError:
        return None
    return answer if wanted.is_empty or answer.cluster_id == wanted.cluster_id else None


def _as_one_of(wanted: Settings, answers: list[ToldMembers]) -> Settings:
    """This member among all of whom anybody has told: one who was removed only delays, one who is missing may be lost.

    Raises:
        SettingsError: nobody knows it, or they are of different clusters.
    """
    everybody = {member.member_id: member for answer in answers for member in answer.members}
    first = answers[0]
    other = next((answer for answer in answers if answer.cluster_id != first.cluster_id), None)
    if other is not None:
        raise SettingsError(
            f"--rebuild: {first.url} is a member of cluster {ids.text(first.cluster_id)}, and {other.url} of "
            f"{ids.text(other.cluster_id)}: correct --initial-cluster"
        )
    if wanted.is_empty:
        own = find_at(wanted.initial_advertise_peer_urls, everybody.values())
    else:
        own = everybody.get(wanted.member_id)
    if own is None:
        raise SettingsError(
            f"--rebuild: the cluster has {one_line(shown(everybody.values()))}, and this member at "
            f"{','.join(wanted.initial_advertise_peer_urls)} is none of them: if it was "
            "removed, add a new one with --join"
        )
    union = replace(first, members=tuple(everybody[member_id] for member_id in sorted(everybody)))
    return replace(as_member(wanted, union, own), is_empty=False)
