"""Planted bugs of users and roles: M87 to M91."""

import dataclasses
from typing import Any

from kvraft.keyspace.account_commands import PutRole
from kvraft.keyspace.account_records import AccountRecords
from kvraft.keyspace.accounts import Accounts
from kvraft.keyspace.commands import Authorized
from tests.simulation.disk import StoredState
from tests.simulation.mutants.planting import Mutant, together, with_options, wrapped

_HASHES = "tests/keyspace/test_accounts.py::test_hashes_see_what_users_and_roles_are"


def _without_accounts(copy: Any, state: StoredState) -> Any:
    return dataclasses.replace(copy(state), accounts={})


def _not_counted(_expect: Any, _accounts: Accounts) -> None:
    """Whatever came is taken for all."""


def _any_judgement(_admitted: Any, _accounts: Accounts, command: Any) -> Any:
    return command.command if isinstance(command, Authorized) else command


def _unjudged(admitted: Any, accounts: Accounts, command: Any) -> Any:
    return admitted(accounts, command) if isinstance(command, Authorized) else command


def _same_revision(apply: Any, accounts: Accounts, command: Any, etcd_index: int) -> Any:
    before = accounts.revision
    answer = apply(accounts, command, etcd_index)
    if isinstance(command, PutRole) and before:
        accounts.revision = before
    return answer


def _nothing_removed(take: Any, records: AccountRecords) -> Any:
    return take(records)[0], []


def _every_other_flush(take: Any, records: AccountRecords) -> Any:
    changed, removed = take(records)
    return changed[::2], removed


def _of_the_revision_alone(seal: Any, accounts: Accounts) -> None:
    records, accounts._records = accounts._records, AccountRecords()  # type: ignore[misc] # it is Final
    seal(accounts)
    accounts._records = records  # type: ignore[misc] # it is Final


_WITH_RESTARTS = with_options(accounts=True, fault_kinds=("crash", "crash_all", "crash_at", "burst", "compact"))
_BEHIND = with_options(
    accounts=True,
    fault_kinds=("crash", "crash_at", "isolate", "cut", "compact", "burst", "pause"),
    snapshot_entries=1,
    flush_ms=50,
)

MUTANTS = (
    Mutant(
        "M87",
        "a snapshot lacks users and roles",
        ("I5", "I7", "stop"),
        wrapped(StoredState, "copy", _without_accounts),
        _BEHIND,
    ),
    Mutant(
        "M87b",
        "a snapshot lacks users and roles, and nobody counts them",
        ("I5", "I7"),
        together(
            wrapped(StoredState, "copy", _without_accounts),
            wrapped(Accounts, "expect_complete", _not_counted),
        ),
        _BEHIND,
    ),
    Mutant(
        "M88",
        "a write is carried out whatever accounts it was judged by",
        ("I7", "I9", "I10"),
        wrapped(Accounts, "admitted", _any_judgement),
        with_options(accounts=True),
    ),
    Mutant(
        "M88b",
        "a write from before auth is carried out behind it",
        ("I7", "I9", "I10"),
        wrapped(Accounts, "admitted", _unjudged),
        with_options(accounts=True),
    ),
    Mutant(
        "M88c",
        "a change of a role leaves judgements in force",
        ("I5", "I7"),
        wrapped(Accounts, "apply", _same_revision),
        with_options(accounts=True),
    ),
    Mutant(
        "M89",
        "a flush forgets to remove users and roles",
        ("I5", "I7", "stop"),
        wrapped(AccountRecords, "take_changes", _nothing_removed),
        _WITH_RESTARTS,
    ),
    Mutant(
        "M90",
        "a flush writes only some of the changed users and roles",
        ("I5", "I7", "stop"),
        wrapped(AccountRecords, "take_changes", _every_other_flush),
        _WITH_RESTARTS,
    ),
    Mutant(
        "M91",
        "users and roles are left out of the state hash",
        ("I5",),
        wrapped(Accounts, "_seal", _of_the_revision_alone),
        test=_HASHES,
    ),
)
