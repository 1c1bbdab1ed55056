"""Every subcommand's failures end with the code that the table of `codes.MEANINGS` gives them, in one line."""

import errno
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import pytest

from kvraft.backup import restore
from kvraft.commands import table
from kvraft.commands.codes import Exit
from kvraft.storage.errors import StorageFailedError
from kvraft.testing import ports
from tests.api_v2.conftest import Served
from tests.backup.support import backup_of, old_keyspace
from tests.commands.conftest import Background, Run, hide
from tests.commands.fake_etcd import fake_etcd

WRONG: Final = Exit.WRONG_ARGUMENTS
PEERS: Final = ("--peers", "n1=http://h:1")
RESTORE: Final = ("restore", "{tmp}/whole", "--data-dir", "{tmp}/new", *PEERS)
IMPORT: Final = ("import", "--to", "{url}", "--state={tmp}/state", "--patience=0.01")

CASES: Final[Sequence[tuple[Exit, tuple[str, ...]]]] = (
    (Exit.NO_SERVER, ("status", "--endpoints={dead}")),
    (Exit.NO_SERVER, ("status", "--endpoints={no_v2}")),
    (Exit.NO_SERVER, ("member", "list", "--endpoints={dead}")),
    (Exit.NO_SERVER, ("member", "list", "--endpoints={no_v2}")),
    (WRONG, ("member", "remove", "nobody", "--endpoints={url}")),
    (WRONG, ("member", "lst", "--endpoints={url}")),
    (WRONG, ("member",)),
    (WRONG, ("backup", "{url}", "{tmp}/no/file")),
    (WRONG, ("backup", "{url}", "{tmp}")),
    (WRONG, ("verify", "{tmp}/nothing")),
    (WRONG, ("verify", "{tmp}")),
    (WRONG, ("verify", "{tmp}/fifo")),
    (Exit.NOT_WELL, ("verify", "{tmp}/damaged")),
    (WRONG, ("restore", "{tmp}/nothing", "--data-dir", "{tmp}/new", *PEERS)),
    (WRONG, ("restore", "{tmp}/fifo", "--data-dir", "{tmp}/new", *PEERS)),
    (WRONG, ("restore", "{tmp}/damaged", "--data-dir", "{tmp}/new", *PEERS)),
    (WRONG, ("restore", "{tmp}/text", "--data-dir", "{tmp}/new", *PEERS)),
    (WRONG, ("restore", "{tmp}/whole", "--data-dir", "{tmp}", *PEERS, "--name=n1")),
    (WRONG, ("restore", "{tmp}/whole", "--data-dir", "{tmp}/text", *PEERS)),
    (WRONG, (*RESTORE, "--name", "n2")),
    (WRONG, (*RESTORE, "--ttl-from", "2025-11-29T07:06:39Z")),
    (WRONG, (*RESTORE, "--ttl-from", "2999-01-01")),
    (WRONG, (*RESTORE, "--ttl-from", "9999-12-31T23:59:59-14:00")),
    (WRONG, (*RESTORE, "--ttl-from", "0001-01-01T00:00:00+14:00")),
    (WRONG, (*RESTORE, "--bump-index", "-1")),
    (WRONG, (*IMPORT,)),
    (WRONG, (*IMPORT, "--from", "{url}")),
    (WRONG, (*IMPORT, "--from-data-dir", "{tmp}/nothing")),
    (WRONG, (*IMPORT, "--from-data-dir", "{tmp}")),
    (WRONG, (*IMPORT, "--from-data-dir", "{tmp}/text")),
    (WRONG, (*IMPORT, "{tmp}/nothing")),
    (WRONG, (*IMPORT, "{tmp}/text")),
    (WRONG, (*IMPORT, "{tmp}")),
    (WRONG, ("import", "--to", "{url}", "--state={tmp}/text", "{tmp}/tree")),
    (WRONG, ("import", "--to", "{url}", "--state={tmp}/no/state", "{tmp}/tree")),
    (WRONG, ("import", "{tmp}/tree", "--to-backup", "{tmp}/no/file")),
    (Exit.NO_SERVER, (*IMPORT, "--from", "{dead}", "--once")),
    (Exit.NO_SERVER, (*IMPORT, "--from", "{no_v2}", "--once")),
    (Exit.NO_SERVER, ("import", "--to", "{dead}", "{tmp}/tree", "--state={tmp}/state", "--patience=0.01")),
    (Exit.NO_SERVER, ("export", "--endpoints={dead}")),
    (WRONG, ("export", "--from-data-dir", "{tmp}/nothing")),
    (WRONG, ("export", "--endpoints={url}", "{tmp}/no/file")),
    (WRONG, ("completion", "tcsh")),
)


def test_every_subcommand_is_in_the_table() -> None:
    """Of those that are to come, too."""
    assert {words[0] for _, words in CASES} == set(table.SUBCOMMANDS)


@pytest.mark.parametrize(("exit_code", "words"), CASES, ids=[" ".join(words) for _, words in CASES])
def test_a_failure_ends_with_its_code(
    run: Run, served: Served, background: Background, tmp_path: Path, exit_code: Exit, words: tuple[str, ...]
) -> None:
    """In one line, and nothing is made."""
    hide(served, tmp_path)
    content = backup_of(old_keyspace())
    (tmp_path / "whole").write_bytes(content)
    (tmp_path / "damaged").write_bytes(content[:-1])
    (tmp_path / "text").write_text("a note")
    (tmp_path / "tree").write_text('{"kvraft_export":1,"etcd_index":0}\n{"end":true,"lines":1}\n')
    os.mkfifo(tmp_path / "fifo")
    reserved = ports.reserve(1)
    with fake_etcd(background, lost=("/v2/keys/", "/v2/members")) as no_v2:
        places = {"tmp": tmp_path, "url": served.url, "dead": f"http://127.0.0.1:{reserved.ports[0]}", "no_v2": no_v2}
        ran = run(*(word.format(**places) for word in words))
    reserved.release()
    assert (ran.exit_code, ran.stdout) == (exit_code, ""), ran.stderr
    line = ran.stderr.splitlines()[-1]
    assert line.startswith("kvraft: "), ran.stderr
    assert all(each.startswith("waiting: ") for each in ran.stderr.splitlines()[:-1])
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("error", "exit_code"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), Exit.REFUSED),
        (StorageFailedError("the disk is full"), Exit.REFUSED),
        (OSError(errno.EIO, "Input/output error", "/x"), Exit.REFUSED),
        (OSError(errno.EACCES, "Permission denied", "/x"), WRONG),
        (OSError(errno.EROFS, "Read-only file system", "/x"), WRONG),
        (KeyboardInterrupt(), Exit.INTERRUPTED),
    ],
    ids=repr,
)
def test_what_the_system_says_of_a_file_has_its_code(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, exit_code: Exit
) -> None:
    """A disk that is full is no wrong argument, and a directory that may not be written is one."""

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(restore, "write_directory", fail)
    (tmp_path / "whole").write_bytes(backup_of(old_keyspace()))
    ran = run(*(word.format(tmp=tmp_path) for word in RESTORE))
    assert (ran.exit_code, ran.stdout) == (exit_code, "")
    assert ran.stderr.startswith("kvraft: ")
    assert ran.stderr.count("\n") == 1
