"""The members in the state: founders that are registered, and what each has published of itself. Pure functions."""

from kvraft.keyspace.commands import PublishMember, PublishMemberAlone, RegisterMembers
from kvraft.keyspace.records import PublishedMember


def change_members(
    members: dict[int, PublishedMember], command: RegisterMembers | PublishMember | PublishMemberAlone
) -> int:
    """Carry a command out; how many changes it made, each of which costs an etcd_index."""
    if isinstance(command, RegisterMembers):
        return sum(_register(members, member_id) for member_id in command.member_ids)
    changes = int(isinstance(command, PublishMember) and _register(members, command.member_id))
    member = PublishedMember(command.name, command.client_urls)
    changes += members.get(command.member_id) != member
    members[command.member_id] = member
    return changes


def _register(members: dict[int, PublishedMember], member_id: int) -> bool:
    """Whether the member was not known before."""
    if member_id in members:
        return False
    members[member_id] = PublishedMember("", ())
    return True
