"""Users, roles and auth as state: answers and indices as etcd 3.4.23 gave them; judged commands; flushes and loads."""

import json
from pathlib import Path
from typing import Final

import pytest

from kvraft.keyspace.account_commands import (
    AccountCommand,
    DeleteRole,
    DeleteUser,
    DisableAuth,
    EnableAuth,
    Permissions,
    PutRole,
    PutUser,
)
from kvraft.keyspace.account_records import Role, User
from kvraft.keyspace.accounts import (
    DIGEST_BYTES,
    FOUNDING_CHANGES,
    AccountError,
    Accounts,
    AccountsAnswer,
    AccountsChanged,
)
from kvraft.keyspace.command_codec import MalformedCommandError, decode_command, encode_command
from kvraft.keyspace.commands import Authorized, Command, Delete, Set, SetClusterVersion, Sync
from kvraft.keyspace.events import Event
from kvraft.keyspace.keyspace import Keyspace
from kvraft.keyspace.records import (
    META_VERSION_WITH_ACCOUNTS,
    STATE_HASH_BYTES,
    RecordError,
    decode_meta,
    encode_key,
    encode_meta,
)
from kvraft.keyspace.removal import SLICE_NODES
from kvraft.keyspace.state_records import StateImage
from tests.keyspace.flushes import take_changes
from tests.keyspace.helpers import Disk

HASH = b"$2b$10$hash"
OTHER_HASH = b"$2b$10$other"
ROOT = PutUser("root", HASH)
KINDS: Final = ("nodes", "history")


def ask(accounts: Accounts, index: int, *commands: AccountCommand) -> list[AccountsAnswer]:
    """Apply one after another from an index on."""
    answers = []
    for command in commands:
        answers.append(accounts.apply(command, index))
        index = answers[-1].etcd_index
    return answers


def refusal(answer: AccountsAnswer) -> tuple[int, str]:
    """Status and text of what must have been refused."""
    assert isinstance(answer.outcome, AccountError)
    return answer.outcome.status, answer.outcome.text


def roles_of(answer: AccountsAnswer) -> tuple[str, ...] | None:
    """The roles that a change of a user shows."""
    assert isinstance(answer.outcome, User)
    return answer.outcome.roles


def test_first_write_takes_four_indices_more_also_when_it_fails() -> None:
    """The nodes around users and roles are made then; a refusal that it finds before takes none."""
    accounts = Accounts()
    asked = ask(accounts, 3, DisableAuth(), EnableAuth(), DeleteRole("root"), DeleteUser("x"), ROOT)
    assert [answer.etcd_index for answer in asked] == [3, 3, 3, 3 + FOUNDING_CHANGES, 8]
    assert refusal(asked[3]) == (404, "User x does not exist")
    assert accounts.revision == 8


def test_a_user_is_created_changed_and_created_with_roles_as_in_etcd() -> None:
    """201 for a password alone, 200 with roles; null and an empty list differ, so a first change of nothing counts."""
    accounts = Accounts()
    asked = ask(
        accounts,
        0,
        PutUser("u", HASH),
        PutUser("u"),
        PutUser("u"),
        PutUser("n", HASH, ("z", "y", "z")),
        PutUser("n", HASH, ("z",)),
        PutUser("n"),
        PutUser("w", b"", ("a",)),
        PutUser("m", grant=("a",)),
    )
    assert [answer.created for answer in asked[:4]] == [True, False, False, False]
    assert roles_of(asked[0]) is None
    assert roles_of(asked[1]) == ()
    assert refusal(asked[2]) == (400, "User not updated. Use grant/revoke/password to update the user.")
    assert roles_of(asked[3]) == ("z", "y", "z")
    assert refusal(asked[4]) == (409, "User n already exists.")
    assert roles_of(asked[5]) == ("y", "z")
    assert refusal(asked[6]) == (400, "Cannot create user w with an empty password")
    assert refusal(asked[7]) == (404, "User m does not exist.")
    assert [answer.changes for answer in asked] == [5, 1, 0, 1, 0, 1, 0, 0]


