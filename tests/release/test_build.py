"""The wheel of a commit and its bill of materials."""

import datetime as dt
import json
import os
import re
import subprocess
import zipfile
from pathlib import Path

import pytest

from release import build

pytestmark = [pytest.mark.landing, pytest.mark.timeout(600)]


def test_one_commit_is_one_wheel_wherever_it_is_made(tmp_path: Path) -> None:
    """Two clones in directories of other names, under another umask, with files that belong to nobody: same bytes."""
    wheels = []
    for number, umask in ((1, 0o022), (2, 0o077)):
        checkout = tmp_path / f"checkout{number}" / ("x" * number)
        subprocess.run(
            ["git", "clone", "-q", str(build.ROOT), str(checkout)], check=True, umask=umask, env=_without_git()
        )
        if number == 2:
            (checkout / "kvraft" / "left_behind.py").write_text("")
            (checkout / "kvraft" / "cli.py").write_text("not committed")
        wheels.append(build.wheel(checkout, tmp_path / f"out{number}"))
    first, second = (path.read_bytes() for path in wheels)
    assert wheels[0].name == wheels[1].name
    assert first == second
    with zipfile.ZipFile(wheels[0]) as archive:
        names = archive.namelist()
        committed = subprocess.run(
            ["git", "-C", str(build.ROOT), "log", "-1", "--format=%cd", "--date=format-local:%Y-%m-%d"],
            check=True, capture_output=True, text=True, env=_without_git() | {"TZ": "UTC"},
        ).stdout.strip()  # fmt: skip
        assert {dt.date(*entry.date_time[:3]).isoformat() for entry in archive.infolist()} == {committed}
    assert "kvraft/__main__.py" in names
    assert [name for name in names if not name.startswith(("kvraft/", "kvraft-"))] == []


def _without_git() -> dict[str, str]:
    """Ours, without what a hook of git would set for the repository that it runs in."""
    return {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}


def test_bill_of_materials_lists_what_the_wheel_brings(tmp_path: Path) -> None:
    """Every package with the version of constraints.txt, who needs it, and nothing of this machine."""
    built = build.wheel(build.ROOT, tmp_path)
    bill = build.bill_of_materials(built)
    text = bill.read_text()
    said = json.loads(text)
    assert said["bomFormat"] == "CycloneDX"
    assert said["metadata"]["component"]["name"] == "kvraft"
    pinned = dict(re.findall(r"^(\S+)==(\S+)$", (build.ROOT / "constraints.txt").read_text(), re.MULTILINE))
    pinned = {name.lower().replace("_", "-"): version for name, version in pinned.items()}
    parts = {part["name"].lower().replace("_", "-"): part["version"] for part in said["components"]}
    assert {name: pinned.get(name) for name in parts} == parts
    direct = {re.split(r"[^A-Za-z0-9-]", line)[0].lower() for line in build.requirements(built)}
    assert len(direct) > 8
    assert direct < parts.keys()
    [root] = [each for each in said["dependencies"] if each["ref"] == said["metadata"]["component"]["bom-ref"]]
    assert len(root["dependsOn"]) == len(direct)
    assert parts.keys() & {"pytest", "ruff", "bandit", "pip"} == set()
    assert str(build.ROOT) not in text
    assert str(tmp_path) not in text
