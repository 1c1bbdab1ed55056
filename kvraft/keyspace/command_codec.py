"""Commands as bytes in a log entry: a msgpack array of a type number and the command's fields.

The numbers are for ever.
A command that needs another field or another meaning gets another number, which no member uses before every member
knows it (design decision 13), so a known number with the wrong fields is damage and never a newer version.
"""

from collections.abc import Callable
from operator import attrgetter
from typing import Final, final

import msgpack

from kvraft.keyspace.account_commands import (
    DeleteRole,
    DeleteUser,
    DisableAuth,
    EnableAuth,
    Permissions,
    PutRole,
    PutUser,
)
from kvraft.keyspace.commands import (
    NO_TTL,
    AddMember,
    Authorized,
    Command,
    CompareAndDelete,
    CompareAndSwap,
    Create,
    CreateInOrder,
    Delete,
    KeepMember,
    MoveMember,
    PublishMember,
    PublishMemberAlone,
    RegisterFounders,
    RegisterMembers,
    RemoveMember,
    Set,
    SetClusterVersion,
    SetHistorySize,
    SetHistorySizeAtIndex,
    Sync,
    Update,
)

SET: Final = 1
CREATE: Final = 2
CREATE_IN_ORDER: Final = 3
UPDATE: Final = 4
COMPARE_AND_SWAP: Final = 5
DELETE: Final = 6
COMPARE_AND_DELETE: Final = 7
SYNC: Final = 8
PUBLISH_MEMBER_ALONE: Final = 9
SET_CLUSTER_VERSION: Final = 10
SET_HISTORY_SIZE_AT_INDEX: Final = 11
REGISTER_MEMBERS: Final = 12
PUBLISH_MEMBER: Final = 13
SET_HISTORY_SIZE: Final = 14
REGISTER_FOUNDERS: Final = 15
ADD_MEMBER: Final = 16
MOVE_MEMBER: Final = 17
REMOVE_MEMBER: Final = 18
KEEP_MEMBER: Final = 19
# 32 to 63 are for users, roles and what comes with them.
PUT_USER: Final = 32
DELETE_USER: Final = 33
PUT_ROLE: Final = 34
DELETE_ROLE: Final = 35
ENABLE_AUTH: Final = 36
DISABLE_AUTH: Final = 37
AUTHORIZED: Final = 38

ARRAY_ITEMS_MAX: Final = 1024
"""Longest array inside a command: the URLs of one member, or the founders; roles of a user, or patterns."""
TEXT_BYTES_MAX: Final = 1 << 16
"""Longest name, version, URL or pattern."""

_pack = msgpack.Packer(autoreset=True).pack


class CommandError(ValueError):
    """Bytes that are no command: the member that meets them in its log must stop."""


@final
class UnknownCommandError(CommandError):
    """A command type of a version that this member does not know."""

    def __init__(self, command_type: int) -> None:
        super().__init__(f"command type {command_type} is not known to this version")
        self.command_type = command_type


@final
class MalformedCommandError(CommandError):
    """Bytes that no version wrote."""


_ARRAY_OF_3: Final = 0x93
"""As msgpack begins one."""
_MAY_TELL_A_PLACE: Final = tuple(bytes([_ARRAY_OF_3, kind]) for kind in (ADD_MEMBER, MOVE_MEMBER, AUTHORIZED))


def encode_command(command: Command) -> bytes:
    """The bytes of a command; `decode_command` gives an equal one back.

    Raises:
        OverflowError: a number that does not fit 64 bits.
    """
    number, fields = _FIELDS[type(command)]
    values = fields(command)
    packed: bytes = _pack((number, *values) if isinstance(values, tuple) else (number, values))
    return packed


def place_told(data: bytes) -> AddMember | MoveMember | None:
    """The command, if it says where a member is, whoever was allowed it; most are told apart without decoding them."""
    if not data.startswith(_MAY_TELL_A_PLACE):
        return None
    command = decode_command(data)
    told = command.command if isinstance(command, Authorized) else command
    return told if isinstance(told, AddMember | MoveMember) else None


def decode_command(data: bytes) -> Command:
    """The command that `encode_command` wrote.

    Raises:
        UnknownCommandError: a newer version wrote it.
        MalformedCommandError: nobody wrote it.
    """
    try:
        items: object = msgpack.unpackb(
            data,
            raw=False,
            max_array_len=ARRAY_ITEMS_MAX,
            max_map_len=0,
            max_ext_len=0,
            max_str_len=TEXT_BYTES_MAX,
        )
    except (ValueError, msgpack.UnpackException) as error:
        message = f"command of {len(data)} bytes is not msgpack: {error}"
        raise MalformedCommandError(message) from error
    if not isinstance(items, list) or not items or type(items[0]) is not int:
        message = f"command of {len(data)} bytes is not an array with a type"
        raise MalformedCommandError(message)
    decoder = _DECODERS.get(items[0])
    if decoder is None:
        raise UnknownCommandError(items[0])
    length, build = decoder
    if len(items) != length:
        message = f"command type {items[0]} with {len(items)} items instead of {length}"
        raise MalformedCommandError(message)
    return build(items)


