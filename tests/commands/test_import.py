"""`kvraft import` and `kvraft export` against an API in this process: what moves, what is told, what is refused."""

import asyncio
import errno
import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock
from urllib.parse import quote

import pytest

from kvraft.api_v2.settings import ApiSettings
from kvraft.client import Client, EventIndexCleared
from kvraft.commands import export
from kvraft.commands.exits import Exit
from kvraft.migration import state_file
from kvraft.migration.moving import Import, Options, cluster_name
from kvraft.migration.writing import Patience
from kvraft.records import BackupRefused
from kvraft.testing import raw_http
from tests.api_v2.conftest import Served, start
from tests.commands.conftest import WAIT_S, Background, Run, hide
from tests.migration.etcd_files import Wal, request

_JSON = [("Content-Type", "application/json")]


@pytest.fixture
def other(background: Background) -> Iterator[Served]:
    """A second API, to move to."""
    running: Served = background.do(start(ApiSettings(stop_s=5.0)))
    yield running
    background.do(running.server.stop())


@pytest.fixture
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For backups."""
    return tmp_path_factory.mktemp("member")


@pytest.fixture(autouse=True)
def hidden_names(served: Served, other: Served, directory: Path) -> None:
    """What each side hides, unless a test says otherwise."""
    hide(served, directory, b"/_hidden/k")
    hide(other, directory)


@pytest.fixture
def state(tmp_path: Path) -> str:
    """`--state`, so that nothing is left where the tests are run."""
    return f"--state={tmp_path / 'state'}"


def _put(served: Served, key: str, value: bytes | None = b"v", **form: str) -> None:
    fields: dict[str, str | bytes] = {"dir": "true"} if value is None else {"value": value}
    answer = raw_http.exchange(served.url, "PUT", f"/v2/keys{quote(key)}", form=fields | form)
    assert answer.status == 201, answer


def _tree(served: Served, *hidden: str) -> dict[str, tuple[object, ...]]:
    """Each key with its value and whether it expires."""
    found: dict[str, tuple[object, ...]] = {}
    for top in ("/", *hidden):
        stack: list[dict[str, Any]] = [
            raw_http.exchange(served.url, "GET", f"/v2/keys{top}?recursive=true").json().get("node", {})
        ]
        while stack:
            node = stack.pop()
            stack += node.get("nodes", [])
            if "key" in node:
                found[node["key"]] = (node.get("value"), "expiration" in node)
    return found


def _fill(served: Served) -> None:
    _put(served, "/plain")
    _put(served, '/ü "q"\n', b'two\nlines "q" <&>\t')
    _put(served, "/empty", None)
    _put(served, "/d" * 100, b"deep")
    _put(served, "/large", b"x" * (1 << 20))
    _put(served, "/ttl", b"t", ttl="1000")
    _put(served, "/leases", None, ttl="1000")
    _put(served, "/leases/one")
    _put(served, "/_hidden/k", b"h")


def test_an_exported_tree_is_imported(run: Run, served: Served, other: Served, tmp_path: Path, state: str) -> None:
    """Odd keys, large values, deep ones, TTLs, what is hidden; and the exit code says that all is there."""
    _fill(served)
    file = str(tmp_path / "tree.jsonl")
    ran = run("export", "--endpoints", served.url, file)
    assert (ran.exit_code, ran.stderr) == (Exit.DONE, "")
    assert ran.stdout.startswith(f"{file}: 109 keys at index ")
    ran = run("import", file, "--to", other.url, state)
    assert (ran.exit_code, ran.stdout) == (Exit.DONE, "109 keys, no difference\n"), ran.stderr
    assert _tree(other, "/_hidden") == _tree(served, "/_hidden")
    assert len(_tree(other, "/_hidden")) == 109


def test_a_running_source_is_copied_once(run: Run, served: Served, other: Served, state: str) -> None:
    """With what is hidden, which nobody names."""
    _fill(served)
    ran = run("import", "--from", served.url, "--to", other.url, "--once", "--json", state)
    assert ran.exit_code == Exit.DONE, ran.stderr
    assert json.loads(ran.stdout) == {"keys": 109, "repaired": 0, "differences": [], "notes": []}
    assert _tree(other, "/_hidden") == _tree(served, "/_hidden")
    assert "/_hidden/k" in _tree(other, "/_hidden")


@pytest.mark.parametrize("is_named", [True, False])
def test_a_hidden_key_that_is_not_utf_8_hinders_nothing(
    run: Run, served: Served, other: Served, directory: Path, state: str, is_named: bool
) -> None:
    """Of a restored kvraft, whose backup tells it, or of the command line; no API answers under its name."""
    _put(served, "/k")
    hide(served, directory, *([] if is_named else [b"/_\xff/k"]))
    named = [f"--hidden={os.fsdecode(b'/_' + bytes([255]))}"] if is_named else []
    ran = run("import", "--from", served.url, "--to", other.url, "--once", state, *named)
    assert (ran.exit_code, ran.stdout) == (Exit.DONE, "1 keys, no difference\n"), ran.stderr


@pytest.mark.parametrize("way", ["export", "cluster", "backup"])
def test_a_hidden_key_in_a_hidden_directory_comes_with_it_and_nothing_else(
    run: Run, served: Served, other: Served, directory: Path, tmp_path: Path, state: str, way: str
) -> None:
    """Of an etcd, which does not tell what it hides; the target's own backup shows the directory."""
    served.backend.backups.outcome = BackupRefused("no room: ask another member", is_room=True)
    for key in ("/_a/b/c", "/_a/other", "/vis"):
        _put(served, key)
    file = str(tmp_path / "file")
    named = ("--hidden=/_a/b", "--patience=0.01")
    if way == "backup":
        ran = run("import", "--from", served.url, *named, "--to-backup", file)
        assert ": 4 keys at index" in ran.stdout, ran.stderr
        return
    if way == "export":
        run("export", "--endpoints", served.url, "--hidden=/_a/b", file)
        hide(other, directory, b"/_a/b/c")
        ran = run("import", file, "--to", other.url, state, "--overwrite")
        assert (ran.exit_code, ran.stdout) == (Exit.DONE, "4 keys, no difference\n")
    else:
        hide(other, directory, b"/_a/b/c")
        for overwrite in ((), ("--overwrite",)):
            ran = run("import", "--from", served.url, *named, "--to", other.url, "--once", state, *overwrite)
            assert "4 keys, 1 differences" in ran.stdout, ran.stdout  # that what is hidden is not known
    assert _tree(other, "/_a") == {path: facts for path, facts in _tree(served, "/_a").items() if path != "/_a/other"}


