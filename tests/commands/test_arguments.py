"""Arguments that say nothing, or what nobody can mean: one line with their name, before anything is done."""

from pathlib import Path
from typing import Final

import pytest

from kvraft.commands.codes import Exit
from tests.api_v2.conftest import Served
from tests.backup.support import backup_of, old_keyspace
from tests.commands.conftest import Run

EMPTY: Final[dict[str, tuple[str, ...]]] = {
    "remove": ("member", "remove", ""),
    "update": ("member", "update", "", "http://h9:1"),
    "update-to": ("member", "update", "g", ""),
    "replace": ("member", "replace", "", "n6", "http://h9:1"),
    "replace-by": ("member", "replace", "g", "", "http://h9:1"),
    "add": ("member", "add", "", "http://h9:1"),
    "add-at": ("member", "add", "n9", ""),
    "backup": ("backup", ""),
    "backup-of": ("backup", "", "file"),
    "backup-to": ("backup", "{url}", ""),
    "verify": ("verify", ""),
    "export": ("export", ""),
    "export-of": ("export", "--from-data-dir", "", "file"),
    "export-wal": ("export", "--from-data-dir", ".", "--wal-dir", "", "file"),
    "export-hidden": ("export", "--hidden", "", "file"),
    "restore": ("restore", "", "--data-dir", "new", "--peers", "n1=http://h:1"),
    "restore-to": ("restore", "whole", "--data-dir", "", "--peers", "n1=http://h:1"),
    "restore-one-to": ("restore", "whole", "--data-dir", "", "--peers", "n1=http://h:1", "--name", "n1"),
    "restore-name": ("restore", "whole", "--data-dir", "new", "--peers", "n1=http://h:1", "--name", ""),
    "restore-peers": ("restore", "whole", "--data-dir", "new", "--peers", ""),
    "restore-token": ("restore", "whole", "--data-dir", "new", "--peers", "n1=http://h:1", "--token", ""),
    "restore-ttl": ("restore", "whole", "--data-dir", "new", "--peers", "n1=http://h:1", "--ttl-from", ""),
    "import": ("import", ""),
    "import-from": ("import", "--from", "", "--once"),
    "import-from-commas": ("import", "--from", " ,", "--once"),
    "import-to": ("import", "tree", "--to", ""),
    "import-to-commas": ("import", "tree", "--to", ","),
    "import-directory": ("import", "--from-data-dir", ""),
    "import-wal": ("import", "--from-data-dir", ".", "--wal-dir", ""),
    "import-backup": ("import", "tree", "--to-backup", ""),
    "import-hidden": ("import", "tree", "--hidden", "/_a", "--hidden", ""),
    "import-state": ("import", "tree", "--state", ""),
    "import-passwords": ("import", "tree", "--passwords", ""),
    "import-user": ("import", "--from", "{url}", "--from-user", ""),
    "import-cacert": ("import", "--from", "{url}", "--from-cacert", ""),
    "endpoints": ("member", "list", "--endpoints", ","),
    "completion": ("completion", ""),
}


@pytest.mark.parametrize("words", EMPTY.values(), ids=EMPTY)
def test_empty_argument_means_nothing(
    run: Run, served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    """A variable that was never set: not the member that has no name yet, this directory, or a server of this host."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "whole").write_bytes(backup_of(old_keyspace()))
    (tmp_path / "tree").write_text('{"kvraft_export":1,"etcd_index":0}\n{"end":true,"lines":1}\n')
    there = {path.name for path in tmp_path.iterdir()}
    here = {"ETCDCTL_ENDPOINTS": served.url}
    run("member", "add", "n4", "http://h4:1", environment=here)
    before = run("member", "list", "--json", environment=here).stdout
    ran = run(*(word.format(url=served.url) for word in words), environment=here)
    assert (ran.exit_code, ran.stdout) == (Exit.WRONG_ARGUMENTS, ""), ran
    assert ran.stderr.count("\n") == 1
    assert {path.name for path in tmp_path.iterdir()} == there
    assert run("member", "list", "--json", environment=here).stdout == before


def test_empty_global_option_is_as_if_it_were_not_given(run: Run, served: Served) -> None:
    """As in etcdctl, whose scripts pass `--endpoints "$X"`: then the variables count."""
    words = ("member", "list", "--endpoints", "", "--user", "", "--cacert", "")
    ran = run(*words, environment={"ETCDCTL_ENDPOINTS": served.url})
    assert ran.exit_code == Exit.DONE, ran
