"""`kvraft completion`: what it prints, and three shells that read it and are asked with the Tab key."""

import json
import os
import pathlib
import pty
import re
import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, final

import pytest

from kvraft.commands import table
from kvraft.commands.completion import SHELLS
from kvraft.commands.exits import Exit
from kvraft.testing import leash
from tests.commands.conftest import Run

_ESCAPES: Final = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>]|[\x00-\x08\x0e-\x1f]")
_WAIT_S: Final = 60.0


@pytest.mark.parametrize("shell", SHELLS)
def test_script_is_printed(run: Run, shell: str) -> None:
    """As text, and in JSON."""
    ran = run("completion", shell)
    assert ran.exit_code == Exit.DONE
    assert f"{table.COMPLETING}={shell}_complete" in ran.stdout
    assert json.loads(run("completion", shell, "--json").stdout) == {"shell": shell, "script": ran.stdout[:-1]}


def test_unknown_shell_is_told_which_there_are(run: Run) -> None:
    """In one line."""
    ran = run("completion", "tcsh")
    assert ran.exit_code == Exit.WRONG_ARGUMENTS
    assert all(shell in ran.stderr for shell in SHELLS)


def _asked(*words: str) -> list[str]:
    """What the program offers a shell for a command line whose last word is not finished."""
    environment = os.environ | {
        table.COMPLETING: "bash_complete",
        "COMP_WORDS": " ".join(("kvraft", *words)),
        "COMP_CWORD": str(len(words)),
    }
    ended = subprocess.run(
        [sys.executable, "-m", "kvraft"], env=environment, capture_output=True, text=True, check=True, timeout=60
    )
    assert ended.stderr == ""
    return ended.stdout.split()


@pytest.mark.landing
def test_words_options_and_flags_of_the_server_are_offered() -> None:
    """Whichever can stand there, and files after flags that name some."""
    assert _asked("sta") == ["plain,status"]
    assert set(_asked("member", "re")) == {"plain,replace", "plain,remove"}
    assert _asked("status", "--wat") == ["plain,--watch"]
    assert _asked("--data-d") == ["plain,--data-dir"]
    assert [line.partition(",")[0] for line in _asked("--data-dir", "/et")] == ["file"]


@final
class _Terminal:
    """A shell at a terminal of 200 columns."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def types(self, text: str, *wanted: str) -> None:
        """Type it, and wait until the terminal shows these, in order."""
        os.write(self._descriptor, text.encode())
        seen = ""
        for part in wanted:
            while part not in seen:
                ready, _, _ = select.select([self._descriptor], [], [], _WAIT_S)
                assert ready, f"typed {text!r}, waited for {part!r}, saw {seen!r}"
                seen = _ESCAPES.sub("", seen + os.read(self._descriptor, 4096).decode(errors="replace"))
            seen = seen.partition(part)[2]


@contextmanager
def _at_a_terminal(*command: str) -> Iterator[_Terminal]:
    ours, theirs = pty.openpty()
    path = f"{pathlib.Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {"PATH": path, "TERM": "dumb", "COLUMNS": "200", "HOME": "/nonexistent", "LC_ALL": "C.UTF-8"}
    shell = subprocess.Popen(
        command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, start_new_session=True, close_fds=True
    )
    leash.hold(shell.pid)
    os.close(theirs)
    try:
        yield _Terminal(ours)
    finally:
        shell.kill()
        shell.wait(30)
        os.close(ours)


@pytest.mark.landing
def test_bash_completes() -> None:
    """Subcommands, their second words, options, arguments, the server's flags."""
    with _at_a_terminal("bash", "--norc", "--noprofile", "-i") as terminal:
        terminal.types("PS1='rea''dy> '; source <(kvraft completion bash)\n", "ready> ")
        _types_and_sees(terminal)


@pytest.mark.landing
def test_zsh_completes() -> None:
    """The same."""
    with _at_a_terminal("zsh", "-f", "-i") as terminal:
        terminal.types("PS1='rea''dy> '; autoload -U compinit; compinit -u -D\n", "ready> ")
        terminal.types("source <(kvraft completion zsh)\n", "ready> ")
        _types_and_sees(terminal)


def _types_and_sees(terminal: _Terminal) -> None:
    """Whatever is completed is carried out, which shows that it was meant."""
    for typed, seen in (
        ("kvraft sta\t--he\t", "Usage: kvraft status"),
        ("kvraft mem\tupd\t--he\t", "Usage: kvraft member update"),
        ("kvraft completion zs\t", "#compdef kvraft"),
        ("kvraft --vers\t", "kvraft Version"),
    ):
        terminal.types(f"{typed}\n", seen, "ready> ")


@pytest.mark.landing
def test_fish_completes() -> None:
    """The same, with a word about each."""
    asked = ("sta", "member upd", "status --wat", "completion z", "--data-d")
    lines = "; ".join(f"complete -C 'kvraft {words}'" for words in asked)
    path = f"{pathlib.Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    ended = subprocess.run(
        ["fish", "--no-config", "-c", f"kvraft completion fish | source; {lines}"],
        env={"PATH": path, "HOME": "/nonexistent", "LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    words = [line.partition("\t")[0] for line in ended.stdout.splitlines()]
    assert words == ["status", "update", "--watch", "zsh", "--data-dir"], ended.stdout
    assert table.SUBCOMMANDS["status"].summary in ended.stdout