def test_what_nobody_named_beside_a_hidden_key_stays_in_the_target(
    run: Run, served: Served, other: Served, directory: Path, state: str
) -> None:
    """The source has lost the key that is named, and its directory."""
    _put(other, "/_a/b/c")
    _put(other, "/_a/other")
    hide(other, directory, b"/_a/b/c", b"/_a/other")
    served.backend.backups.outcome = BackupRefused("no room: ask another member", is_room=True)
    arguments = (
        "import",
        "--from",
        served.url,
        "--hidden=/_a/b",
        "--patience=0.01",
        "--to",
        other.url,
        "--once",
        state,
    )
    ran = run(*arguments)
    assert "the target holds 4 keys already" in ran.stderr
    ran = run(*arguments, "--overwrite")
    assert "0 keys, 1 differences" in ran.stdout
    assert list(_tree(other, "/_a")) == ["/_a", "/_a/other"]


def test_hidden_keys_that_cannot_be_known_are_a_difference(run: Run, served: Served, other: Served, state: str) -> None:
    """Everything else is copied, and the exit code says that something may be missing."""
    _put(served, "/k")
    served.backend.backups.outcome = BackupRefused("no room: ask another member", is_room=True)
    arguments = ("import", "--from", served.url, "--to", other.url, "--once", "--patience=0.01", state)
    ran = run(*arguments)
    assert ran.exit_code == Exit.NOT_WELL
    assert "hidden keys that are not named (--hidden) are not known: no room: ask another member" in ran.stdout
    assert _tree(other) == _tree(served)


