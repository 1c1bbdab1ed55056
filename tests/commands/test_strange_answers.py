"""A hostile or foreign server: whatever the shape of its answers, a subcommand ends with one line, and by itself."""

import asyncio
import contextlib
import copy
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from kvraft.commands.codes import Exit
from tests.api_v2.conftest import Served
from tests.commands.conftest import Background, Run, hide

ODD: Final[tuple[Any, ...]] = (None, True, -1, 1 << 70, 1.5, "x", "", [], {}, [[]], [None], {"nodes": 1}, [{"key": 3}])
PAGES: Final[dict[str, Any]] = {
    "/v2/keys/": {
        "action": "get",
        "node": {
            "dir": True,
            "nodes": [{"key": "/a", "value": "v", "ttl": 9, "expiration": "x", "createdIndex": 1, "modifiedIndex": 1}],
        },
    },
    "/v2/auth/enable": {"enabled": False},
    "/v2/auth/roles": {"roles": [{"role": "r", "permissions": {"kv": {"read": ["/a"], "write": []}}}]},
    "/v2/auth/users": {"users": [{"user": "u", "roles": [{"role": "r"}]}]},
    "/v2/members": {"members": [{"id": "1", "name": "one", "peerURLs": ["http://h:1"], "clientURLs": ["http://h:2"]}]},
    "/v2/members/leader": {"id": "1", "name": "one"},
    "/v2/kvraft/status": {
        "id": "1",
        "clusterId": "c",
        "leader": "1",
        "role": "leader",
        "version": "1",
        "commitIndex": 9,
        "appliedIndex": 9,
        "diskFreeBytes": 5,
        "alarms": ["NOSPACE"],
        "followers": [{"id": "2", "matchIndex": 3}],
        "certificates": [{"listener": "client", "endsAt": "2027-01-31T12:00:00Z"}],
    },
}


def _places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield at
    below = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, each in below:
        yield from _places(each, (*at, name))


def _changed(page: Any, at: tuple[Any, ...], odd: Any) -> Any:
    """The page with something odd in a place; `...`: without it."""
    if not at:
        return odd
    changed = copy.deepcopy(page)
    holder = changed
    for name in at[:-1]:
        holder = holder[name]
    if odd is ...:
        del holder[at[-1]]
    else:
        holder[at[-1]] = odd
    return changed


@contextlib.contextmanager
def _server(background: Background, pages: dict[str, bytes]) -> Iterator[str]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer), contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                path = (await reader.readuntil(b"\r\n\r\n")).split(b" ")[1].decode().partition("?")[0]
                status, body = (b"200 OK", pages[path]) if path in pages else (b"404 Not Found", b"{}")
                writer.write(b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body))

    server = background.do(asyncio.start_server(serve, "127.0.0.1", 0))
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    background.loop.call_soon_threadsafe(server.close)


def _commands(url: str, target: str, directory: Path) -> list[tuple[str, ...]]:
    return [
        ("status", f"--endpoints={url}"),
        ("member", "list", f"--endpoints={url}"),
        ("export", f"--endpoints={url}", str(directory / "tree")),
        ("import", f"--from={url}", f"--to={target}", "--once", "--overwrite", f"--state={directory / 'state'}"),
    ]


@pytest.mark.parametrize("path", PAGES)
def test_answers_of_any_shape_are_one_line(
    run: Run, served: Served, background: Background, tmp_path: Path, path: str
) -> None:
    """Each value of a page in turn is something else, or is missing; a traceback would be raised here."""
    hide(served, tmp_path)
    rng = random.Random(path)
    pages = {each: json.dumps(page).encode() for each, page in PAGES.items()}
    with _server(background, pages) as url:
        kinds = (2, 3) if "keys" in path or "auth" in path else (0, 1)
        for at in _places(PAGES[path]):
            pages[path] = json.dumps(_changed(PAGES[path], at, rng.choice([*ODD, ...] if at else ODD))).encode()
            words = _commands(url, served.url, tmp_path)[rng.choice(kinds)]
            ran = run(*words)
            told = [line for line in ran.stderr.splitlines() if not line.startswith(("note: ", "reading", "co", "rep"))]
            assert ran.exit_code in {Exit.DONE, Exit.NO_SERVER, Exit.REFUSED, Exit.NOT_WELL}, (pages[path], ran)
            assert len(told) == (ran.exit_code in {Exit.NO_SERVER, Exit.REFUSED}), (pages[path], ran)
            (tmp_path / "state").unlink(missing_ok=True)


@pytest.mark.parametrize("body", [b"[" * 100_000, b"1" * 5000, b"\xff", b"", b'{"node":' * 2000], ids=range(5))
def test_what_python_cannot_read_is_one_line(
    run: Run, served: Served, background: Background, tmp_path: Path, body: bytes
) -> None:
    """Nesting, huge numbers, bytes that are no text."""
    hide(served, tmp_path)
    with _server(background, dict.fromkeys(PAGES, body)) as url:
        for words in _commands(url, served.url, tmp_path):
            ran = run(*words)
            assert (ran.exit_code, ran.stdout) == (Exit.NO_SERVER, ""), (words, ran)
            assert ran.stderr.splitlines()[-1].startswith("kvraft: ")
