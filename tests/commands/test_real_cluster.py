"""Subcommands against processes: TLS, users, a member that dies, and Debian's etcd."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from kvraft.backup import fetching
from kvraft.commands import export
from kvraft.commands.exits import Exit
from kvraft.testing.cluster import Cluster
from tests.cluster.test_tls_clients import Served, serving
from tests.commands.conftest import Ran, Run

pytestmark = [pytest.mark.slow, pytest.mark.landing]

ASKING: Final = (("status",), ("member", "list"))
"""Subcommands that change nothing."""
CHANGING: Final = (
    ("member", "add", "n9", "http://127.0.0.1:1"),
    ("member", "update", "n1", "http://127.0.0.1:1"),
    ("member", "replace", "n1", "n9", "http://127.0.0.1:1"),
    ("member", "remove", "n1"),
)


@contextlib.contextmanager
def _with_users(served: Served, run: Run) -> Iterator[None]:
    """Auth is on: root, and app who is nobody."""
    http = served.member.http
    for name in ("root", "app"):
        body = json.dumps({"user": name, "password": f"of-{name}"}).encode()
        assert http("PUT", f"/v2/auth/users/{name}", body=body).status == 201
    assert http("PUT", "/v2/auth/enable").status == 200
    yield


@pytest.fixture
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """What asks again asks once more at most."""
    monkeypatch.setattr(fetching, "_PAUSE_S", 0.01)
    monkeypatch.setattr(fetching, "PATIENCE_S", 0.01)
    monkeypatch.setattr(export, "PATIENCE_S", 0.01)


@pytest.mark.usefixtures("no_patience")
def test_tls_and_users_are_needed_where_they_are(tmp_path: Path, run: Run) -> None:
    """Each that asks a cluster says in one line which option is missing, and works with it, or with etcdctl's variable.

    A backup and an export wait before.
    """
    with serving(tmp_path) as served:
        url = served.member.client_url
        ca = f"--cacert={served.ca.ca_file}"
        shown = [f"--cert={served.client.cert_file}", f"--key={served.client.key_file}"]

        def fails(*words: str, with_code: Exit, saying: str) -> None:
            ran = run(*words)
            *waits, line = ran.stderr.splitlines()
            assert (ran.exit_code, ran.stdout) == (with_code, ""), ran
            assert all(each.startswith("waiting: ") for each in waits), ran
            assert saying in line

        copying = (("backup", str(tmp_path / "copy")), ("export", str(tmp_path / "tree")))
        for words in (*ASKING, *CHANGING, *copying):
            asked = (*words, f"--endpoints={url}")
            fails(*asked, with_code=Exit.NO_SERVER, saying="its certificate is not trusted")
            fails(*asked, with_code=Exit.NO_SERVER, saying="give its CA with --cacert")
            fails(*asked, ca, with_code=Exit.NO_SERVER, saying="give --cert and --key")
            plain = url.replace("https:", "http:")
            fails(
                *words,
                f"--endpoints={plain}",
                with_code=Exit.NO_SERVER,
                saying="speaks TLS there: write https://",
            )

        variables = {
            "ETCDCTL_ENDPOINTS": url,
            "ETCDCTL_CA_FILE": served.ca.ca_file,
            "ETCDCTL_CERT_FILE": served.client.cert_file,
            "ETCDCTL_KEY_FILE": served.client.key_file,
        }
        for words in (*ASKING, *copying):
            assert run(*words, f"--endpoints={url}", ca, *shown).exit_code == Exit.DONE
            assert run(*words, environment=variables).exit_code == Exit.DONE
        (member,) = json.loads(run("status", "--json", environment=variables).stdout)["members"]
        assert [certificate["listener"] for certificate in member["status"]["certificates"]] == ["client"]

        with _with_users(served, run):
            _users_are_needed(run, variables, tmp_path)


def _users_are_needed(run: Run, variables: dict[str, str], directory: Path) -> None:
    def ran_as(user: str, *words: str) -> Ran:
        return run(*words, environment=variables | {"ETCDCTL_USERNAME": user})

    for words in (("status",), *CHANGING):
        for user in ("", "root:wrong", "app:of-app", "gone:x"):
            ran = ran_as(user, *words)
            assert (ran.exit_code, ran.stdout) == (Exit.NOT_ALLOWED, ""), (user, words, ran)
            assert "give --user NAME:PASSWORD" in ran.stderr
    for name in ("backup", "export"):
        for user in ("root:wrong", "gone:x"):
            ran = ran_as(user, name, str(directory / "refused"))
            assert (ran.exit_code, ran.stdout) == (Exit.NOT_ALLOWED, ""), (user, name, ran)
            assert "give --user NAME:PASSWORD" in ran.stderr
            assert not (directory / "refused").exists()
        assert ran_as("root:of-root", name, str(directory / name)).exit_code == Exit.DONE
    assert ran_as("app:of-app", "backup", str(directory / "refused")).exit_code == Exit.NOT_ALLOWED
    assert ran_as("", "member", "list").exit_code == Exit.DONE
    assert ran_as("root:of-root", "status").exit_code == Exit.DONE
    assert run("status", "--user=root", environment=variables | {"ETCDCTL_PASSWORD": "of-root"}).exit_code == Exit.DONE
    added = ran_as("root:of-root", *CHANGING[0], "--json")
    assert added.exit_code == Exit.DONE
    assert ran_as("root:of-root", "member", "remove", json.loads(added.stdout)["id"]).exit_code == Exit.DONE


def test_member_that_dies_is_seen_with_its_lag(tmp_path: Path, run: Run) -> None:
    """By the leader's word, while the others go on; and by every endpoint that is left."""
    with Cluster(tmp_path / "cluster") as cluster:
        leader, (follower, _) = cluster.leader(), cluster.followers()
        follower.kill()
        for number in range(20):
            assert leader.http("PUT", f"/v2/keys/{number}", form={"value": "v"}).status == 201
        endpoints = ",".join(member.client_url for member in (follower, *cluster.running))
        ran = run("status", "--json", f"--endpoints={endpoints}")
        shown = json.loads(ran.stdout)
        assert ran.exit_code == Exit.NOT_WELL
        (problem,) = shown["problems"]
        assert problem.startswith(f"{follower.name} does not answer: {follower.client_url}: connection refused")
        lags = {member["name"]: member["lag"] for member in shown["members"]}
        assert lags[follower.name] >= 20
        assert lags[leader.name] == 0
        follower.start()
        follower.wait_for("its row", lambda: run("status", f"--endpoints={endpoints}").exit_code == Exit.DONE, 30)


def test_etcd_is_understood(tmp_path: Path, run: Run) -> None:
    """Its members are listed, shown, added and removed."""
    with Cluster(tmp_path / "cluster", size=1, kind="etcd") as cluster:
        (member,) = cluster.members
        endpoints = f"--endpoints={member.client_url}"
        ran = run("status", endpoints)
        assert (ran.exit_code, ran.stderr) == (Exit.DONE, "")
        row = ran.stdout.splitlines()[3].split()
        assert row[:3] == ["n1", "leader", "etcd"]
        added = json.loads(run("member", "add", "n2", "http://127.0.0.1:1", "--json", endpoints).stdout)
        assert f"n2={added['peerURLs'][0]}" in added["environment"]["ETCD_INITIAL_CLUSTER"]