def test_grants_and_revocations_are_done_together_or_not_at_all() -> None:
    """A role that is there already, or is not, stops the whole; granted and revoked at once it is gone again."""
    accounts = Accounts()
    ask(accounts, 0, PutUser("u", HASH))
    asked = ask(
        accounts,
        5,
        PutUser("u", grant=("b", "a")),
        PutUser("u", grant=("c", "a")),
        PutUser("u", grant=("c", "c")),
        PutUser("u", grant=("c",), revoke=("d",)),
        PutUser("u", grant=("c",), revoke=("c", "a")),
    )
    assert roles_of(asked[0]) == ("a", "b")
    assert refusal(asked[1]) == (409, "Granting duplicate role a for user u")
    assert refusal(asked[2]) == (409, "Granting duplicate role c for user u")
    assert refusal(asked[3]) == (409, "Revoking ungranted role d for user u")
    assert roles_of(asked[4]) == ("b",)


def test_root_always_has_the_role_root() -> None:
    """It can be revoked, which takes an index, and is in force all the same."""
    accounts = Accounts()
    asked = ask(
        accounts, 0, PutUser("root", HASH, ("a",)), PutUser("root", revoke=("root",)), PutUser("root", grant=("root",))
    )
    assert roles_of(asked[0]) == ("a", "root")
    assert roles_of(asked[1]) == ("a",)
    assert refusal(asked[2]) == (409, "Granting duplicate role root for user root")
    assert accounts.users["root"].roles_in_force == ("a", "root")


def test_patterns_are_granted_and_revoked_sorted() -> None:
    """A pattern twice is refused, one that is not there is not missed, and a change of nothing is refused."""
    accounts = Accounts()
    asked = ask(
        accounts,
        0,
        PutRole("r"),
        PutRole("r"),
        PutRole("r", grant=Permissions(("/b/*", "/a/*"))),
        PutRole("r", grant=Permissions(("/a/*",))),
        PutRole("r", grant=Permissions(None, ("/w", "/w"))),
        PutRole("r", revoke=Permissions(None, ("/w",))),
        PutRole("r", revoke=Permissions(("/b/*", "/zz"))),
        PutRole("zz", grant=Permissions(("/a",))),
        PutRole("root", grant=Permissions(("/a",))),
        PutRole("root"),
    )
    assert asked[0].outcome == Role("r", Permissions())
    assert refusal(asked[1]) == (409, "Role r already exists.")
    assert asked[2].outcome == Role("r", Permissions(("/a/*", "/b/*"), ()))
    assert refusal(asked[3]) == (409, "Granting duplicate read permission /a/*")
    assert refusal(asked[4]) == (409, "Granting duplicate write permission /w")
    assert refusal(asked[5]) == (400, "Role not updated. Use grant/revoke to update the role.")
    assert asked[6].outcome == Role("r", Permissions(("/a/*",), ()))
    assert refusal(asked[7]) == (404, "Role zz does not exist.")
    assert refusal(asked[8]) == refusal(asked[9]) == (403, "Cannot modify role root: is root role.")


def test_a_role_made_with_empty_grants_keeps_them_until_it_is_changed() -> None:
    """The request is stored as it came."""
    accounts = Accounts()
    made = ask(accounts, 0, PutRole("r", grant=Permissions((), None), revoke=Permissions()))[0]
    assert made.outcome == Role("r", Permissions(), Permissions((), None), Permissions())
    changed = ask(accounts, 5, PutRole("r", revoke=Permissions(("/x",))))[0]
    assert changed.outcome == Role("r", Permissions((), ()))