@pytest.mark.parametrize("source", ["cluster", "file"])
def test_hidden_keys_that_only_the_target_has_are_found(
    run: Run, served: Served, other: Served, directory: Path, state: str, source: str
) -> None:
    """It is not empty with them, and they go when it is made like the source."""
    _put(served, "/k")
    _put(other, "/_a/k")
    hide(other, directory, b"/_a/k")
    file = str(directory / "tree.jsonl")
    assert run("export", "--endpoints", served.url, file).exit_code == Exit.DONE
    of = ("--from", served.url, "--once") if source == "cluster" else (file,)
    ran = run("import", *of, "--to", other.url, state)
    assert ran.exit_code == Exit.REFUSED, ran.stdout
    assert "the target holds 2 keys already" in ran.stderr
    ran = run("import", *of, "--to", other.url, state, "--overwrite")
    assert (ran.exit_code, ran.stdout) == (Exit.DONE, "1 keys, no difference\n")
    assert _tree(other, "/_a") == _tree(served)


async def _killed(source: Served, target: Served, file: Path, indices: dict[bytes, int]) -> None:
    """Leave the state of an import that was."""
    names = []
    for side in (source, target):
        async with Client([side.url]) as client:
            names.append(await cluster_name(client, Patience(1, print)))
    state_file.save(file, state_file.Progress(names[0], names[1], indices))


def test_hidden_keys_of_an_import_that_was_killed_go_if_the_source_has_lost_them(
    run: Run, served: Served, other: Served, directory: Path, tmp_path: Path, state: str
) -> None:
    """Killed while it copied: no state has their names."""
    _put(served, "/k")
    _put(other, "/_a/k")
    hide(other, directory, b"/_a/k")
    asyncio.run(_killed(served, other, tmp_path / "state", {}))
    ran = run("import", "--from", served.url, "--to", other.url, state, "--once")
    assert (ran.exit_code, ran.stdout) == (Exit.DONE, "1 keys, no difference\n")
    assert _tree(other, "/_a") == _tree(served)


async def test_hidden_keys_that_were_followed_go_though_the_source_has_forgotten_their_end(
    monkeypatch: pytest.MonkeyPatch, served: Served, other: Served, tmp_path: Path
) -> None:
    """The name is in the state alone: neither side tells it, as no etcd does."""
    _put(served, "/k")
    _put(other, "/_a/k")
    stop = asyncio.Event()

    async def cleared(*_: object) -> None:
        stop.set()
        raise EventIndexCleared(400, 401, "The event in requested index is outdated and cleared", "", 9)

    monkeypatch.setattr(Import, "_follow", cleared)
    await _killed(served, other, tmp_path / "state", {b"/": 1, b"/_a": 1})
    async with Client([served.url]) as source, Client([other.url]) as target:
        moving = Import(target, Options(state=tmp_path / "state"), Mock())
        outcome = await moving.of_cluster(source, stop)
    assert outcome.left == []
    assert _tree(other, "/_a") == _tree(served)


def test_what_a_target_hides_and_nobody_can_know_is_a_difference(
    run: Run, served: Served, other: Served, state: str
) -> None:
    """The trees are not said to be equal."""
    other.backend.backups.outcome = BackupRefused("no room: ask another member", is_room=True)
    ran = run("import", "--from", served.url, "--to", other.url, "--once", "--patience=0.01", state)
    assert ran.exit_code == Exit.NOT_WELL
    assert "in the target, hidden keys that are not named (--hidden) are not known: no room" in ran.stdout


def test_a_backup_of_a_running_kvraft_has_what_is_hidden(run: Run, served: Served, tmp_path: Path) -> None:
    """Which nobody names; where it cannot be known, the exit code says so."""
    _put(served, "/_hidden/k")
    arguments = ("import", "--from", served.url, "--to-backup", str(tmp_path / "backup"), "--patience=0.01")
    ran = run(*arguments)
    assert (ran.exit_code, ran.stderr) == (Exit.DONE, "")
    assert ": 2 keys at index" in ran.stdout
    served.backend.backups.outcome = BackupRefused("no room: ask another member", is_room=True)
    ran = run(*arguments)
    assert ran.exit_code == Exit.NOT_WELL
    assert "note: hidden keys that are not named (--hidden) are not known: no room" in ran.stderr