def _path(item: object) -> bytes:
    if type(item) is not bytes or item[:1] != b"/":
        message = f"{item!r:.80} is not a path"
        raise MalformedCommandError(message)
    return item


def _value(item: object) -> bytes:
    if type(item) is not bytes:
        message = f"{item!r:.80} is not a value"
        raise MalformedCommandError(message)
    return item


def _condition(item: object) -> bytes | None:
    return None if item is None else _value(item)


def _flag(item: object) -> bool:
    if type(item) is not bool:
        message = f"{item!r:.80} is not a flag"
        raise MalformedCommandError(message)
    return item


def _u64(item: object) -> int:
    if type(item) is not int or item < 0:
        message = f"{item!r:.80} is not an unsigned number"
        raise MalformedCommandError(message)
    return item


def _ttl(item: object) -> int:
    if type(item) is not int or item < NO_TTL:
        message = f"{item!r:.80} is not a TTL"
        raise MalformedCommandError(message)
    return item


def _text(item: object) -> str:
    if type(item) is not str:
        message = f"{item!r:.80} is not text"
        raise MalformedCommandError(message)
    return item


def _u64s(item: object) -> tuple[int, ...]:
    if type(item) is not list:
        message = f"{item!r:.80} is not a list of numbers"
        raise MalformedCommandError(message)
    return tuple(_u64(number) for number in item)


def _texts(item: object) -> tuple[str, ...]:
    if type(item) is not list:
        message = f"{item!r:.80} is not a list of texts"
        raise MalformedCommandError(message)
    return tuple(_text(text) for text in item)


def _founders(item: object) -> tuple[tuple[int, str, tuple[str, ...]], ...]:
    if type(item) is not list or any(type(founder) is not list or len(founder) != 3 for founder in item):
        message = f"{item!r:.80} is not a list of founders"
        raise MalformedCommandError(message)
    return tuple((_u64(member_id), _text(name), _texts(urls)) for member_id, name, urls in item)


def _only(field: str) -> Callable[[Command], object]:
    """For a command whose one field is a tuple itself."""
    value_of = attrgetter(field)
    return lambda command: (value_of(command),)


def _some_texts(item: object) -> tuple[str, ...] | None:
    return None if item is None else _texts(item)


def _permissions(item: object) -> Permissions:
    if type(item) is not list or len(item) != 2:
        message = f"{item!r:.80} are no permissions"
        raise MalformedCommandError(message)
    return Permissions(_some_texts(item[0]), _some_texts(item[1]))


def _some_permissions(item: object) -> Permissions | None:
    return None if item is None else _permissions(item)


def _judged(item: object) -> Command:
    command = decode_command(_value(item))
    if isinstance(command, Authorized):
        message = "a command that was judged twice"
        raise MalformedCommandError(message)
    return command


def _put_role(command: Command) -> object:
    assert isinstance(command, PutRole)
    return command.name, _pair(command.permissions), _pair(command.grant), _pair(command.revoke)


def _pair(permissions: Permissions | None) -> object:
    return None if permissions is None else (permissions.read, permissions.write)


def _authorized(command: Command) -> object:
    assert isinstance(command, Authorized)
    assert not isinstance(command.command, Authorized), "judged once"
    return command.revision, encode_command(command.command)


_FIELDS: Final[dict[type[object], tuple[int, Callable[[Command], object]]]] = {
    Set: (SET, attrgetter("path", "value", "directory", "ttl_s", "expiration_ns", "refresh")),
    Create: (CREATE, attrgetter("path", "value", "directory", "ttl_s", "expiration_ns", "refresh")),
    CreateInOrder: (CREATE_IN_ORDER, attrgetter("path", "value", "directory", "ttl_s", "expiration_ns")),
    Update: (UPDATE, attrgetter("path", "value", "ttl_s", "expiration_ns", "refresh")),
    CompareAndSwap: (
        COMPARE_AND_SWAP,
        attrgetter("path", "value", "prev_value", "prev_index", "ttl_s", "expiration_ns", "refresh"),
    ),
    Delete: (DELETE, attrgetter("path", "directory", "recursive")),
    CompareAndDelete: (COMPARE_AND_DELETE, attrgetter("path", "prev_value", "prev_index")),
    Sync: (SYNC, lambda _: ()),
    PublishMemberAlone: (PUBLISH_MEMBER_ALONE, attrgetter("member_id", "name", "client_urls")),
    SetClusterVersion: (SET_CLUSTER_VERSION, attrgetter("version")),
    SetHistorySizeAtIndex: (SET_HISTORY_SIZE_AT_INDEX, attrgetter("events_max")),
    RegisterMembers: (REGISTER_MEMBERS, _only("member_ids")),
    PublishMember: (PUBLISH_MEMBER, attrgetter("member_id", "name", "client_urls")),
    SetHistorySize: (SET_HISTORY_SIZE, attrgetter("events_max")),
    RegisterFounders: (REGISTER_FOUNDERS, _only("founders")),
    AddMember: (ADD_MEMBER, attrgetter("member_id", "peer_urls")),
    MoveMember: (MOVE_MEMBER, attrgetter("member_id", "peer_urls")),
    RemoveMember: (REMOVE_MEMBER, attrgetter("member_id")),
    KeepMember: (KEEP_MEMBER, attrgetter("member_id", "removed_ids")),
    PutUser: (PUT_USER, attrgetter("name", "password_hash", "roles", "grant", "revoke")),
    DeleteUser: (DELETE_USER, attrgetter("name")),
    PutRole: (PUT_ROLE, _put_role),
    DeleteRole: (DELETE_ROLE, attrgetter("name")),
    EnableAuth: (ENABLE_AUTH, lambda _: ()),
    DisableAuth: (DISABLE_AUTH, lambda _: ()),
    Authorized: (AUTHORIZED, _authorized),
}
"""For each command its number and what takes its fields, in their order in the array."""