def test_auth_is_turned_on_with_a_root_and_a_guest_and_off_again() -> None:
    """The guest's role takes an index unless it is there; root stays while auth is on."""
    accounts = Accounts()
    asked = ask(accounts, 0, EnableAuth(), ROOT, EnableAuth(), EnableAuth(), DeleteUser("root"), DeleteRole("guest"))
    assert refusal(asked[0]) == (409, "No root user available, please create one")
    assert asked[2].changes == 2
    assert refusal(asked[3]) == (409, "already enabled")
    assert refusal(asked[4]) == (403, "Cannot delete root user while auth is enabled.")
    assert asked[5].outcome is None
    asked = ask(accounts, 8, DisableAuth(), DisableAuth(), PutRole("guest"), EnableAuth(), DisableAuth())
    assert refusal(asked[1]) == (409, "already disabled")
    assert asked[3].changes == 1
    assert accounts.roles["guest"] == Role("guest", Permissions())
    assert ask(accounts, 20, DeleteUser("root"))[0].changes == 1


def started(*commands: Command) -> Keyspace:
    """A keyspace that has applied these."""
    keyspace = Keyspace()
    for command in commands:
        keyspace.apply(command, 1)
    return keyspace


def test_a_write_judged_before_a_change_is_not_carried_out_behind_it() -> None:
    """Whatever the change was; and nothing is touched but the hash."""
    keyspace = started(ROOT, EnableAuth())
    judged = Authorized(keyspace.accounts.revision, Set(b"/a", b"1"))
    assert isinstance(keyspace.apply(judged, 2), Event)
    keyspace.apply(Authorized(keyspace.accounts.revision, PutRole("r")), 3)
    index, before = keyspace.etcd_index, keyspace.state_hash
    assert keyspace.apply(judged, 4) == AccountsChanged(index)
    assert keyspace.etcd_index == index
    assert keyspace.state_hash != before
    again = Authorized(keyspace.accounts.revision, Set(b"/a", b"1"))
    assert isinstance(keyspace.apply(again, 5), Event)


def test_a_write_from_before_auth_is_not_carried_out_behind_it() -> None:
    """A member that has not heard of auth yet took it without a question."""
    keyspace = started(ROOT, EnableAuth())
    assert isinstance(keyspace.apply(Set(b"/a"), 2), AccountsChanged)
    assert isinstance(keyspace.apply(DeleteRole("guest"), 2), AccountsChanged)
    assert not isinstance(keyspace.apply(Sync(), 2), AccountsChanged)
    assert not isinstance(keyspace.apply(SetClusterVersion("3.4.0"), 2), AccountsChanged)


def test_a_write_judged_while_auth_was_on_is_judged_again_when_it_is_off() -> None:
    """Its revision is another."""
    keyspace = started(ROOT, EnableAuth())
    judged = Authorized(keyspace.accounts.revision, Set(b"/a"))
    keyspace.apply(Authorized(keyspace.accounts.revision, DisableAuth()), 2)
    assert isinstance(keyspace.apply(judged, 3), AccountsChanged)
    assert isinstance(keyspace.apply(Set(b"/a"), 3), Event)


def test_whoever_watches_is_judged_anew_at_every_change_and_at_no_refusal() -> None:
    """Once a change."""
    keyspace = started(ROOT)
    changes: list[int] = []
    keyspace.watchers.on_rights_changed.append(lambda: changes.append(keyspace.etcd_index))
    keyspace.apply(PutRole("r"), 1)
    keyspace.apply(PutRole("r"), 1)
    keyspace.apply(Set(b"/a"), 1)
    keyspace.apply(EnableAuth(), 1)
    assert changes == [6, 9]


def test_hashes_see_what_users_and_roles_are() -> None:
    """Two members that disagree about a password or a pattern alone are told apart, by both hashes."""
    one, other = started(ROOT), started(PutUser("root", OTHER_HASH))
    assert one.etcd_index == other.etcd_index
    assert one.state_hash != other.state_hash
    other._chronicle.state_hash = one.state_hash
    assert one.compared_hash() != other.compared_hash()


def test_what_members_compare_is_of_users_and_nodes_or_of_neither() -> None:
    """One that still counts removed nodes has nothing to show that differs from what the others show."""
    keyspace = started(ROOT, *(Set(b"/d/%d" % number) for number in range(2 * SLICE_NODES)))
    assert len(keyspace.compared_hash()) > STATE_HASH_BYTES + DIGEST_BYTES
    keyspace.apply(Delete(b"/d", recursive=True), 1)
    assert keyspace.compared_hash() == keyspace.state_hash
    take_changes(keyspace)
    assert len(keyspace.compared_hash()) > STATE_HASH_BYTES + DIGEST_BYTES