def test_users_that_cannot_be_read_are_a_difference(run: Run, served: Served, other: Served, state: str) -> None:
    """Guests may read the keys: nothing else would tell that users and roles are left behind."""
    for path, body in (("users/root", b'{"user":"root","password":"p"}'), ("enable", None)):
        answer = raw_http.exchange(served.url, "PUT", f"/v2/auth/{path}", body=body, headers=_JSON)
        assert answer.status in {200, 201}
    ran = run("import", "--from", served.url, "--to", other.url, "--once", "--json", state)
    assert ran.exit_code == Exit.NOT_WELL
    found = {each["key"]: each["difference"] for each in json.loads(ran.stdout)["differences"]}
    assert found["users and roles"].startswith("not compared: in the source, users and roles cannot be read")


def test_users_and_roles_that_differ_are_differences(run: Run, served: Served, other: Served, state: str) -> None:
    """Of those that were there before, too: an import removes none."""
    for side, names in ((served, ("a", "b")), (other, ("b", "c"))):
        for name in names:
            body = json.dumps({"role": name, "permissions": {"kv": {"read": ["/*"], "write": []}}}).encode()
            raw_http.exchange(side.url, "PUT", f"/v2/auth/roles/{name}", body=body, headers=_JSON)
    ran = run("import", "--from", served.url, "--to", other.url, "--once", "--json", state)
    assert ran.exit_code == Exit.NOT_WELL
    assert json.loads(ran.stdout)["differences"] == [{"key": "role c", "difference": "extra"}]


@pytest.mark.parametrize("to_stdout", [True, False])
def test_an_export_that_may_lack_hidden_keys_is_no_success(
    run: Run, served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, to_stdout: bool
) -> None:
    """Everything else is written, with those that are named."""
    monkeypatch.setattr(export, "PATIENCE_S", 0.01)
    _put(served, "/k")
    _put(served, "/_named/k")
    served.backend.backups.outcome = BackupRefused("no room: ask another member", is_room=True)
    file = tmp_path / "tree"
    ran = run("export", "--endpoints", served.url, "--hidden=/_named", "-" if to_stdout else str(file))
    assert ran.exit_code == Exit.NOT_WELL
    assert "note: hidden keys that are not named (--hidden) are not known: no room: ask another member" in ran.stderr
    lines = [json.loads(line) for line in (ran.stdout if to_stdout else file.read_text()).splitlines()]
    assert [line["key"] for line in lines[1:-1]] == ["/k", "/_named", "/_named/k"]


def test_export_tells_its_figures_as_json(run: Run, served: Served, tmp_path: Path) -> None:
    """Of a file; on stdout are the lines themselves."""
    _put(served, "/k")
    file = str(tmp_path / "tree")
    ran = run("export", "--endpoints", served.url, "--json", file)
    assert ran.exit_code == Exit.DONE
    told = json.loads(ran.stdout)
    assert (told["file"], told["keys"]) == (file, 1)


def test_export_writes_to_stdout(run: Run, served: Served) -> None:
    """For a pipe."""
    _put(served, "/k")
    lines = [json.loads(line) for line in run("export", "--endpoints", served.url).stdout.splitlines()]
    assert [line.get("key") for line in lines] == [None, "/k", None]
    assert lines[-1] == {"end": True, "lines": 2}


def test_a_target_that_holds_keys_is_refused_unless_told(run: Run, served: Served, other: Served, state: str) -> None:
    """And then what the source has not goes, kinds change, and values are those of the source."""
    _put(served, "/same")
    _put(served, "/file", b"f")
    _put(served, "/dir/k")
    _put(other, "/same")
    _put(other, "/extra/k")
    _put(other, "/file/was/dir")
    _put(other, "/dir", b"was a file")
    arguments = ("import", "--from", served.url, "--to", other.url, "--once", state)
    before = _tree(other)
    ran = run(*arguments)
    assert (ran.exit_code, ran.stdout) == (Exit.REFUSED, "")
    assert "the target holds 7 keys already; name an empty cluster, or give --overwrite" in ran.stderr
    assert _tree(other) == before
    assert run(*arguments, "--overwrite").exit_code == Exit.DONE
    assert _tree(other) == _tree(served)


