"""Planted bugs of authorization: how each is put into a process, and which tests must fail for it.

`python -m tests.conformance.mutants.auth` hunts them all: M56 and M57 of the list that every store should have, and
those that hide in what is kept, remembered or under way. `python -m tests.conformance.mutants.auth NUMBER` runs the
tests of one with the bug planted.
"""

import dataclasses
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, final

import pytest

from kvraft.api_v2 import app, asker, guard, key_requests, key_responses, keys, routes, watches
from kvraft.keyspace import account_commands, accounts
from kvraft.keyspace.commands import Authorized
from kvraft.security import attempts, passwords, rights
from kvraft.security.logins import GUEST
from tests.conformance.mutants.catalogue import around

GUARD: Final = "tests/api_v2/test_guard.py"
ROOT: Final = Path(__file__).resolve().parents[3]


def _recursion_is_not_judged() -> None:
    def may(original: Callable[..., Any], self: Any, key: bytes, *, write: bool, recursive: bool) -> Any:
        return original(self, key, write=write, recursive=False)

    around(guard.Standing, "may", may)


def _watches_are_not_judged() -> None:
    def perform(original: Callable[..., Any], self: Any, label: str, request: Any, path: bytes, exchange: Any) -> Any:
        if isinstance(request, key_requests.Watch):
            return self._carry_out(label, request, path, exchange, None)
        return original(self, label, request, path, exchange)

    around(keys.Keys, "_perform", perform)


def _an_endpoint_has_no_right() -> None:
    """One that tells something: a change without a right is refused once more where it would be written."""
    table = tuple(
        dataclasses.replace(route, read=routes.Right.NONE) if route.path == b"/v2/auth/users" else route
        for route in routes.ROUTES
    )
    for room in (routes, app):  # which may have taken the table already
        setattr(room, "ROUTES", table)  # noqa: B010 -- a constant, Final


def _a_route_that_nobody_has_listed() -> None:
    extra = routes.Route(b"/v2/new", (b"GET",), routes.Right.NONE, routes.Right.NONE, routes._version)
    setattr(routes, "ROUTES", (*routes.ROUTES, extra))  # noqa: B010 -- a constant, Final


def _a_watch_goes_on_without_its_right() -> None:
    around(watches.Watches, "_judge_anew", lambda original, self: None)


def _a_login_outlives_a_password() -> None:
    around(guard.Guard, "_is_current", lambda original, self, login: login.name in self.accounts.users)


def _who_is_known_outlives_a_change() -> None:
    def renew(original: Callable[..., Any], self: Any) -> Any:
        kept = dict(self._standings)
        original(self)
        self._standings.update(kept)

    around(guard.Guard, "_renew", renew)


def _a_certificate_beats_the_header() -> None:
    def identify(original: Callable[..., Any], self: Any, who: Any, done: Callable[..., Any]) -> Any:
        found = self._by_certificate(who)
        return original(self, who, done) if found is GUEST else done(found)

    around(guard.Guard, "ask_who", identify)


def _a_proxys_certificate_is_a_user() -> None:
    def made(original: Callable[..., Any], connection: Any, authorization: Any, *, forwarded: bool) -> Any:
        return original(connection, authorization, forwarded=False)

    around(asker, "asker_on", made)


def _a_wrong_password_is_the_guests() -> None:
    def identify(original: Callable[..., Any], self: Any, who: Any, done: Callable[..., Any]) -> Any:
        return original(self, who, lambda found: done(GUEST if found is guard.Unknown.WRONG else found))

    around(guard.Guard, "ask_who", identify)


def _an_old_judgement_counts() -> None:
    def admitted(original: Callable[..., Any], self: Any, command: Any) -> Any:
        return command.command if isinstance(command, Authorized) else original(self, command)

    around(accounts.Accounts, "admitted", admitted)


def _a_write_without_judgement_counts() -> None:
    def admitted(original: Callable[..., Any], self: Any, command: Any) -> Any:
        return original(self, command) if isinstance(command, Authorized) else command

    around(accounts.Accounts, "admitted", admitted)


def _a_write_shows_what_it_replaced() -> None:
    def answer(original: Callable[..., Any], written: Any, cluster_id: int, *, quiet: bool, blind: bool = False) -> Any:
        return original(written, cluster_id, quiet=quiet)

    around(keys, "written_answer", answer)


def _a_refresh_shows_what_it_keeps() -> None:
    around(key_responses, "_unseen", lambda _original, event: dataclasses.replace(event, prev_node=None))


def _guesses_at_once_are_free() -> None:
    def begin(original: Callable[..., Any], self: Any, user: bytes, address: str, now_ms: int) -> Any:
        bound, self._failures_max = self._failures_max, 1 << 30
        try:
            return original(self, user, address, now_ms)
        finally:
            self._failures_max = bound

    around(attempts.Attempts, "begin", begin)


def _a_pattern_allows_its_neighbours() -> None:
    def split(original: Callable[..., Any], patterns: Any) -> Any:
        whole, beginnings = original(patterns)
        return whole, tuple(beginning.rstrip(b"/") for beginning in beginnings)

    around(rights, "_split", split)