def example() -> Keyspace:
    """Null, empty lists, and what came with a role, with auth on."""
    return started(
        ROOT,
        PutUser("é<", HASH, ("a", "b")),
        PutUser("u", OTHER_HASH),
        PutRole("r", Permissions(("/a",), ()), Permissions((), None)),
        EnableAuth(),
    )


def loaded(image: StateImage) -> Keyspace:
    """A keyspace from a stored state."""
    keyspace = Keyspace()
    keyspace.load(image)
    return keyspace


def assert_same(one: Keyspace, other: Keyspace) -> None:
    """The same users, roles and hashes, now and after a change."""
    assert (one.accounts.users, one.accounts.roles) == (other.accounts.users, other.accounts.roles)
    assert (one.accounts.enabled, one.accounts.revision) == (other.accounts.enabled, other.accounts.revision)
    assert one.compared_hash() == other.compared_hash()
    command = Authorized(one.accounts.revision, PutUser("u", grant=("r",)))
    assert one.apply(command, 9) == other.apply(command, 9)
    assert one.compared_hash() == other.compared_hash()


def test_a_loaded_keyspace_has_the_same_accounts() -> None:
    """Also null, empty lists, and what came with a role."""
    keyspace = example()
    disk = Disk()
    disk.store(take_changes(keyspace))
    assert_same(loaded(disk.image()), keyspace)


def test_a_flush_writes_the_accounts_that_have_changed() -> None:
    """One of a thousand, and what has gone; a restart between two flushes changes nothing of that."""
    keyspace = started(ROOT, *(PutUser(f"u{number}", HASH) for number in range(1000)))
    disk = Disk()
    disk.store(take_changes(keyspace))
    assert len(disk.accounts) == 1001
    meta_bytes = len(disk.meta)
    for again in (keyspace, loaded(disk.image())):
        again.apply(PutUser("u7", OTHER_HASH), 3)
        again.apply(DeleteUser("u8"), 3)
        again.apply(PutUser("short", HASH), 3)
        again.apply(DeleteUser("short"), 3)
        changes = take_changes(again)
        assert [record for _, record in changes.accounts] == [b'["user","u7","$2b$10$other",[]]']
        assert len(changes.removed_accounts) == 2
        assert len(changes.meta) < meta_bytes + 10
    disk.store(changes)
    assert len(disk.accounts) == 1000
    again.apply(PutUser("new", HASH), 4)
    disk.store(take_changes(again))
    assert len(disk.accounts) == 1001, "a new record takes nobody's place"
    assert_same(loaded(disk.image()), again)


def test_accounts_that_an_older_version_kept_in_the_meta_record_get_records_of_their_own() -> None:
    """What it has written is read, and the next flush writes each of them once."""
    held = json.loads(Path("tests/data/keyspace/accounts-in-meta.json").read_text())
    tables = ([(bytes.fromhex(key), bytes.fromhex(record)) for key, record in held[kind]] for kind in KINDS)
    disk = Disk()
    disk.meta = held["meta"].encode()
    disk.nodes, disk.history = map(dict, tables)
    old, keyspace = loaded(disk.image()), example()
    assert (old.accounts.users, old.accounts.roles) == (keyspace.accounts.users, keyspace.accounts.roles)
    old.apply(Authorized(old.accounts.revision, Set(b"/a", b"2")), 6)
    disk.store(take_changes(old))
    assert len(disk.accounts) == 5
    assert_same(loaded(disk.image()), old)


def test_an_older_version_refuses_accounts_with_records_of_their_own() -> None:
    """It would serve without them; what has no users and roles it can read."""
    disk = Disk()
    disk.store(take_changes(example()))
    assert disk.meta[0] == META_VERSION_WITH_ACCOUNTS
    disk.store(take_changes(started(Set(b"/a"))))
    assert disk.meta[0] < META_VERSION_WITH_ACCOUNTS