def test_a_dead_etcds_directory_is_imported(run: Run, other: Served, tmp_path: Path, state: str) -> None:
    """What it hid too, and what the target will not take is told, and is a difference."""
    wal = Wal()
    wal.cut(0)
    for index, data in enumerate(
        (
            request("PUT", "/1/a/k", "1"),
            request("PUT", "/1/_hidden/_below/k", "2"),
            request("PUT", b"/1/\xff", "3"),
            request("PUT", "/1/expired", "4", expiration=1_500_000_000 * 10**9),
            request("PUT", "/1/lives", "5", expiration=4_000_000_000 * 10**9),
        ),
        1,
    ):
        wal.entry(index, data)
    wal.state(5)
    wal.write(tmp_path / "member" / "wal")
    ran = run("import", "--from-data-dir", str(tmp_path), "--to", other.url, "--json", state)
    told = json.loads(ran.stdout)
    assert ran.exit_code == Exit.NOT_WELL
    assert [(each["key"], each["difference"].partition(":")[0]) for each in told["differences"]] == [
        ("/\\xff", "refused")
    ]
    assert told["notes"] == ["1 keys have expired by now, and are left"]
    assert _tree(other, "/_hidden", "/_hidden/_below") == {
        "/a": (None, False),
        "/a/k": ("1", False),
        "/_hidden": (None, False),
        "/_hidden/_below": (None, False),
        "/_hidden/_below/k": ("2", False),
        "/lives": ("5", True),
    }


@pytest.mark.landing
def test_users_and_roles_come_along(run: Run, served: Served, other: Served, tmp_path: Path, state: str) -> None:
    """Users whose passwords are given; the others are named, and so is auth that is to be turned on."""

    def auth(method: str, path: str, body: object = None, user: str = "") -> raw_http.Answer:
        headers = [*_JSON, *([("Authorization", user)] if user else [])]
        return raw_http.exchange(
            served.url, method, f"/v2/auth/{path}", body=json.dumps(body).encode() if body else None, headers=headers
        )

    auth("PUT", "roles/r", {"role": "r", "permissions": {"kv": {"read": ["/a/*"], "write": ["/b"]}}})
    auth("PUT", "users/root", {"user": "root", "password": "secret"})
    auth("PUT", "users/u", {"user": "u", "password": "word", "roles": ["r"]})
    auth("PUT", "users/w", {"user": "w", "password": "other"})
    assert auth("PUT", "enable").status == 200
    passwords = tmp_path / "passwords"
    passwords.write_text("root:secret\n\nu:wo:rd\n")
    arguments = ("import", "--from", served.url, "--to", other.url, "--once", state, f"--passwords={passwords}")
    ran = run(*arguments, "--from-user", "root:secret", "--json")
    assert ran.exit_code == Exit.NOT_WELL, ran.stderr
    assert {"key": "user w", "difference": "missing"} in json.loads(ran.stdout)["differences"]
    assert json.loads(ran.stdout)["notes"] == [
        "not made for want of their passwords: w; --passwords FILE has lines of NAME:PASSWORD",
        "auth is on in the source and off in the target: once its users are right, `etcdctl auth enable`",
    ]
    users = raw_http.exchange(other.url, "GET", "/v2/auth/users").json()["users"]
    assert [(user["user"], [role["role"] for role in user["roles"]]) for user in users] == [
        ("root", ["root"]),
        ("u", ["r"]),
    ]
    kv = raw_http.exchange(other.url, "GET", "/v2/auth/roles/r").json()["permissions"]["kv"]
    assert kv == {"read": ["/a/*"], "write": ["/b"]}


def test_a_source_that_wants_a_user_is_told_of(run: Run, served: Served, other: Served, state: str) -> None:
    """With the exit code of etcdctl."""
    for path, body in (("users/root", b'{"user":"root","password":"p"}'), ("enable", None), ("roles/guest", None)):
        method = "DELETE" if path == "roles/guest" else "PUT"
        headers = [*_JSON, ("Authorization", "Basic cm9vdDpw")]
        assert raw_http.exchange(served.url, method, f"/v2/auth/{path}", body=body, headers=headers).status in {
            200,
            201,
        }
    ran = run("import", "--from", served.url, "--to", other.url, "--once", state)
    assert ran.exit_code == Exit.NOT_ALLOWED
    assert "user" in ran.stderr


