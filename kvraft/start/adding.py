"""`--join`: a member adds itself to a cluster that runs, through the API, and knows itself again if it is run again.

Each step leaves something in the cluster by which the next start finds out how far this one came: nothing is on disk
before the member is in the list. With `--replace`, the other one goes once this one is a voter (`kvraft/member/`), but
for one whose peer URLs are this member's own: it cannot be running, as this process holds its port, a dead voter is
worth nothing to a quorum, and the cluster does not take the same URLs twice. So that one goes first.
"""

import threading
from dataclasses import replace
from http import HTTPStatus
from typing import Final, NoReturn

from kvraft import ids, logs
from kvraft.records import MemberRecord
from kvraft.settings.flags import SettingsError, one_line
from kvraft.settings.settings import Settings
from kvraft.start.arriving import Arrival, as_member
from kvraft.start.http_door import HttpDoor, NoAnswerError, Reply
from kvraft.start.told_members import CLIENT_PATH, ToldMembers, find_at, has_started, refuse_etcd, shown, told

log = logs.get(__name__)

_ATTEMPTS: Final = 60
"""While members that were added before this one start and connect."""
_AGAIN_S: Final = 1.0

_GONE: Final = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.NOT_FOUND, HTTPStatus.GONE})
"""Answers to a DELETE after which there is no such member."""


def add_itself(wanted: Settings, door: HttpDoor) -> Arrival:
    """Be a member of the cluster that serves clients at the URLs of `--join`, added now or by an earlier start.

    Raises:
        SettingsError: nobody answers, the cluster has no quorum or refuses, or name or URLs are another member's.
    """
    answer = _ask(wanted, door)
    refuse_etcd(door, answer.members)
    own = find_at(wanted.initial_advertise_peer_urls, answer.members)
    old = _replaced(wanted, answer, own)
    if own is not None and old is own:
        _remove(wanted, door, answer, own)
        answer = replace(answer, members=tuple(member for member in answer.members if member is not own))
        own = old = None
    _refuse_taken_name(wanted, answer, own, old)
    if own is None:
        answer, own = _add(wanted, door, answer)
    arrived = as_member(wanted, answer, own)
    return Arrival(replace(arrived, replaces=0 if old is None else old.member_id), has_started(own))


def refuse_other_cluster(wanted: Settings, door: HttpDoor) -> None:
    """A directory that has data already, of the cluster that it is told to join: that is a later start.

    Raises:
        SettingsError: it is another cluster's.
    """
    try:
        answer = door.ask_round(wanted.joining.urls, CLIENT_PATH, told)
    except NoAnswerError:
        return  # Later starts need nobody.
    if answer.cluster_id != wanted.cluster_id:
        raise SettingsError(
            f"--join={answer.url}: that is cluster {ids.text(answer.cluster_id)}, and {wanted.data_dir} holds the data "
            f"of a member of cluster {ids.text(wanted.cluster_id)}: choose another --data-dir, or leave --join out"
        )


def _ask(wanted: Settings, door: HttpDoor) -> ToldMembers:
    try:
        return door.ask_round(wanted.joining.urls, CLIENT_PATH, told)
    except NoAnswerError as error:
        raise SettingsError(
            f"--join={','.join(wanted.joining.urls)}: no member answers ({one_line(str(error))}): give client URLs of "
            "members that run"
        ) from None


def _replaced(wanted: Settings, answer: ToldMembers, own: MemberRecord | None) -> MemberRecord | None:
    """The member that is to go.

    Raises:
        SettingsError: no other member has that name, or several have.
    """
    name = wanted.joining.replaces
    if not name:
        return None
    found = [member for member in answer.members if member.name == name]
    if len(found) == 1:
        return found[0]
    if not found and (own is not None or name == wanted.name):
        log.info("--replace: there is no such member any more", name=name)
        return None
    count = "no" if not found else "more than one"
    raise SettingsError(
        f"--replace={name}: {count} member has that name: the cluster has {one_line(shown(answer.members))}; "
        + ("leave --replace out if it was removed already" if not found else "remove the one with `member remove`")
    )


