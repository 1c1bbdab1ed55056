"""What moves: a tree with its accounts and members, as plain values that know neither where from nor where to."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, final

from kvraft.keyspace.account_records import Role, User
from kvraft.keyspace.cluster import ClusterMember

NS_PER_S: Final = 1_000_000_000


class MigrationError(Exception):
    """Why it cannot go on, as one line that says what to do."""


class UnusableError(MigrationError):
    """What was named cannot be used: a directory, a file, a state, a pair of clusters."""


@final
@dataclass(slots=True, frozen=True)
class Node:
    """A file or directory."""

    path: bytes
    """Below `/1` in etcd's own paths, here without it: `/a/b`. Never the root."""
    value: bytes | None
    """None for a directory."""
    expiration_ns: int = 0
    """Unix nanoseconds at which it expires; 0 for never."""
    created_index: int = 0
    modified_index: int = 0

    @property
    def is_directory(self) -> bool:
        """Whether it can have nodes below it."""
        return self.value is None


@final
@dataclass(slots=True)
class Contents:
    """Everything that a source gives."""

    etcd_index: int
    """The store's index as of which all this holds."""
    nodes: list[Node] = field(default_factory=list)
    """Parents first."""
    users: list[User] = field(default_factory=list)
    """By name. The hash is empty where the source does not tell it, as no API does."""
    roles: list[Role] = field(default_factory=list)
    """By name, without the role root."""
    auth_enabled: bool = False
    accounts_unread: str = ""
    """Why it is not known which users and roles there are; empty where it is."""
    members: dict[int, ClusterMember] = field(default_factory=dict)
    removed_ids: set[int] = field(default_factory=set)
    unsure_ns: int = 0
    """Expirations may be so much earlier: a TTL is told as of some moment while a listing is made."""
    version: str = ""
    """Of the cluster, such as `3.4.0`; empty where it was not decided."""
    notes: list[str] = field(default_factory=list)
    """What whoever moves this should know about it, a line each."""


def depth_of(path: bytes) -> int:
    """How many names a path has."""
    return path.count(b"/")


def parent_of(path: bytes) -> bytes:
    """The directory of a path, `/` at the top."""
    return path.rpartition(b"/")[0] or b"/"


def is_hidden(path: bytes) -> bool:
    """Whether a listing of the root leaves it out: a name on its way begins with `_`."""
    return b"/_" in path


def still_alive(nodes: list[Node], now_ns: int) -> tuple[list[Node], int]:
    """Without what has expired since, and how much that was; what is below goes with its directory."""
    gone: set[bytes] = set()
    alive = []
    for node in nodes:
        if parent_of(node.path) in gone or 0 < node.expiration_ns <= now_ns:
            gone.add(node.path)
        else:
            alive.append(node)
    return alive, len(gone)


def hidden_tops(nodes: Iterable[Node]) -> tuple[bytes, ...]:
    """Every node whose own name is hidden: each is a listing of its own, as no other shows it."""
    return tuple(node.path for node in nodes if node.path.rpartition(b"/")[2].startswith(b"_"))


def hidden_above(tops: Iterable[bytes]) -> set[bytes]:
    """The directories above these paths that no listing shows, neither the root's nor one of these paths."""
    listed = set(tops)
    above: set[bytes] = set()
    for top in listed:
        path = top
        while is_hidden(path := parent_of(path)) and path not in above:
            above.add(path)
    return {path for path in above if listed.isdisjoint(ways_to(path))}


def ways_to(path: bytes) -> list[bytes]:
    """The directories above a path, the highest first and without the root, and the path."""
    names = path.split(b"/")
    return [b"/".join(names[: depth + 1]) for depth in range(1, len(names))]


def with_directories(nodes: list[Node]) -> list[Node]:
    """With the directories that nobody named, each in front of the first node in it and made with it."""
    there = {node.path for node in nodes}
    whole = []
    for node in nodes:
        for path in ways_to(node.path)[:-1]:
            if path not in there:
                there.add(path)
                whole.append(Node(path, None, 0, node.created_index, node.created_index))
        whole.append(node)
    return whole


def shown(path: bytes) -> str:
    r"""A path for a person: what is not UTF-8 as `\\xff`, and no control that would write to a terminal."""
    text = path.decode("utf-8", "backslashreplace")
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)
