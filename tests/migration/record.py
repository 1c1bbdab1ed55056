"""Record an import in a terminal: `python -m tests.migration.record docs/import.svg`.

A real run against real servers; hosts are named as in docs/operations.md.
"""

import asyncio
import os
import pty
import re
import signal
import struct
import sys
import tempfile
import termios
from fcntl import ioctl
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.text import Text

from kvraft.testing.cluster import Cluster, Program
from tests.commands.recording import drawn
from tests.migration.importing import fill, put, tree, writing

KEYS: Final = 5000
COLUMNS: Final = 110
_CONTROL: Final = re.compile(r"\x1b\[(\??[\d;]*)([A-Za-z])")


class Screen:
    """What a terminal shows of what rich writes: lines that are erased and written again."""

    def __init__(self) -> None:
        self.lines = [""]
        self._row = 0

    def feed(self, text: str) -> None:
        at = 0
        while at < len(text):
            match = _CONTROL.match(text, at)
            if match:
                at = match.end()
                if match[2] == "m":
                    self.lines[self._row] += match[0]
                elif match[2] == "K":
                    self.lines[self._row] = ""
                elif match[2] == "A":
                    self._row = max(0, self._row - int(match[1] or 1))
                continue
            if text[at] == "\n":
                self._row += 1
                if self._row == len(self.lines):
                    self.lines.append("")
            elif text[at] != "\r":
                self.lines[self._row] += text[at]
            at += 1

    def shown(self) -> list[str]:
        return [line for line in self.lines if line.strip()]


async def record(directory: Path) -> list[str]:
    """Copy, follow for a moment, switch: what stood on the screen at three moments, each line once."""
    etcd = Program("etcd", {"log-level": "error"})
    with Cluster(directory / "etcd", size=1, program=etcd) as old, Cluster(directory / "kvraft", size=3) as new:
        source = old.members[0]
        await fill(source.client_url, KEYS)
        put(source, "/_hidden/k")
        typed = "kvraft import --from http://10.0.0.9:2379 --to http://10.0.0.1:2379 --hidden /_hidden"
        arguments = typed.replace("http://10.0.0.9:2379", source.client_url)
        arguments = arguments.replace("http://10.0.0.1:2379", ",".join(new.client_urls))
        screen = Screen()
        copying: list[str] = []
        pid, terminal = pty.fork()
        if pid == 0:
            os.environ |= {"TERM": "xterm-256color", "COLUMNS": str(COLUMNS), "COLORTERM": "truecolor"}
            os.chdir(directory)
            os.execv(sys.executable, [sys.executable, "-m", *arguments.split()])
        ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 30, COLUMNS, 0, 0))
        async with writing(source.client_url, 2, seed=1) as writers:
            before = 0
            while not before or writers.acknowledged < before + 200:
                screen.feed((await asyncio.to_thread(os.read, terminal, 1 << 16)).decode())
                now = screen.shown()
                if any(line.count("copying") and _share(line) > 0.5 for line in now) and not copying:
                    copying = list(now)
                if any("following" in line for line in now) and not before:
                    before = writers.acknowledged
            await writers.stop()
        following = list(screen.shown())
        os.kill(pid, signal.SIGINT)
        while chunk := await asyncio.to_thread(_read, terminal):
            screen.feed(chunk.decode())
        _, status = await asyncio.to_thread(os.waitpid, pid, 0)
        assert os.waitstatus_to_exitcode(status) == 0, screen.lines
        assert tree(new.members[0]) == tree(source)
    return [f"\x1b[1m$ {typed}\x1b[0m", *dict.fromkeys([*copying, *following, *screen.shown()])]


def write(path: Path, lines: list[str]) -> None:
    """The lines as a picture of a terminal."""
    with Path(os.devnull).open("w") as nowhere:
        console = Console(record=True, width=COLUMNS, file=nowhere, force_terminal=True)
        for line in lines:
            console.print(Text.from_ansi(line))
        path.write_text(drawn(console, "kvraft import", "kvraft-import"))


def _share(line: str) -> float:
    match = re.search(r"(\d+)/(\d+)", re.sub(_CONTROL, "", line).replace(",", ""))
    return int(match[1]) / max(1, int(match[2])) if match else 0.0


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 1 << 16)
    except OSError:
        # Linux says so when the other side is closed.
        return b""


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(dir=Path(__file__).parents[2] / "build") as made:
        write(Path(sys.argv[1]), asyncio.run(record(Path(made))))
