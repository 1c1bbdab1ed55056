"""Power loss without special hardware: a trace of every write and sync, and the disks that could be left of it.

strace records what a writing child does to its data directory. At any moment the disk holds everything that was synced,
and of what was written later any part, sector by sector, in any order. Such images are built and opened.
"""

import random
import re
import shutil
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

CALLS = "openat,lseek,write,pwrite64,writev,pwritev,fdatasync,fsync,ftruncate,fallocate"
SECTOR = 512

_ESCAPED = re.compile(r"<((?:\\x[0-9a-f]{2})+)>")
_LINE = re.compile(r"(\d+) +(.*)")
_CALL = re.compile(r"(\w+)\((\d+)<([^>]*)>(.*)", re.DOTALL)
_OPEN = re.compile(r"openat\(.*O_DSYNC.*\) = (\d+)<([^>]*)>")
_BYTES = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')


def tracing(output: Path) -> list[str]:
    """The strace command in front of the child."""
    return ["strace", "-f", "-qq", "-y", "-xx", "-s", "100000000", "-o", str(output), "-e", f"trace={CALLS}"]


@dataclass
class Event:
    """One call that matters."""

    kind: str
    """"write", "sync", "acknowledged"."""
    path: str = ""
    offset: int = 0
    data: bytes = b""
    covers: int = 0
    """For a sync: writes before this event are durable when it has ended. For a synchronous write: its own event."""
    index: int = 0


def _unescape(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))


@dataclass
class _Reader:
    directory: str
    events: list[Event] = field(default_factory=list)
    positions: dict[tuple[str, str], int] = field(default_factory=lambda: defaultdict(int))
    synchronous: set[tuple[str, str]] = field(default_factory=set)
    begun: dict[str, tuple[str, int]] = field(default_factory=dict)
    """Per thread: the call it is in, and how many events there were when it began."""

    def line(self, thread: str, text: str) -> None:
        if text.endswith("<unfinished ...>"):
            call = text.removesuffix("<unfinished ...>")
            self.begun[thread] = (call, len(self.events))
            self._begin(call)
        elif text.startswith("<..."):
            call, began = self.begun.pop(thread)
            self._end(call + text.partition("resumed>")[2], began)
        else:
            began = len(self.events)
            self._begin(text)
            self._end(text, began)

    def _begin(self, text: str) -> None:
        matched = _CALL.match(text)
        if matched is None:
            return
        name, number, path, rest = matched.groups()
        if number != "1" and not path.startswith(self.directory):
            return
        data = b"".join(_unescape(part) for part in _BYTES.findall(rest))
        if name in {"pwrite64", "pwritev"}:
            offset = int(re.findall(r", (\d+)(?:\)|$| )", rest)[-1])
            self.events.append(Event("write", path, offset, data))
        elif name == "fallocate":
            assert "FALLOC_FL_PUNCH_HOLE" in rest, text
            offset, length = (int(word) for word in re.findall(r", (\d+)", rest)[:2])
            self.events.append(Event("write", path, offset, bytes(length)))
        elif name == "writev":
            self.events.append(Event("write", path, self.positions[number, path], data))
            self.positions[number, path] += len(data)
        elif name == "write" and number == "1":
            word, _, fact = data.decode().partition(" ")
            if word == "entry":
                self.events.append(Event("acknowledged", index=int(fact)))

    def _end(self, text: str, began: int) -> None:
        opened = _OPEN.search(text)
        if opened is not None:
            self.synchronous.add((opened[1], opened[2]))
        matched = _CALL.match(text)
        if matched is None:
            return
        name, number, path, rest = matched.groups()
        if not path.startswith(self.directory):
            return
        if name == "lseek":
            self.positions[number, path] = int(rest.rpartition("= ")[2])
        elif name in {"fdatasync", "fsync"}:
            self.events.append(Event("sync", path, covers=began))
        elif name == "pwrite64" and (number, path) in self.synchronous:
            self.events.append(Event("sync", path, covers=-1, index=began))


def read_trace(output: Path, directory: Path) -> list[Event]:
    """What happened in a directory, in order, and what was reported meanwhile."""
    reader = _Reader(str(directory))
    for escaped in output.read_text().splitlines():
        line = _ESCAPED.sub(lambda path: f"<{_unescape(path[1]).decode()}>", escaped)
        matched = _LINE.match(line)
        assert matched is not None, line
        reader.line(matched[1], matched[2])
    return reader.events


def images(
    before: Path, events: list[Event], path: Path, seed: int, *, syncs_work: bool = True
) -> Iterator[tuple[int, int]]:
    """Build one possible disk after another in `path`, each from the directory `before`.

    Yields:
        (moment of the power loss as a number of events, highest index acknowledged by then).
    """
    chosen = random.Random(seed)
    while True:
        moment = chosen.randint(1, len(events))
        past = events[:moment]
        durable: set[int] = set()
        for event in past:
            if event.kind != "sync" or not syncs_work:
                continue
            if event.covers == -1:
                durable.add(event.index)
            else:
                durable |= {at for at in range(event.covers) if past[at].path == event.path}
        shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(before, path)
        luck = chosen.choice([0.0, 0.5, 0.9, 1.0])
        for at, event in enumerate(past):
            target = path / Path(event.path).relative_to(before) if event.kind == "write" else path
            if event.kind == "write":
                with target.open("r+b") as file:
                    for begin in range(0, len(event.data), SECTOR):
                        if at in durable or chosen.random() < luck:
                            file.seek(event.offset + begin)
                            file.write(event.data[begin : begin + SECTOR])
        yield moment, max((event.index for event in past if event.kind == "acknowledged"), default=0)
