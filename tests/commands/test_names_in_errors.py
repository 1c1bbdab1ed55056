"""What an error names: the file that failed and not stdout, the options of an import's source and not the target's."""

import re
from pathlib import Path
from typing import Final

import pytest

from kvraft.client import BadAnswer, EtcdError, Unreachable
from kvraft.commands.codes import Exit
from kvraft.commands.exits import told
from kvraft.testing import ports
from tests.api_v2.conftest import Served
from tests.commands.conftest import Run, hide

UNREADABLE: Final = "/proc/self/mem"
"""A file whose first byte is an input/output error."""
TREE: Final = '{"kvraft_export":1,"etcd_index":5}\n{"end":true,"lines":1}\n'


@pytest.mark.parametrize(
    "words",
    [
        ("verify", UNREADABLE),
        ("restore", UNREADABLE, "--data-dir={tmp}/new", "--peers=n1=http://h:1"),
        ("import", UNREADABLE, "--to={url}", "--state={tmp}/state"),
        ("import", "{tmp}/tree", "--to={url}", f"--state={UNREADABLE}"),
    ],
    ids=["verify", "restore", "import", "state"],
)
def test_file_that_cannot_be_read_is_named(run: Run, served: Served, tmp_path: Path, words: tuple[str, ...]) -> None:
    """The system says of a read neither which file nor that it is one."""
    hide(served, tmp_path)
    (tmp_path / "tree").write_text(TREE)
    ran = run(*(word.format(tmp=tmp_path, url=served.url) for word in words))
    assert (ran.exit_code, ran.stdout) == (Exit.REFUSED, "")
    assert ran.stderr.splitlines()[-1] == f"kvraft: {UNREADABLE}: Input/output error"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--from-cacert=none",), "--from-cacert=none: no such file"),
        (("--from-cert=none",), "--from-cert: a certificate and its key go together: give --from-key too"),
        (("--from-key=none",), "--from-key: a certificate and its key go together: give --from-cert too"),
        (("--from-user=root",), "--from-user: the password of root is missing: write NAME:PASSWORD\n"),
        (("--from-user=:x",), "--from-user: a name is missing"),
    ],
)
def test_option_of_the_source_is_named(
    run: Run, served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], said: str
) -> None:
    """And neither --cacert, which is the target's, nor a variable, which is not looked at."""
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    words = ("import", "--from=https://h:1", "--once", "--to", served.url, f"--state={tmp_path}/state")
    ran = run(*words, *options, environment={"ETCDCTL_PASSWORD": "x", "ETCDCTL_CACERT": "x"})
    assert (ran.exit_code, ran.stdout) == (Exit.WRONG_ARGUMENTS, "")
    assert ran.stderr.startswith(f"kvraft: {said}"), ran


def test_remedy_is_of_the_side_that_fails(run: Run, served: Served, tmp_path: Path) -> None:
    """Source or target."""
    reserved = ports.reserve(1)
    dead = f"http://127.0.0.1:{reserved.ports[0]}"
    words = ("import", "--once", "--patience=0.01", f"--state={tmp_path}/state")
    source = run(*words, "--from", dead, "--to", served.url)
    target = run(*words, "--from", served.url, "--to", dead)
    backup = run(*words, "--from", dead, "--to-backup", f"{tmp_path}/backup")
    reserved.release()
    for ran, option in ((source, "--from"), (target, "--endpoints"), (backup, "--from")):
        assert ran.exit_code == Exit.NO_SERVER
        last = ran.stderr.splitlines()[-1]
        assert last == f"kvraft: {dead}: connection refused: is a member running there? {option} names others"


@pytest.mark.parametrize(
    "error",
    [
        Unreachable(["http://--user:1"], ["TLS: its certificate is not trusted: x"]),
        Unreachable(["http://--user:1"], ["TLS: certificate required"]),
        Unreachable(["http://--user:1"], ["TLS: bad certificate"]),
        Unreachable(["http://--user:1"], ["connection refused"]),
        EtcdError(401, 110, "The request requires user authentication", "--user", 0),
        EtcdError(403, 0, "no", "", 0),
        BadAnswer("http://--user:1", "answered --user"),
    ],
    ids=str,
)
def test_remedies_have_the_names_of_the_source(error: Exception) -> None:
    """What somebody else has said stays as it is."""
    text, exit_code = told(error, of_source=True)
    assert text.startswith(str(error))
    remedy = text.removeprefix(str(error))
    assert not re.search(r"--(user|cacert|cert|key|endpoints)\b|ETCDCTL", remedy)
    assert exit_code == told(error)[1]


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (("import", "--from={url}", "--wal-dir=x"), "--wal-dir"),
        (("import", "{tmp}/tree", "--wal-dir=x"), "--wal-dir"),
        (("import", "--from={url}", "--committed-only"), "--committed-only"),
        (("import", "{tmp}/tree", "--from-user=a:b"), "--from-user"),
        (("import", "--from-data-dir=x", "--from-cacert=x"), "--from-cacert"),
        (("import", "{tmp}/tree", "--to-backup={tmp}/new", "--to={url}"), "--to"),
        (("import", "{tmp}/tree", "--to-backup={tmp}/new", "--overwrite"), "--overwrite"),
        (("import", "{tmp}/tree", "--to-backup={tmp}/new", "--passwords={tmp}/tree"), "--passwords"),
        (("export", "--endpoints={url}", "--wal-dir=x", "{tmp}/new"), "--wal-dir"),
    ],
)
def test_option_that_would_change_nothing_is_refused(
    run: Run, served: Served, tmp_path: Path, words: tuple[str, ...], option: str
) -> None:
    """Whoever gives it believes that it does."""
    (tmp_path / "tree").write_text(TREE)
    ran = run(*(word.format(tmp=tmp_path, url=served.url) for word in words))
    assert (ran.exit_code, ran.stdout) == (Exit.WRONG_ARGUMENTS, "")
    assert ran.stderr.startswith(f"kvraft: {option} "), ran
    assert ran.stderr.count("\n") == 1
    assert not (tmp_path / "new").exists()
