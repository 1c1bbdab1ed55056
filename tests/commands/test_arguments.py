"""Arguments that say nothing, or what nobody can mean: one line with their name, before anything is done."""

import json
from pathlib import Path
from typing import Final

import pytest

from kvraft.client import Client
from kvraft.commands.codes import Exit
from kvraft.commands.options import Given
from tests.api_v2.conftest import Served
from tests.backup.support import backup_of, old_keyspace
from tests.commands.conftest import Run, hide

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


STRANGE: Final[dict[str, tuple[str, ...]]] = {
    "port-0": ("member", "list", "--endpoints", "http://127.0.0.1:0"),
    "dots": ("member", "list", "--endpoints", "http://a..b:2379"),
    "label": ("member", "list", "--endpoints", f"http://{'a' * 64}:2379"),
    "backslash": ("member", "list", "--endpoints", "http://a\\:2379"),
    "host": ("member", "list", "--endpoints", "http://:2379"),
    "host-bytes": ("member", "list", "--endpoints", "http://\udcff:2379"),
    "host-backup": ("backup", "http://a..b:2379", "file"),
    "host-from": ("import", "--from", "http://a..b:2379", "--once"),
    "host-to": ("import", "tree", "--to", "http://127.0.0.1:0"),
    "timeout-inf": ("member", "list", "--timeout", "inf"),
    "timeout-nan": ("member", "list", "--timeout", "nan"),
    "interval-inf": ("status", "--interval", "inf"),
    "interval-nan": ("status", "--interval", "nan"),
    "patience-inf": ("import", "tree", "--patience", "-inf"),
    "patience-nan": ("import", "tree", "--patience", "nan"),
    "patience-below": ("import", "tree", "--patience", "-1"),
    "user": ("member", "list", "--user", "\udcfcser:x"),
    "password": ("member", "list", "--user", "user:\udcfc"),
    "from-user": ("import", "--from", "{url}", "--from-user", "\udcfc:x", "--once"),
    "token": ("restore", "whole", "--data-dir", "new", "--peers", "n1=http://h:1", "--token", "\udcff"),
    "peers": ("restore", "whole", "--data-dir", "new", "--peers", "\udcff=http://h:1"),
    "peers-url": ("restore", "whole", "--data-dir", "new", "--peers", "n1=http://\udcff:1"),
    "restore-name": ("restore", "whole", "--data-dir", "new", "--peers", "n1=http://h:1", "--name", "\udcff"),
    "add": ("member", "add", "\udcff", "http://h9:1"),
    "add-at": ("member", "add", "n9", "http://\udcff:1"),
    "remove": ("member", "remove", "\udcff"),
}


@pytest.mark.parametrize("words", STRANGE.values(), ids=STRANGE)
def test_what_nobody_can_mean_is_one_line(
    run: Run, served: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    """Numbers that are none, hosts that no name can be, bytes that are no text; a traceback would be raised here."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "whole").write_bytes(backup_of(old_keyspace()))
    (tmp_path / "tree").write_text('{"kvraft_export":1,"etcd_index":0}\n{"end":true,"lines":1}\n')
    there = {path.name for path in tmp_path.iterdir()}
    ran = run(*(word.format(url=served.url) for word in words), environment={"ETCDCTL_ENDPOINTS": served.url})
    assert (ran.exit_code, ran.stdout) == (Exit.WRONG_ARGUMENTS, ""), ran
    assert ran.stderr.count("\n") == 1
    assert {path.name for path in tmp_path.iterdir()} == there


def test_file_may_have_any_name(run: Run, served: Served, tmp_path: Path) -> None:
    """Bytes that are no text, too; JSON has a form for them."""
    hide(served, tmp_path)
    file = tmp_path / "\udcff"
    ran = run("export", str(file), "--json", "--endpoints", served.url)
    assert ran.exit_code == Exit.DONE, ran
    assert json.loads(ran.stdout)["file"] == str(file)
    assert file.exists()


@pytest.mark.parametrize("host", ["::1", "fe80::1%25eth0", "xn--bcher-kva.example", "a_b", "h."])
def test_unusual_hosts_are_hosts(host: str) -> None:
    """Of IPv6, of other alphabets, and with what no name of a host may have and many do."""
    url = f"http://[{host}]:1" if ":" in host else f"http://{host}:1"
    assert Given({}).endpoint(url) == url
    assert Client([url]).endpoints == (url,)


@pytest.mark.parametrize("url", ["http://a..b:1", "http://h:0", f"http://{'a' * 64}:1", "http://a\\:1"])
def test_client_refuses_them_too(url: str) -> None:
    """It is a library."""
    with pytest.raises(ValueError, match="is no endpoint"):
        Client([url])