def _a_quorum_read_is_judged_too_early() -> None:
    def read(original: Callable[..., Any], self: Any, request: Any, exchange: Any, revision: int, again: Any) -> Any:
        return self._backend.read_barrier(lambda error: self._read("QGET", request, exchange))

    around(keys.Keys, "_read_after_barrier", read)


def _nobody_costs_no_hash() -> None:
    def is_right(original: Callable[..., Any], password: bytes, password_hash: Any, cost: int) -> Any:
        return password_hash is not None and original(password, password_hash, cost)

    around(passwords, "_is_right", is_right)


def _a_hash_is_shown() -> None:
    def shown(self: Any) -> str:
        return f"PutUser({self.name!r}, {self.password_hash!r})"

    setattr(account_commands.PutUser, "__repr__", shown)  # noqa: B010 -- a method of a final class


@final
@dataclasses.dataclass(frozen=True, slots=True)
class AuthMutant:
    """One planted bug."""

    name: str
    plant: Callable[[], None]
    tests: tuple[str, ...]
    """Arguments for pytest that choose what must fail."""


MUTANTS: Final = (
    AuthMutant("M56: recursion is judged by the directory alone", _recursion_is_not_judged, (GUARD, "-k", "recursion")),
    AuthMutant("M56: a watch needs no right", _watches_are_not_judged, (GUARD, "-k", "watch_needs")),
    AuthMutant(
        "M57: an endpoint that nobody has thought of",
        _a_route_that_nobody_has_listed,
        ("tests/api_v2/test_routes.py", "-k", "no_right"),
    ),
    AuthMutant(
        "one endpoint has no check", _an_endpoint_has_no_right, ("tests/api_v2/test_routes.py", "-k", "no_right")
    ),
    AuthMutant(
        "a watch goes on without its right",
        _a_watch_goes_on_without_its_right,
        (GUARD, "-k", "watch_ends or watch_from"),
    ),
    AuthMutant("a login outlives a password", _a_login_outlives_a_password, (GUARD, "-k", "counts")),
    AuthMutant("who is known outlives a change", _who_is_known_outlives_a_change, (GUARD, "-k", "counts")),
    AuthMutant("a certificate beats the header", _a_certificate_beats_the_header, (GUARD, "-k", "beats")),
    AuthMutant("a proxy's certificate is a user", _a_proxys_certificate_is_a_user, (GUARD, "-k", "proxy")),
    AuthMutant("a wrong password is the guest's", _a_wrong_password_is_the_guests, (GUARD, "-k", "everybody")),
    AuthMutant("a judgement counts behind a change", _an_old_judgement_counts, (GUARD, "-k", "under_way")),
    AuthMutant("a write from before auth counts", _a_write_without_judgement_counts, (GUARD, "-k", "before_auth")),
    AuthMutant("a write shows what it replaced", _a_write_shows_what_it_replaced, (GUARD, "-k", "learns_nothing")),
    AuthMutant("a refresh shows what it keeps", _a_refresh_shows_what_it_keeps, (GUARD, "-k", "learns_nothing")),
    AuthMutant("guesses at once are free", _guesses_at_once_are_free, (GUARD, "-k", "guesses")),
    AuthMutant(
        "/a/* allows /ab", _a_pattern_allows_its_neighbours, (GUARD, "tests/security", "-k", "everybody or beginning")
    ),
    AuthMutant(
        "a quorum read is judged before it waits", _a_quorum_read_is_judged_too_early, (GUARD, "-k", "quorum_read")
    ),
    AuthMutant("an unknown user costs no hash", _nobody_costs_no_hash, ("tests/security", "-k", "nobodys")),
    AuthMutant(
        "the audit log shows a hash",
        _a_hash_is_shown,
        ("tests/api_v2/test_audit.py", "tests/keyspace/test_accounts.py", "-k", "in_no_entry or by_chance"),
    ),
)


def hunt(number: int) -> bool:
    """Whether the tests of a mutant fail in a process where it is planted; number -1 plants nothing."""
    chosen = MUTANTS if number < 0 else (MUTANTS[number],)
    for mutant in chosen:
        command = [sys.executable, "-m", "tests.conformance.mutants.auth", str(number), *mutant.tests]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if done.returncode != pytest.ExitCode.OK:
            return done.returncode == pytest.ExitCode.TESTS_FAILED
    return False


def main(arguments: list[str]) -> int:
    """Hunt them all, or be the process in which one is planted."""
    if arguments:
        number = int(arguments[0])
        if number >= 0:
            MUTANTS[number].plant()
        return pytest.main([*arguments[1:], "-q", "-x", "-p", "no:cacheprovider", "-p", "no:randomly"])
    healthy = hunt(-1)
    sys.stdout.write(f"nothing planted: {'a test fails' if healthy else 'every test passes'}\n")
    failures = int(healthy)
    for number, mutant in enumerate(MUTANTS):
        found = hunt(number)
        failures += not found
        sys.stdout.write(f"{mutant.name}: {'found' if found else 'NOT FOUND'}\n")
        sys.stdout.flush()
    sys.stdout.write(f"{len(MUTANTS)} planted, {failures} failures\n")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