def _refuse_taken_name(
    wanted: Settings, answer: ToldMembers, own: MemberRecord | None, old: MemberRecord | None
) -> None:
    for member in answer.members:
        if member.name == wanted.name and member not in (own, old):
            raise SettingsError(
                f"--name={one_line(wanted.name)}: the name is in use by member {ids.text(member.member_id)} at "
                f"{','.join(member.peer_urls)}: choose another, or give --replace={one_line(wanted.name)} to put this "
                "member in its place"
            )


def _add(wanted: Settings, door: HttpDoor, answer: ToldMembers) -> tuple[ToldMembers, MemberRecord]:
    """Both as they are afterwards."""
    own_urls = wanted.initial_advertise_peer_urls
    reply = _post(wanted, door, answer)
    if reply.status not in {HTTPStatus.CREATED, HTTPStatus.CONFLICT}:
        _refused(door, reply, "add this member")
    # On a conflict an earlier start has added it, and this one asked a member that had not heard of it yet.
    answer = door.ask_round([reply.url], CLIENT_PATH, told)
    own = find_at(own_urls, answer.members)
    if own is None:
        raise SettingsError(
            f"--join={reply.url}: {one_line(reply.message())}: the cluster has {one_line(shown(answer.members))}, "
            f"and this member would be at {','.join(own_urls)}: give it another --initial-advertise-peer-urls"
        )
    if reply.status == HTTPStatus.CREATED:
        log.info("added to the cluster", member=wanted.name, id=ids.text(own.member_id), by=reply.url)
    return answer, own


def _post(wanted: Settings, door: HttpDoor, answer: ToldMembers) -> Reply:
    """Ask to be added until the answer is another one than "not yet": several may join at the same time."""
    nobody_tells = threading.Event()  # when the others have started; a signal ends the process here
    for attempt in range(1, _ATTEMPTS + 1):
        reply = _change(wanted, door, answer, "POST", CLIENT_PATH, {"peerURLs": wanted.initial_advertise_peer_urls})
        if reply.status != HTTPStatus.INTERNAL_SERVER_ERROR or not _has_leader(door, reply.url):
            break
        if attempt == 1:
            log.warning("--join: not added yet: another member is not started or not connected", by=reply.url)
        nobody_tells.wait(_AGAIN_S)
    return reply


def _remove(wanted: Settings, door: HttpDoor, answer: ToldMembers, old: MemberRecord) -> None:
    reply = _change(wanted, door, answer, "DELETE", f"{CLIENT_PATH}/{ids.text(old.member_id)}")
    if reply.status not in _GONE:
        _refused(door, reply, f"remove member {old.name}")
    log.info("removed from the cluster", name=old.name, id=ids.text(old.member_id), by=reply.url)


def _change(
    wanted: Settings, door: HttpDoor, answer: ToldMembers, method: str, path: str, body: object = None
) -> Reply:
    """Ask for a change where the members were told, and then round the others: one of them may have lost the rest.

    Raises:
        SettingsError: nobody answers any more. Whether it was heard is seen when this is run again.
    """
    reply, complaint = None, ""
    for url in dict.fromkeys((answer.url, *wanted.joining.urls)):
        try:
            reply = door.change(url, method, path, body)
        except NoAnswerError as error:
            complaint = str(error)
            continue
        if reply.status != HTTPStatus.INTERNAL_SERVER_ERROR:
            return reply
    if reply is None:
        raise SettingsError(f"--join: {one_line(complaint)}: run this again, it goes on where it stopped")
    return reply


def _refused(door: HttpDoor, reply: Reply, what: str) -> NoReturn:
    """The API says no more than 500 for all of these; whether there is a leader tells what the matter is."""
    why = f"{reply.status} {one_line(reply.message())}"
    if reply.status == HTTPStatus.UNAUTHORIZED:
        why = "auth is on, and only root may: do it with `etcdctl -u root member`, and run this again, it goes on"
    elif reply.status == HTTPStatus.INTERNAL_SERVER_ERROR:
        why = (
            "not all of its members are started and connected (--strict-reconfig-check): start them, or remove those "
            "that are gone"
            if _has_leader(door, reply.url)
            else "it has no leader: start a majority of its members first, which may then do what was asked for"
        )
    raise SettingsError(f"--join={reply.url}: the cluster did not {what}: {why}")


def _has_leader(door: HttpDoor, url: str) -> bool:
    try:
        return door.ask(url, f"{CLIENT_PATH}/leader").status == HTTPStatus.OK
    except NoAnswerError:
        return False
