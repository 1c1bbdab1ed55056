"""What starts a program, read from a systemd unit or from a pod's manifest: its words and its variables.

The part of systemd.exec(5) and systemd.service(5) that units of etcd use, and of a pod what a container is given.
"""

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, final

import yaml

UNITS: Final = Path(__file__).parents[1] / "data" / "units"
_PROGRAM: Final = re.compile(r"(?:/usr/bin/|/usr/local/bin/)etcd2?\b|^etcd$")
_SYSTEMD: Final = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin", "LANG": "C.UTF-8"}
"""What systemd gives every service."""


@final
@dataclass(slots=True, frozen=True)
class Start:
    """A program to be started."""

    words: tuple[str, ...]
    variables: Mapping[str, str]

    def of(self, program: str) -> "Start":
        """The same of another program."""
        return Start(tuple(_PROGRAM.sub(program, word) for word in self.words), self.variables)


def of_unit(texts: list[str], files: Mapping[str, str], name: str, specifiers: Mapping[str, str]) -> Start:
    """What a unit starts.

    Args:
        texts: the unit, then its drop-ins.
        files: environment files by their paths; another one is not there.
        name: of the unit, without its suffix.
        specifiers: what %H and the like stand for.
    """
    variables, words = dict(_SYSTEMD), []
    for key, raw in _service_lines(texts):
        value = re.sub(r"%(.)", lambda found: {"p": name, "%": "%", **specifiers}[found[1]], raw)
        if key == "Environment":
            for assignment in shlex.split(value):
                variable, _, text = assignment.partition("=")
                variables[variable] = text
        elif key == "EnvironmentFile":
            assert value.startswith("-") or value in files
            variables.update(_assignments(files.get(value.removeprefix("-"), "")))
        elif key == "ExecStart":
            words = shlex.split(value)
    return Start(tuple(word for quoted in words for word in _expanded(quoted, variables)), variables)


def of_manifest(text: str) -> Start:
    """What the only container of a pod starts."""
    [container] = yaml.safe_load(text)["spec"]["containers"]
    variables = {one["name"]: one["value"] for one in container.get("env", [])}
    return Start(tuple(container["command"]), {**_SYSTEMD, **variables})


def _service_lines(texts: list[str]) -> Iterator[tuple[str, str]]:
    for text in texts:
        section = ""
        for line in text.replace("\\\n", " ").splitlines():
            if line.startswith("["):
                section = line
            elif section == "[Service]" and "=" in line and not line.startswith(("#", ";")):
                key, _, value = line.partition("=")
                yield key.strip(), value.strip()


def _assignments(text: str) -> Iterator[tuple[str, str]]:
    """An environment file: quotes belong to no value."""
    for line in text.splitlines():
        if line.strip() and not line.startswith(("#", ";")):
            name, _, value = line.partition("=")
            yield name, "".join(shlex.split(value))


def _expanded(word: str, variables: Mapping[str, str]) -> list[str]:
    """`${NAME}` within a word stays one, `$NAME` alone is as many words as it has."""
    if re.fullmatch(r"\$\w+", word):
        return variables.get(word[1:], "").split()
    return [re.sub(r"\$\{(\w+)\}", lambda found: variables.get(found[1], ""), word)]