_DECODERS: Final[dict[int, tuple[int, Callable[[list[object]], Command]]]] = {
    SET: (7, lambda f: Set(_path(f[1]), _value(f[2]), _flag(f[3]), _ttl(f[4]), _u64(f[5]), _flag(f[6]))),
    CREATE: (7, lambda f: Create(_path(f[1]), _value(f[2]), _flag(f[3]), _ttl(f[4]), _u64(f[5]), _flag(f[6]))),
    CREATE_IN_ORDER: (6, lambda f: CreateInOrder(_path(f[1]), _value(f[2]), _flag(f[3]), _ttl(f[4]), _u64(f[5]))),
    UPDATE: (6, lambda f: Update(_path(f[1]), _value(f[2]), _ttl(f[3]), _u64(f[4]), _flag(f[5]))),
    COMPARE_AND_SWAP: (
        8,
        lambda f: CompareAndSwap(
            _path(f[1]), _value(f[2]), _condition(f[3]), _u64(f[4]), _ttl(f[5]), _u64(f[6]), _flag(f[7])
        ),
    ),
    DELETE: (4, lambda f: Delete(_path(f[1]), _flag(f[2]), _flag(f[3]))),
    COMPARE_AND_DELETE: (4, lambda f: CompareAndDelete(_path(f[1]), _condition(f[2]), _u64(f[3]))),
    SYNC: (1, lambda _: Sync()),
    PUBLISH_MEMBER_ALONE: (4, lambda f: PublishMemberAlone(_u64(f[1]), _text(f[2]), _texts(f[3]))),
    SET_CLUSTER_VERSION: (2, lambda f: SetClusterVersion(_text(f[1]))),
    SET_HISTORY_SIZE_AT_INDEX: (2, lambda f: SetHistorySizeAtIndex(_u64(f[1]))),
    REGISTER_MEMBERS: (2, lambda f: RegisterMembers(_u64s(f[1]))),
    PUBLISH_MEMBER: (4, lambda f: PublishMember(_u64(f[1]), _text(f[2]), _texts(f[3]))),
    SET_HISTORY_SIZE: (2, lambda f: SetHistorySize(_u64(f[1]))),
    REGISTER_FOUNDERS: (2, lambda f: RegisterFounders(_founders(f[1]))),
    ADD_MEMBER: (3, lambda f: AddMember(_u64(f[1]), _texts(f[2]))),
    MOVE_MEMBER: (3, lambda f: MoveMember(_u64(f[1]), _texts(f[2]))),
    REMOVE_MEMBER: (2, lambda f: RemoveMember(_u64(f[1]))),
    KEEP_MEMBER: (3, lambda f: KeepMember(_u64(f[1]), _u64s(f[2]))),
    PUT_USER: (6, lambda f: PutUser(_text(f[1]), _value(f[2]), _some_texts(f[3]), _texts(f[4]), _texts(f[5]))),
    DELETE_USER: (2, lambda f: DeleteUser(_text(f[1]))),
    PUT_ROLE: (
        5,
        lambda f: PutRole(_text(f[1]), _permissions(f[2]), _some_permissions(f[3]), _some_permissions(f[4])),
    ),
    DELETE_ROLE: (2, lambda f: DeleteRole(_text(f[1]))),
    ENABLE_AUTH: (1, lambda _: EnableAuth()),
    DISABLE_AUTH: (1, lambda _: DisableAuth()),
    AUTHORIZED: (3, lambda f: Authorized(_u64(f[1]), _judged(f[2]))),
}
"""For each number the length of the array and what makes the command from it."""
