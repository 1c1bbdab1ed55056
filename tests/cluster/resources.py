"""What a running member takes of its machine, as the kernel tells it."""

import dataclasses
import pathlib
import re
from typing import Final, final

from kvraft.testing.cluster import Member

_BLOCK_BYTES: Final = 512
MIB: Final = 1 << 20


@final
@dataclasses.dataclass(slots=True, frozen=True)
class Resources:
    """At one moment."""

    resident_bytes: int
    """All of its memory, what it shows of files included."""
    anonymous_bytes: int
    """Memory that is no file's."""
    descriptors: int
    threads: int
    disk_bytes: int
    """Blocks of its data directory, without the holes of files."""


def resources(member: Member) -> Resources:
    """Of a member that runs."""
    process = pathlib.Path(f"/proc/{member.pid}")
    status = (process / "status").read_text()

    def number(name: str) -> int:
        found = re.search(rf"^{name}:\s+(\d+)", status, re.MULTILINE)
        assert found is not None, f"no {name} in {process}/status"
        return int(found[1])

    return Resources(
        number("VmRSS") * 1024,
        number("RssAnon") * 1024,
        len(list((process / "fd").iterdir())),
        number("Threads"),
        disk_bytes(member.data_dir),
    )


def disk_bytes(directory: pathlib.Path) -> int:
    """Blocks of all files below a directory; a file that goes away meanwhile counts nothing."""
    total = 0
    for path in directory.rglob("*"):
        try:
            total += path.stat().st_blocks * _BLOCK_BYTES
        except FileNotFoundError:
            continue
    return total
