"""What docs/operations.md tells an operator to type about members, typed: every command of these sections, in order.

Hosts and directories of the page become ports and directories of the test. `kvraft` stays in the background and has to
serve; everything else runs to its end.
"""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from kvraft.testing import leash
from kvraft.testing.cluster import Cluster, Member

pytestmark = [pytest.mark.slow, pytest.mark.landing]

PAGE: Final = Path(__file__).parents[2] / "docs" / "operations.md"
_PLACE: Final = re.compile(r"http://10\.0\.0\.(\d):(2379|2380)")
_MOVED: Final = 7
"""The host of the page that n2 moves to."""


def _blocks(heading: str) -> Iterator[str]:
    """The shell blocks below a heading, up to the next one."""
    _, found, rest = PAGE.read_text().partition(f"\n{heading}\n")
    assert found, f"the page has no section {heading!r}"
    section = re.split(r"^#+ ", rest, maxsplit=1, flags=re.MULTILINE)[0]
    yield from re.findall(r"```sh\n(.*?)```", section, re.DOTALL)


class _Operator:
    """Somebody at several terminals."""

    def __init__(self, cluster: Cluster, directory: Path) -> None:
        self.cluster = cluster
        self.places = {number: cluster[f"n{number}"] for number in (1, 2, 3)}
        """The member at each host of the page."""
        self.bin = directory / "bin"
        self.bin.mkdir()
        command = self.bin / "kvraft"
        command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m kvraft "$@"\n')
        command.chmod(0o755)
        self.variables: dict[str, str] = {}
        """What an environment file has for the next start."""

    def _here(self, text: str) -> str:
        """A command of the page, as it has to be typed here."""

        def url(match: re.Match[str]) -> str:
            member = self.places[int(match[1])]
            return member.client_url if match[2] == "2379" else member.peer_url

        return _PLACE.sub(url, text).replace("/var/lib/kvraft", str(self.cluster.directory))

    def _environment(self) -> dict[str, str]:
        path = f"{self.bin}{os.pathsep}{os.environ['PATH']}"
        return os.environ | {"PATH": path, "ETCDCTL_API": "2"} | self.variables

    def types(self, block: str) -> str:
        """Run a block to its end; what it printed."""
        ended = subprocess.run(
            ["sh", "-ec", self._here(block)],
            env=self._environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert ended.returncode == 0, f"{block}\n{ended.stdout}{ended.stderr}"
        return ended.stdout

    def starts(self, block: str, member: Member) -> None:
        """Run a block that is one `kvraft`, and wait until it serves."""
        assert not member.is_running
        with member.log_path.open("ab") as log:
            process = subprocess.Popen(
                ["sh", "-ec", f"exec {self._here(block)}"],
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        leash.hold(process.pid)
        member._process = process
        member.wait_ready()

    def starts_with(self, environment_file: Path, member: Member) -> None:
        """Start a member with what `kvraft member` printed, and beside it what every member is started with."""
        self.variables = dict(re.findall(r'^(ETCD_\w+)="(.*)"$', environment_file.read_text(), re.MULTILINE))
        listening = f"--listen-peer-urls={member.peer_url} --listen-client-urls={member.client_url}"
        self.starts(
            f"kvraft --data-dir={member.data_dir} {listening} --advertise-client-urls={member.client_url}", member
        )
        self.variables = {}

    def comes(self, number: int, name: str = "") -> Member:
        """A machine that the page names."""
        member = self.places[number] = self.cluster.more(name or f"n{number}")
        return member


def _names(member: Member) -> list[str]:
    return sorted(each["name"] for each in member.http("GET", "/v2/members").json()["members"])


def test_every_command_about_members_does_what_the_page_says(tmp_path: Path) -> None:
    """Growing in both ways, replacing, removing, moving, and the loss of a majority, one after the other."""
    with Cluster(tmp_path / "cluster") as cluster:
        operator = _Operator(cluster, tmp_path)
        first, second, third = cluster.members
        assert first.http("PUT", "/v2/keys/kept", form={"value": "1"}).status == 201

        joins, adds, starts_added = _blocks("### Growing")
        operator.starts(joins, operator.comes(4))
        fifth = operator.comes(5)
        operator.variables = dict(re.findall(r'^(ETCD_\w+)="(.*)"$', operator.types(adds), re.MULTILINE))
        assert len(operator.variables) == 3
        operator.starts(starts_added, fifth)
        operator.variables = {}
        assert _names(fifth) == ["n1", "n2", "n3", "n4", "n5"]

        third.kill()
        (replaces,) = _blocks("### Replacing a dead machine")
        sixth = operator.comes(6)
        operator.starts(replaces, sixth)
        cluster.without(third)
        sixth.wait_for("the removal of n3", lambda: _names(sixth) == ["n1", "n2", "n4", "n5", "n6"], 20)

        (removes,) = _blocks("### Removing")
        operator.types(removes)
        assert fifth.wait_exit() == 0
        cluster.without(fifth)

        tells, starts_moved = _blocks("### Moving")
        assert second.terminate() == 0
        moved = operator.comes(_MOVED, "n2")
        operator.types(tells)
        operator.starts(starts_moved, moved)
        cluster.without(second)
        assert _names(moved) == ["n1", "n2", "n4", "n6"]
        assert moved.http("GET", "/v2/keys/kept").status == 200

        for member in cluster.members:
            member.kill()
        (forces,) = _blocks("## When a majority is lost for good")
        operator.starts(forces, first)
        assert _names(first) == ["n1"]
        assert first.http("GET", "/v2/keys/kept").status == 200


def test_every_command_of_the_command_line_does_what_the_page_says(tmp_path: Path) -> None:
    """Looking, adding, moving, replacing and removing."""
    with Cluster(tmp_path / "cluster") as cluster:
        operator = _Operator(cluster, tmp_path)
        first, second, third = cluster.members
        looks, changes, replaces = _blocks("## The command line")
        shown = operator.types(looks)
        assert shown.endswith("\nall is well\n")
        assert all(member.name in shown for member in cluster.members)

        fourth, sixth = operator.comes(4), operator.comes(6)
        printed = operator.types(f"cd {tmp_path}\n{changes}")
        assert json.loads(printed.splitlines()[0])["problems"] == []
        assert f"member {third.name} " in printed
        assert re.search(rf"^removed member {first.name} \(", printed, re.MULTILINE)
        assert first.wait_exit() == 0
        cluster.without(first)
        operator.starts_with(tmp_path / "n4.env", fourth)
        operator.types(f"cd {tmp_path}\n{replaces}")
        operator.starts_with(tmp_path / "n6.env", sixth)
        assert second.wait_exit() == 0
        cluster.without(second)
        assert _names(sixth) == ["n3", "n4", "n6"]