@pytest.mark.parametrize("spoilt", [b"[]", b"{}", b'{"enabled":true}', b"null", b"7"])
def test_accounts_that_no_version_wrote_are_refused(spoilt: bytes) -> None:
    """A member must not serve without the users that it had."""
    keyspace = started(ROOT)
    disk = Disk()
    disk.store(take_changes(keyspace))
    head = keyspace.accounts.head()
    assert decode_meta(disk.meta).accounts == head
    assert encode_meta(decode_meta(disk.meta)) == disk.meta
    disk.meta = disk.meta.replace(head.encode(), spoilt)
    with pytest.raises(RecordError):
        loaded(disk.image())


SPOILT: list[bytes | None] = [
    None,
    b"7",
    b"[]",
    b"{",
    b'["user","u"]',
    b'["user","root","$2b$10$hash",7]',
    b'["role","r",null,null,null]',
    b'["role","r",7,null,null]',
    b'["watch","r"]',
    b'["user","root","$2b$10$other",["root"]]',
    b'["user","root","$2b$10$hash",["root"]]',
    b"[" * 100_000,
]


@pytest.mark.parametrize("spoilt", SPOILT, ids=range(len(SPOILT)))
def test_a_record_of_a_user_that_is_lost_doubled_or_another_is_found(spoilt: bytes | None) -> None:
    """Missing, no record, an older one, one twice, nested without end: the member must not serve."""
    disk = Disk()
    disk.store(take_changes(started(ROOT, PutUser("u", HASH))))
    key = max(disk.accounts)
    if spoilt is None:
        del disk.accounts[key]
    else:
        disk.accounts[key] = spoilt
    with pytest.raises(RecordError):
        loaded(disk.image())


def test_records_of_accounts_without_a_meta_record_are_refused() -> None:
    """As those of nodes."""
    disk = Disk()
    disk.accounts[encode_key(1)] = b"[]"
    with pytest.raises(RecordError):
        loaded(disk.image())


GOLDEN: list[tuple[Command, str]] = [
    (PutUser("u", HASH, ("a",), ("b",), ("c",)), "9620a175c40b243262243130246861736891a16191a16291a163"),
    (PutUser("u"), "9620a175c400c09090"),
    (DeleteUser("u"), "9221a175"),
    (PutRole("r", Permissions(("/a",), None), Permissions((), ("/b*",)), None), "9522a1729291a22f61c0929091a32f622ac0"),
    (DeleteRole("r"), "9223a172"),
    (EnableAuth(), "9124"),
    (DisableAuth(), "9125"),
    (Authorized(2**64 - 1, Set(b"/a", b"v")), "9326cfffffffffffffffffc40d9701c4022f61c40176c2ff00c2"),
]


@pytest.mark.parametrize(("command", "golden"), GOLDEN, ids=lambda value: type(value).__name__)
def test_every_command_has_its_golden_bytes_and_comes_back_equal(command: Command, golden: str) -> None:
    """What one version wrote into a log, every later one reads as the same command."""
    assert encode_command(command).hex() == golden
    assert decode_command(bytes.fromhex(golden)) == command


def test_a_command_judged_twice_is_no_command() -> None:
    """Nobody writes it."""
    once = encode_command(Authorized(1, Sync()))
    twice = once.replace(encode_command(Sync()), once)[:3] + bytes([len(once)]) + once
    with pytest.raises(MalformedCommandError):
        decode_command(twice)


def test_what_is_stored_and_printed_shows_no_hash_by_chance() -> None:
    """A command in a log line or a traceback does not carry what a password could be guessed by."""
    assert HASH.decode() not in repr(PutUser("u", HASH))
    assert HASH.decode() not in repr(User("u", HASH, None))
    assert take_changes(started(ROOT)).accounts[0][1] == b'["user","root","$2b$10$hash",["root"]]'
