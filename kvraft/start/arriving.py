"""A member with an empty directory comes to a cluster that runs: it asks who it is before anything is written.

Either an operator has added it and it is told the others' peer URLs, as etcd's members are (`arrive`: etcd v3.4.23
etcdserver/server.go, `NewServer`, and cluster_util.go), or it is told client URLs and adds itself (`adding.py`). Both
end with settings that name the cluster, its members, and this one among them.
"""

from dataclasses import dataclass, replace
from typing import final

from kvraft import ids
from kvraft.founding import Founder
from kvraft.records import MemberRecord
from kvraft.settings.flags import SettingsError, one_line
from kvraft.settings.settings import Settings
from kvraft.start.http_door import HttpDoor, NoAnswerError
from kvraft.start.told_members import PEER_PATH, ToldMembers, find_at, has_started, refuse_etcd, shown, told

_FLAG = "--initial-cluster-state=existing"


@final
@dataclass(slots=True, frozen=True)
class Arrival:
    """Who this member is."""

    settings: Settings
    has_been: bool
    """It has started before, so what it has lost may be more than nothing."""


def arrive(wanted: Settings, door: HttpDoor) -> Arrival:
    """Ask the other members of `--initial-cluster` on their peer ports.

    All of them, where etcd takes the first one's word: one that lags may not have heard that this one was added, or
    that it has started before.

    Raises:
        SettingsError: nobody answers, the flags do not name the members that the cluster has, or it is etcd's.
        NoAnswerError: nobody answers, and this member may wait for somebody (`--rebuild`).
    """
    try:
        answers = _ask_others(wanted, door)
    except NoAnswerError as error:
        if wanted.rebuild:
            raise
        raise SettingsError(
            f"{_FLAG}: cannot fetch cluster info from peer urls: {one_line(str(error))}: start the members that "
            "--initial-cluster names, or correct it"
        ) from None
    refuse_etcd(door, answers[0].members)
    found = _found_again(wanted, answers)
    if found is not None:  # whatever the flags say of others: they are of the day on which it came
        return found
    refusals: list[SettingsError] = []
    for answer in answers:
        try:
            own = _own(wanted, answer)
        except SettingsError as refusal:
            refusals.append(refusal)
            continue
        if not has_started(own):
            return Arrival(as_member(wanted, answer, own), has_been=False)
    raise refusals[0]


def find_again(wanted: Settings, door: HttpDoor) -> Arrival | None:
    """The member with these peer URLs, if a running cluster has one that has started before.

    None also if nobody answers, as before a cluster is founded.
    """
    try:
        return _found_again(wanted, _ask_others(wanted, door))
    except NoAnswerError:
        return None


def _ask_others(wanted: Settings, door: HttpDoor) -> list[ToldMembers]:
    """What each of them says; at least one does.

    Raises:
        NoAnswerError: nobody answers. The text names the last URL, and why.
    """
    others = (member for member in wanted.initial_cluster if member.member_id != wanted.member_id)
    answers: list[ToldMembers] = []
    complaint = "no URL was given"
    for url in sorted(url for member in others for url in member.peer_urls):
        try:
            answers.append(door.ask_round([url], PEER_PATH, told))
        except NoAnswerError as error:
            complaint = str(error)
    if not answers:
        raise NoAnswerError(complaint)
    return answers


def _found_again(wanted: Settings, answers: list[ToldMembers]) -> Arrival | None:
    """As whom it has started before; not as one that was removed and has a new one at its URLs that not all know."""
    owns = [(answer, find_at(wanted.initial_advertise_peer_urls, answer.members)) for answer in answers]
    new_ids = {own.member_id for _, own in owns if own is not None and not has_started(own)}
    for answer, own in owns:
        if own is not None and has_started(own) and new_ids <= {own.member_id}:
            return Arrival(as_member(wanted, answer, own), has_been=True)
    return None


def _own(wanted: Settings, answer: ToldMembers) -> MemberRecord:
    """Etcd's `ValidateClusterAndAssignIDs`: the same members on both sides, told apart by their peer URLs.

    Raises:
        SettingsError: they are not.
    """
    remedy = f"the cluster has {shown(answer.members)}: use the lines that `etcdctl member add` printed"
    named = {member.member_id: member for member in wanted.initial_cluster}
    own = None
    for member in answer.members:
        match = find_at(member.peer_urls, named.values())
        if match is None:
            raise SettingsError(
                f"{_FLAG}: no match found in --initial-cluster for existing member {ids.text(member.member_id)}; "
                f"{one_line(remedy)}"
            )
        own = member if match.member_id == wanted.member_id else own
    if len(answer.members) != len(named) or own is None:
        raise SettingsError(
            f"{_FLAG}: member count is unequal: --initial-cluster names {one_line(shown(named.values()))}; "
            f"{one_line(remedy)}"
        )
    return own


def as_member(wanted: Settings, answer: ToldMembers, own: MemberRecord) -> Settings:
    """The settings of this member of that cluster, which it did not found."""
    others = [member for member in answer.known() if member.member_id != own.member_id]
    return replace(
        wanted,
        initial_cluster=(),
        members=(*others, Founder(own.member_id, wanted.name, own.peer_urls)),
        member_id=own.member_id,
        cluster_id=answer.cluster_id,
    )
