"""Debian's etcdctl with --username, --ca-file, --cert-file and --key-file, where TLS and auth are on.

Everything that the plain tests do with it is done again, over TLS, by root with his password; and once more by somebody
with few rights, whom his certificate names. Outputs, errors and exit codes are etcd's.
"""

from typing import Final

import pytest

from tests.conformance.etcdctl import Etcdctl, agree
from tests.conformance.membership import wait_addable
from tests.conformance.secure_place import LIMITED, ROOT, SecurePlace
from tests.conformance.test_etcdctl import (
    AUTH,
    SCRIPTS,
    test_a_command_prints_and_exits_as_with_etcd,
    test_every_member_is_listed_with_one_leader,
    test_exec_watch_tells_its_command_of_every_event,
    test_values_come_from_standard_input,
    test_watch_after_an_index_prints_the_past,
    test_watch_forever_prints_every_event,
    test_watch_prints_the_next_event_and_ends,
)
from tests.conformance.test_etcdctl_members import ADDS, REMOVALS, UPDATES

__all__ = [
    "test_a_command_prints_and_exits_as_with_etcd",
    "test_every_member_is_listed_with_one_leader",
    "test_exec_watch_tells_its_command_of_every_event",
    "test_values_come_from_standard_input",
    "test_watch_after_an_index_prints_the_past",
    "test_watch_forever_prints_every_event",
    "test_watch_prints_the_next_event_and_ends",
]
"""Run here with the fixtures of this file."""

pytestmark = [pytest.mark.slow, pytest.mark.landing, pytest.mark.timeout(300)]


@pytest.fixture
def place(secure_place: SecurePlace) -> SecurePlace:
    """Shared, with a shorter name."""
    return secure_place


@pytest.fixture
def both(place: SecurePlace) -> tuple[Etcdctl, Etcdctl]:
    """The command for each of the two, by root, on empty stores with equal indices."""
    place.servers.reset()
    tools = place.tools(login=ROOT)
    for tool in tools:
        tool.settle()
    return tools


BY_PASSWORD: Final = ("get", "rmdir", "cluster")
"""Of the scripts, those that are done by password, too: each of its requests costs etcd a hash."""


@pytest.mark.parametrize(
    ("name", "by_certificate"),
    [*((name, True) for name in SCRIPTS), *((name, False) for name in BY_PASSWORD)],
    ids=[*SCRIPTS, *(f"{name} by password" for name in BY_PASSWORD)],
)
def test_somebody_with_few_rights_is_told_what_etcd_tells_him(
    place: SecurePlace, name: str, by_certificate: bool
) -> None:
    """Every command, allowed or not: by his password under a certificate of nobody, or by his certificate alone."""
    place.servers.reset()
    tools = place.tools(LIMITED) if by_certificate else place.tools(login=f"{LIMITED}:spade")
    outcomes = agree(tools, SCRIPTS[name])
    refused = any("Insufficient credentials" in outcome.stderr for outcome in outcomes)
    assert refused or name == "cluster", "which asks for what everybody may, and by somebody else's name"


def test_who_may_write_and_not_read_is_shown_no_value_and_etcdctl_lives(place: SecurePlace) -> None:
    """etcd shows him the value that he has removed; here the answer still is one that etcdctl can print."""  # noqa: D403 -- its name
    place.servers.reset()
    agree(place.tools(login=ROOT), "set /letterbox/k secret\nmkdir /letterbox/d")
    theirs, ours = place.tools(LIMITED)
    for line, said in (("rm /letterbox/k", "PrevNode.Value: "), ("rmdir /letterbox/d", "")):
        expected, actual = (tool.run(line.split()) for tool in (theirs, ours))
        assert (actual.exit_code, actual.stderr, actual.stdout.rstrip("\n")) == (0, "", said)
        assert (expected.exit_code, expected.stderr) == (0, "")


def test_nobody_and_who_is_wrong_are_told_what_etcd_tells_them(place: SecurePlace) -> None:
    """A wrong password, nobody's name, a certificate of nobody; and without a certificate, or with a wrong one."""
    place.servers.reset()
    script = "get /a\nset /public/x 1\nls /\nuser list\nauth disable\nmember list\ncluster-health\nmember remove 123"
    for login in (f"{LIMITED}:wrong", "nobody:spade", "root:", None):
        agree(place.tools(login=login), script)
    stranger = place.other.issue("stranger", hosts=())
    known = place.certificate_of["root"]
    for options in (
        ["--ca-file", place.ca.ca_file],
        ["--ca-file", place.other.ca_file, *place.options(known)[2:]],
        place.options(stranger),
        [*place.options(known)[:-1], "/nowhere"],
        ["--cert-file", known.cert_file, "--key-file", known.key_file],
        [],
    ):
        servers = place.servers.oracle, place.servers.subject
        tools = tuple(Etcdctl(server, *options) for server in servers)
        for outcome in agree((tools[0], tools[1]), "set /a 1\nmember list\ncluster-health\nuser list"):
            assert outcome.exit_code != 0


def test_users_and_roles_are_managed_over_tls_as_with_etcd(place: SecurePlace) -> None:
    """`user`, `role`, `auth` from nothing on, auth being turned on and off on the way."""
    place.disable()
    try:
        place.servers.reset()
        agree(place.tools(), AUTH)
    finally:
        place.enable()


def test_members_are_changed_over_tls_as_with_etcd(place: SecurePlace) -> None:
    """Every use of `member`, and every way in which it fails, by root; and by somebody who is not."""
    for server in place.servers.both:
        wait_addable(server)
    place.servers.reset()
    outcomes = agree(place.tools(login=ROOT), ADDS + UPDATES + REMOVALS)
    assert {outcome.exit_code for outcome in outcomes} == {0, 1, 5}
    agree(
        place.tools(LIMITED),
        "member add n4 http://127.0.0.1:9\nmember update ID1 PEER1\nmember remove ID1\nmember list",
    )
