"""docs/operations.md, "Backups", typed: each command as it stands there, and the units as systemd reads them."""

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from kvraft.backup import verification
from kvraft.testing import leash
from kvraft.testing.cluster import Cluster

pytestmark = [pytest.mark.slow, pytest.mark.landing]

PAGE: Final = Path(__file__).parents[2] / "docs" / "operations.md"
_PLACE: Final = re.compile(r"http://10\.0\.0\.(\d):(2379|2380)")


def _section() -> str:
    _, found, rest = PAGE.read_text().partition("\n## Backups\n")
    assert found, "the page has no such section"
    return rest.partition("\n## ")[0]


def _blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", _section(), re.DOTALL)


class _Operator:
    """Somebody at a terminal of a machine whose directories are the test's."""

    def __init__(self, directory: Path, old: Cluster, new: Cluster, drill: Cluster) -> None:
        self.old, self.new, self.drill = old, new, drill
        self._directory = directory
        self._bin = directory / "bin"
        self._bin.mkdir()
        command = self._bin / "kvraft"
        command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m kvraft "$@"\n')
        command.chmod(0o755)
        (directory / "backups").mkdir()

    def here(self, text: str, cluster: Cluster) -> str:
        """What the page says, with the places of the test."""

        def url(match: re.Match[str]) -> str:
            member = cluster[f"n{match[1]}"]
            return member.client_url if match[2] == "2379" else member.peer_url

        (drill,) = self.drill.members
        text = _PLACE.sub(url, text).replace("http://127.0.0.1:12380", drill.peer_url)
        text = text.replace("http://127.0.0.1:12379", drill.client_url)
        text = text.replace("/var/backups/kvraft/drill", str(drill.data_dir))
        text = text.replace("/var/backups/kvraft", str(self._directory / "backups"))
        return text.replace("/var/lib/kvraft/new-n1", str(self.new["n1"].data_dir))

    def environment(self) -> dict[str, str]:
        """With `kvraft` on the path."""
        return {"PATH": f"{self._bin}:/usr/bin:/bin", "LANG": "C.UTF-8"}

    def types(self, text: str, **variables: str) -> str:
        """Run it to its end; what it printed."""
        ended = subprocess.run(
            ["sh", "-ec", text],
            env=self.environment() | variables,
            capture_output=True,
            text=True,
            check=False,
            timeout=90,
        )
        assert ended.returncode == 0, f"{text}\n{ended.stdout}{ended.stderr}"
        return ended.stdout


def test_every_command_about_backups_does_what_the_page_says(tmp_path: Path) -> None:
    """A backup by hand and one by the unit, the drill, and three members after a disaster."""
    takes, restores_drill, starts_drill, restores_one = _blocks("sh")
    service, timer = _blocks("ini")
    new, drill = Cluster(tmp_path / "new"), Cluster(tmp_path / "drill", size=1)
    with Cluster(tmp_path / "old") as old:
        operator = _Operator(tmp_path, old, new, drill)
        for number in range(20):
            assert old.members[0].http("PUT", f"/v2/keys/kept/{number}", form={"value": "1"}).status == 201
        assert "every record of this backup is whole" in operator.types(operator.here(takes, old))

        service = operator.here(service, old)
        _is_read_by_systemd(tmp_path, service, timer)
        lines = dict(re.findall(r"^(\w+)=(.*)$", service, re.MULTILINE))
        name, _, value = lines["Environment"].partition("=")
        operator.types(lines["ExecStart"].replace("%%", "%"), **{name: value})
        (nightly,) = (tmp_path / "backups").glob("[1-7].backup")
        assert verification.verify(nightly)["keys"] == 20

    drill.directory.mkdir(exist_ok=True)
    (member,) = drill.members
    operator.types(operator.here(restores_drill, old))
    with member.log_path.open("ab") as log:
        process = subprocess.Popen(
            ["sh", "-ec", f"exec {operator.here(starts_drill, old)}"],
            env=operator.environment(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    leash.hold(process.pid)
    member._process = process
    try:
        member.wait_ready()
        assert len(member.http("GET", "/v2/keys/kept").json()["node"]["nodes"]) == 20
    finally:
        drill.stop()

    typed = operator.here(restores_one, new)
    for name in ("n1", "n2", "n3"):
        operator.types(
            typed.replace("--name n1", f"--name {name}").replace(str(new["n1"].data_dir), str(new[name].data_dir))
        )
    with new:
        for member in new.members:
            answer = member.http("GET", "/v2/keys/kept")
            assert len(answer.json()["node"]["nodes"]) == 20
            assert answer.etcd_index > 1_000_000


def _is_read_by_systemd(directory: Path, service: str, timer: str) -> None:
    """Both units, as files; `User=` is one that this machine has."""
    (directory / "kvraft-backup.service").write_text(service.replace("User=kvraft", "User=root"))
    (directory / "kvraft-backup.timer").write_text(timer)
    names = [str(directory / f"kvraft-backup.{kind}") for kind in ("service", "timer")]
    read = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *names], capture_output=True, text=True, check=False, timeout=60
    )
    complaints = [line for line in read.stderr.splitlines() if "kvraft-backup" in line]
    assert (read.returncode, complaints) == (0, []), read.stderr
