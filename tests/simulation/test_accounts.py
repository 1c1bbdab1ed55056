"""Users and roles in simulated worlds: the model is the product's, and what differs from it is found."""

from collections import Counter
from random import Random

import pytest

from kvraft.keyspace.account_commands import EnableAuth, Permissions, PutRole, PutUser
from kvraft.keyspace.accounts import AccountError, AccountsAnswer
from kvraft.keyspace.commands import Authorized, Command, Set
from kvraft.keyspace.keyspace import Keyspace
from kvraft.keyspace.state_records import StateImage
from kvraft.raft.entries import ZERO_HASH, EntryKind, make_entry
from tests.simulation.accounts import JUDGED_BY_OTHERS, AccountsModel, drawn_change
from tests.simulation.checkers import Violation
from tests.simulation.history import History
from tests.simulation.machine import KeyspaceMachine
from tests.simulation.model import Result

CHANGES = 1000
FOUNDING: tuple[Command, ...] = (
    PutUser("root", b"h"),
    PutRole("r", Permissions(("/*",), ("/a*",))),
    PutUser("u", b"h", ("r",)),
    EnableAuth(),
)


def test_model_and_keyspace_agree_on_all_that_clients_change() -> None:
    """Errors, indices, users and roles, after each of some thousand changes."""
    seed = 20261129
    random, keyspace, model = Random(seed), Keyspace(), AccountsModel()
    machine = KeyspaceMachine(StateImage(b"", iter(()), iter(())), keyspace.history.reader, 10)  # type: ignore[arg-type]  # it reads nothing back
    for number in range(CHANGES):
        change = drawn_change(random)
        before = machine.etcd_index
        answer = machine.keyspace.accounts.apply(change, before)
        assert isinstance(answer, AccountsAnswer)
        error = answer.outcome.status if isinstance(answer.outcome, AccountError) else 0
        assert (error, answer.changes) == model.apply(change, before), f"seed {seed}, change {number}: {change}"
        assert machine.accounts == model.facts(), f"seed {seed}, change {number}: {change}"


class Committed:
    """A history whose entries are of users; auth is on, and `u` writes below /a."""

    def __init__(self) -> None:
        self.commands: dict[bytes, Command] = {}
        self.users: dict[bytes, str] = {}
        self.history = History(self.commands, self.users, 0, Counter())
        self._hash = ZERO_HASH
        for command in FOUNDING:
            self.commit(command)
        self.revision = 4 + len(FOUNDING) + 1

    def commit(self, command: Command, user: str = "root") -> bytes:
        """Commit a command; returns its request id."""
        index = self.history.model_index + 1
        request_id = b"%024d" % index
        self.commands[request_id], self.users[request_id] = command, user
        entry = make_entry(self._hash, index, 1, EntryKind.COMMAND, 0, request_id)
        self._hash = entry.chain_hash
        self.history.committed(entry, 0, 0)
        return request_id


def test_a_write_without_a_right_in_force_is_found() -> None:
    """Whatever its member thought when it judged (I7)."""
    committed = Committed()
    committed.commit(Authorized(committed.revision, Set(b"/a")), "u")
    with pytest.raises(Violation, match="I7"):
        committed.commit(Authorized(committed.revision, Set(b"/b")), "u")


def test_a_write_that_was_judged_by_other_accounts_must_come_back() -> None:
    """An answer as if it had happened is none that the model gives (I7)."""
    committed = Committed()
    index = len(FOUNDING) + 1
    request_id = committed.commit(Authorized(committed.revision - 1, Set(b"/a", b"1")), "u")
    committed.history.write_ended(request_id, index, Result(JUDGED_BY_OTHERS, committed.revision), 0)
    with pytest.raises(Violation, match="I7"):
        committed.history.write_ended(request_id, index, Result(0, 10, b"/a", b"1", 10), 0)


def test_other_users_and_roles_are_found() -> None:
    """A server has those of the log's entries up to its own (I5)."""
    committed = Committed()
    earlier = AccountsModel()
    committed.history.accounts_held(1, 0, earlier.facts())
    with pytest.raises(Violation, match="I5"):
        committed.history.accounts_held(1, 1, earlier.facts())
