"""`python -m tests.conformance.mutants.by_differential [--seed S]`: what the differential test with auth finds.

Bugs of authorization are planted in a member, one at a time, and each must be found beside etcd within so many requests
by random users with random roles. Those of races, of certificates, and of what kvraft keeps from writers (`auth`) have
no place here: requests come one by one and without certificates, and etcd tells writers more.
As many hunts run at once as there are cores, or `--at-once N`. Exits with 1 when one is not found, or when something is
found where nothing is planted.
"""

import argparse
import concurrent.futures
import dataclasses
import io
import os
import re
import sys
from collections.abc import Callable
from time import monotonic
from typing import Any, Final, final

from kvraft.api_v2 import guard
from kvraft.keyspace import accounts
from kvraft.keyspace.account_records import User
from kvraft.security.rights import Rights
from tests.conformance import systems
from tests.conformance.differential.campaign import Finding, run_campaign
from tests.conformance.differential.coverage import Coverage
from tests.conformance.differential.pair import pair
from tests.conformance.mutants import auth
from tests.conformance.mutants.catalogue import around

REQUESTS_MAX: Final = 4000
HEALTHY_REQUESTS: Final = 1000
SEED: Final = 2


def _rights_outlive_their_roles() -> None:
    def renew(_original: Callable[..., Any], self: Any) -> None:
        self._revision = self.accounts.revision

    around(guard.Guard, "_renew", renew)


def _a_writer_may_read() -> None:
    def allows(original: Callable[..., Any], self: Any, key: bytes, *, write: bool, recursive: bool) -> Any:
        return original(self, key, write=write, recursive=recursive) or (
            not write and original(self, key, write=True, recursive=recursive)
        )

    around(Rights, "allows", allows)


def _a_guest_is_asked_for_more_than_by_etcd() -> None:
    def may(_original: Callable[..., Any], self: Any, key: bytes, *, write: bool, recursive: bool) -> Any:
        return self._rights.allows(key, write=write, recursive=recursive)

    around(guard.Standing, "may", may)


def _one_role_counts() -> None:
    every = User.roles_in_force.fget  # type: ignore[attr-defined] # a property, as the class has it
    setattr(User, "roles_in_force", property(lambda self: every(self)[:1]))  # noqa: B010 -- of a final class


def _without_a_guest_role_all_is_open() -> None:
    def work_out(original: Callable[..., Any], self: Any, name: str) -> Any:
        if not name and "guest" not in self.accounts.roles:
            return Rights(["*"], ["*"])
        return original(self, name)

    around(guard.Guard, "_work_out", work_out)


def _a_revoked_pattern_stays() -> None:
    around(accounts, "_revoked", lambda _original, old, _revoke: old)


def _whoever_has_a_password_is_root() -> None:
    def is_root(original: Callable[..., Any], self: Any, login: Any) -> Any:
        return bool(login.name) or original(self, login)

    around(guard.Guard, "is_root", is_root)


@final
@dataclasses.dataclass(frozen=True, slots=True)
class Planted:
    """One bug."""

    name: str
    plant: Callable[[], None]
    shows: str = r"status 401, not|not 401"
    """What a difference that it makes says; on a busy machine there may be one of times before."""


MUTANTS: Final = (
    Planted("recursion is judged by the directory alone", auth._recursion_is_not_judged),
    Planted("a watch needs no right", auth._watches_are_not_judged),
    Planted("one endpoint has no check", auth._an_endpoint_has_no_right),
    Planted("a wrong password is the guest's", auth._a_wrong_password_is_the_guests),
    Planted("/a/* allows /ab", auth._a_pattern_allows_its_neighbours),
    Planted("rights outlive a change of their roles", _rights_outlive_their_roles),
    Planted("what may be written may be read", _a_writer_may_read),
    Planted("a guest's recursion is judged, as etcd does not", _a_guest_is_asked_for_more_than_by_etcd),
    Planted("only the first of a user's roles counts", _one_role_counts),
    Planted("without a role guest all is open", _without_a_guest_role_all_is_open),
    Planted("a revoked pattern stays", _a_revoked_pattern_stays, r"/v2/auth/roles|401"),
    Planted("whoever has a password is root", _whoever_has_a_password_is_root),
)


def hunt(number: int | None, seed: int) -> tuple[Finding | None, int]:
    """Run the differential test with auth on one mutant, None for the healthy member: what it found, and when."""
    coverage = Coverage()
    requests = HEALTHY_REQUESTS if number is None else REQUESTS_MAX
    planted = systems.kvraft() if number is None else systems.planted(number)
    with systems.etcd() as oracle, planted as subject, pair(oracle, subject) as servers:
        first, finding = 0, None
        while coverage.requests < requests:
            finding = run_campaign(
                servers, requests, seed, coverage, auth=True, first=first, shorten=False, log=io.StringIO()
            )
            if finding is None or number is None or re.search(MUTANTS[number].shows, finding.words):
                break
            first, finding = finding.number + 1, None
    return finding, coverage.requests


def main() -> int:
    """Hunt them all."""
    parser = argparse.ArgumentParser(prog="python -m tests.conformance.mutants.by_differential", description=__doc__)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--only", type=int, help="number of one, from 0")
    parser.add_argument("--at-once", type=int, default=os.cpu_count() or 1, help="hunts; one for each core")
    arguments = parser.parse_args()
    out = sys.stdout
    started, failures = monotonic(), 0
    numbers = [None, *range(len(MUTANTS))] if arguments.only is None else [arguments.only]
    # Each has servers of its own, and what takes long is etcd's hashing, on one core.
    with concurrent.futures.ThreadPoolExecutor(arguments.at_once) as hunters:
        for number, (finding, requests) in zip(
            numbers, hunters.map(lambda number: hunt(number, arguments.seed), numbers), strict=True
        ):
            if number is None:
                words = f"found {finding}" if finding else f"nothing found in {requests} requests"
                failures += finding is not None
            else:
                words = f"found after {requests:4} requests: {finding.words[:150]}" if finding else "NOT FOUND"
                failures += finding is None
            out.write(f"{'nothing planted' if number is None else MUTANTS[number].name}: {words}\n")
            out.flush()
    out.write(f"{len(MUTANTS)} planted, {failures} failures, seed {arguments.seed}, {monotonic() - started:.0f} s\n")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