@pytest.mark.parametrize(
    ("arguments", "said", "exit_code"),
    [
        ((), "give one source: --from, --from-data-dir or FILE", Exit.WRONG_ARGUMENTS),
        (("--from", "http://h:1", "f"), "give one source", Exit.WRONG_ARGUMENTS),
        (("--from", "nonsense://x"), "no endpoint", Exit.WRONG_ARGUMENTS),
        (("missing.jsonl",), "missing.jsonl: No such file or directory", Exit.WRONG_ARGUMENTS),
        (("--from-data-dir", "missing"), "missing: no such directory", Exit.WRONG_ARGUMENTS),
        (("--from", "http://h:1", "--hidden", "/"), "name a key, such as", Exit.WRONG_ARGUMENTS),
        (
            ("--from", "http://h:1", "--passwords", "missing"),
            "--passwords=missing: cannot be read",
            Exit.WRONG_ARGUMENTS,
        ),
    ],
)
def test_wrong_arguments_are_one_line(
    run: Run, arguments: tuple[str, ...], said: str, exit_code: Exit, state: str
) -> None:
    """That says what to do; nobody is asked."""
    ran = run("import", *arguments, state)
    assert (ran.exit_code, ran.stdout) == (exit_code, "")
    assert said in ran.stderr
    assert ran.stderr.count("\n") == 1


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.parametrize("way", ["import", "backup", "export"])
async def test_a_signal_ends_it_with_its_exit_code(
    tmp_path: Path, way: str, number: signal.Signals, exit_code: int
) -> None:
    """In a line at most, while the source does not answer."""
    is_asked = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        is_asked.set()
        await reader.read()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        source = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        words = {
            "import": ["import", "--from", source, "--to", "http://127.0.0.1:1", f"--state={tmp_path / 'state'}"],
            "backup": ["import", "--from", source, "--to-backup", str(tmp_path / "backup")],
            "export": ["export", "--endpoints", source],
        }[way]
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(sys.executable, "-m", "kvraft", *words, stdout=pipe, stderr=pipe)
        async with asyncio.timeout(WAIT_S):
            await is_asked.wait()
            process.send_signal(number)
            out, told = await process.communicate()
    assert (process.returncode, out) == (exit_code, b"")
    end = "terminated" if number == signal.SIGTERM else "interrupted"
    expected = {"import": f"kvraft: {end}: the same command goes on where it was\n"}.get(
        way, "kvraft: interrupted\n" if number == signal.SIGINT else ""
    )
    assert told.decode() == expected


def test_one_cluster_is_not_both_source_and_target(run: Run, served: Served, state: str) -> None:
    """Followed, every change would be a change to copy."""
    _put(served, "/k")
    ran = run("import", "--from", served.url, "--to", served.url, "--once", "--overwrite", state)
    assert ran.exit_code == Exit.WRONG_ARGUMENTS
    assert f"source and target are both {served.url}" in ran.stderr


def test_an_export_that_finds_no_room_leaves_nothing(
    run: Run, served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A part of it would take room, and hold hashes."""

    def fill(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fill)
    ran = run("export", "--endpoints", served.url, str(tmp_path / "tree"))
    assert (ran.exit_code, ran.stderr) == (Exit.REFUSED, f"kvraft: {tmp_path / 'tree'}: No space left on device\n")
    assert list(tmp_path.iterdir()) == []


def test_the_state_of_another_import_is_refused(run: Run, served: Served, other: Served, tmp_path: Path) -> None:
    """Before anything is written."""
    (tmp_path / "state").write_text('{"source":"s","target":"t","indices":{},"format":1}')
    _put(served, "/k")
    ran = run("import", "--from", served.url, "--to", other.url, "--once", f"--state={tmp_path / 'state'}")
    assert ran.exit_code == Exit.WRONG_ARGUMENTS
    assert "the state of an import from s to t" in ran.stderr
    assert _tree(other) == {}


def test_a_source_without_the_v2_api_is_told_of(run: Run, served: Served, tmp_path: Path, state: str) -> None:
    """As an etcd 3.4 without --enable-v2 answers, or something else altogether."""
    file = tmp_path / "tree.jsonl"
    file.write_text('{"kvraft_export":1,"etcd_index":0}\n{"end":true,"lines":1}\n')
    ran = run("import", str(file), "--to", served.url, state)
    assert (ran.exit_code, ran.stdout) == (Exit.DONE, "0 keys, no difference\n")
