"""Makes docs/kvraft-status.svg: a terminal in which somebody looks at a cluster, kills a member, and looks again.

`tools/record` runs it. What is shown is what the commands print to a terminal of their own, on a cluster of real
processes.
"""

import os
import pathlib
import pty
import re
import subprocess
import sys
import tempfile
from typing import Final

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.text import Text

from kvraft.testing.cluster import Cluster

COLUMNS: Final = 150
PICTURE: Final = pathlib.Path(__file__).parents[2] / "docs" / "kvraft-status.svg"


def shown_at_a_terminal(command: str, endpoints: str, columns: int) -> str:
    """What a command prints where it may use colours."""
    ours, theirs = pty.openpty()
    environment = os.environ | {
        "TERM": "xterm-256color",
        "COLUMNS": str(columns),
        "ETCDCTL_ENDPOINTS": endpoints,
    }
    words = [sys.executable, "-m", *command.split()]
    with subprocess.Popen(words, stdout=theirs, stderr=theirs, env=environment, stdin=subprocess.DEVNULL) as ran:
        os.close(theirs)
        text = b""
        while True:
            try:
                piece = os.read(ours, 4096)
            except OSError:  # how the end of a pseudo terminal is told
                break
            text += piece
        ran.wait(60)
    os.close(ours)
    return text.decode().replace("\r\n", "\n")


def drawn(console: Console, title: str, unique_id: str) -> str:
    """What the console recorded as a picture of a terminal that needs nothing from elsewhere, fonts included."""
    form = re.sub(r"@font-face \{\{.*?\}\}\s*", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)
    picture = console.export_svg(title=title, code_format=form, unique_id=unique_id)
    return "\n".join(line.rstrip() for line in picture.splitlines()) + "\n"


def main() -> None:
    """Record, and write the picture."""
    os.environ.pop("NO_COLOR", None)
    with pathlib.Path(os.devnull).open("w", encoding="utf-8") as nowhere, tempfile.TemporaryDirectory() as directory:
        console = Console(record=True, width=COLUMNS, file=nowhere, force_terminal=True, legacy_windows=False)

        def types(command: str) -> None:
            console.print(Text("$ ", style="bold") + Text(command))
            console.print(Text.from_ansi(shown_at_a_terminal(command, endpoints, COLUMNS)))

        with Cluster(pathlib.Path(directory) / "cluster") as cluster:
            endpoints = ",".join(member.client_url for member in cluster.members)
            types("kvraft status")
            follower = next(member for member in cluster.members if member is not cluster.leader())
            console.print(Text("$ ", style="bold") + Text(f"kill -9 {follower.pid}"))
            follower.kill()
            types("kvraft status")
            types("kvraft member add n4 http://10.0.0.4:2380")
            types("kvraft member list")
        PICTURE.write_text(drawn(console, "kvraft status", "kvraft"))


if __name__ == "__main__":
    main()
