"""A member with an empty directory asks a running cluster who it is, before it writes anything."""

import dataclasses
import pathlib
import socket

import pytest

from kvraft.founding import Founder, Identity
from kvraft.settings import flags, settings
from kvraft.settings.flags import SettingsError
from kvraft.settings.settings import Settings
from kvraft.start import adding, newcomers, told_members
from kvraft.start.http_door import HttpDoor, NoAnswerError, Reply
from kvraft.testing import ports
from tests.start.fake_cluster import CLUSTER_ID, FakeCluster

OWN = "http://10.0.0.4:2380"
N1, N2 = "http://10.0.0.1:2380", "http://10.0.0.2:2380"


def _read(data_dir: pathlib.Path, *arguments: str, stored: Identity | None = None) -> Settings:
    return settings.from_flags(flags.read((f"--data-dir={data_dir}/d", *arguments), {}), stored)


def _existing(cluster: FakeCluster, data_dir: pathlib.Path, *more: str, others: str = "") -> Settings:
    """The flags of etcd's joiner: the one member that answers is n1, at the URL of the fake."""
    named = f"n1={cluster.url},{others or f'n2={N2}'},n4={OWN}"
    return _read(data_dir, "--name=n4", "--initial-cluster-state=existing", f"--initial-cluster={named}", *more)


def _joining(cluster: FakeCluster, data_dir: pathlib.Path, *more: str, name: str = "n4") -> Settings:
    own = f"--initial-advertise-peer-urls={OWN}"
    return _read(
        data_dir, f"--name={name}", own, "--listen-peer-urls=http://127.0.0.1:2380", *more, f"--join={cluster.url}"
    )


def _refusal(wanted: Settings) -> str:
    """The one line; nothing was written."""
    with pytest.raises(SettingsError) as refused:
        newcomers.settle(wanted, "")
    assert not wanted.data_dir.exists()
    text = str(refused.value)
    assert "\n" not in text
    return text


def _running() -> FakeCluster:
    cluster = FakeCluster(n1="", n2=N2)
    cluster.members[1]["peerURLs"] = [cluster.url]
    return cluster


# -- --initial-cluster-state=existing


def test_member_that_was_added_gets_cluster_and_id_from_the_others(tmp_path: pathlib.Path) -> None:
    """Its ids are not those that the flags alone would give; it founds nothing, and its directory will say so."""
    with _running() as cluster:
        cluster.add([OWN])
        settled, rebuild = newcomers.settle(_existing(cluster, tmp_path), "")
    assert not rebuild
    assert (settled.member_id, f"{settled.cluster_id:x}") == (3, CLUSTER_ID)
    members = (Founder(1, "n1", (cluster.url,)), Founder(2, "n2", (N2,)), Founder(3, "n4", (OWN,)))
    assert settled.members == members
    assert settled.identity == Identity(int(CLUSTER_ID, 16), 3, "n4", "etcd-cluster", (), members)
    assert not cluster.changes


def test_later_start_takes_everything_from_the_directory(tmp_path: pathlib.Path) -> None:
    """The members that the flags name are of another day: nobody is asked, and nothing warned of."""
    members = (Founder(1, "n1", (N1,)), Founder(3, "n4", (OWN,)))
    stored = Identity(0xC1, 3, "n4", "etcd-cluster", (), members, replaces=2)
    given = ("--name=n4", "--initial-cluster-state=existing", f"--initial-cluster=n9={N2},n4={OWN}")
    wanted = _read(tmp_path, *given, stored=stored)
    assert newcomers.settle(wanted, "") == (wanted, "")
    assert (wanted.cluster_id, wanted.member_id, wanted.members, wanted.replaces) == (0xC1, 3, members, 2)
    assert wanted.initial_cluster == ()
    assert wanted.identity == stored
    assert not wanted.ignored


@pytest.mark.parametrize(
    ("others", "line"),
    [
        (f"n2={N2},n3=http://10.0.0.3:2380", "member count is unequal: --initial-cluster names n1 at "),
        (
            "n2=http://10.0.0.9:2380",
            "no match found in --initial-cluster for existing member 2; the cluster has n1 at ",
        ),
    ],
)
def test_flags_that_name_other_members_than_the_cluster_has_are_refused(
    others: str, line: str, tmp_path: pathlib.Path
) -> None:
    """In etcd's words, with what the cluster has."""
    with _running() as cluster:
        cluster.add([OWN])
        text = _refusal(_existing(cluster, tmp_path, others=others))
    assert text.startswith(f"--initial-cluster-state=existing: {line}"), text
    assert text.endswith(f"3 at {OWN}: use the lines that `etcdctl member add` printed")


def test_member_that_nobody_added_is_refused(tmp_path: pathlib.Path) -> None:
    """It would wait for ever for a leader that never tells it anything."""
    with _running() as cluster:
        assert "member count is unequal" in _refusal(_existing(cluster, tmp_path))


def test_word_of_a_member_that_lags_is_not_the_last(tmp_path: pathlib.Path) -> None:
    """Another one has heard that this member was added, and that it has started before."""
    with _running() as one, _running() as two:
        lagging, knowing = sorted((one, two), key=lambda cluster: cluster.url)
        for cluster in (one, two):
            cluster.members[1]["peerURLs"], cluster.members[2]["peerURLs"] = [lagging.url], [knowing.url]
        knowing.add([OWN])
        wanted = _existing(lagging, tmp_path, others=f"n2={knowing.url}")
        assert newcomers.settle(wanted, "")[0].member_id == 3
        lagging.add([OWN])
        started = {"name": "n4", "clientURLs": ["http://10.0.0.4:2379"]}
        knowing.members[3] |= started
        assert "this member has started before: " in _refusal(wanted)

        lagging.members[3] |= started
        knowing.members[4] = {**knowing.members.pop(3), "id": 4, "name": "", "clientURLs": []}
        assert newcomers.settle(wanted, "")[0].member_id == 4, "the one before was removed"


def test_other_members_that_have_not_started_have_no_name(tmp_path: pathlib.Path) -> None:
    """`etcdctl member add` prints them so, and etcd takes it."""
    with _running() as cluster:
        cluster.members[2] |= {"name": "", "clientURLs": []}
        cluster.add([OWN])
        settled, _ = newcomers.settle(_existing(cluster, tmp_path, others=f"={N2}"), "")
    assert settled.members[1] == Founder(2, "", (N2,))
    with pytest.raises(SettingsError, match="has no name"):
        _read(tmp_path, "--name=n4", f"--initial-cluster=={N2},n4={OWN}")


def test_names_in_peer_urls_are_looked_up(tmp_path: pathlib.Path) -> None:
    """`localhost` and 127.0.0.1 are one place, as etcd finds too."""
    with _running() as cluster:
        cluster.add(["http://localhost:2390"])
        named = f"n1={cluster.url},n2={N2},n4=http://127.0.0.1:2390"
        wanted = _read(tmp_path, "--name=n4", "--initial-cluster-state=existing", f"--initial-cluster={named}")
        settled, _ = newcomers.settle(wanted, "")
    assert settled.initial_advertise_peer_urls == ("http://localhost:2390",), "what the cluster dials"


def test_nobody_answers(tmp_path: pathlib.Path) -> None:
    """The last URL that was tried and why; with --rebuild the member waits instead, as it needs all others anyway."""
    reservation = ports.reserve(1)
    nobody = f"http://{ports.LOOPBACK}:{reservation.ports[0]}"
    given = ("--name=n4", "--initial-cluster-state=existing", f"--initial-cluster=n1={nobody},n4={OWN}")
    text = _refusal(_read(tmp_path, *given))
    assert text == (
        f"--initial-cluster-state=existing: cannot fetch cluster info from peer urls: {nobody}: Connection refused: "
        "start the members that --initial-cluster names, or correct it"
    )
    wanted = _read(tmp_path, *given, "--rebuild")
    assert newcomers.settle(wanted, "") == (wanted, "it holds no member's data")
    reservation.release()


def test_member_that_has_started_before_lost_its_data(tmp_path: pathlib.Path) -> None:
    """It is not a new one, whatever its directory looks like: it rebuilds if it may, and as whom it was."""
    with _running() as cluster:
        cluster.add([OWN])
        cluster.members[3] |= {"name": "n4", "clientURLs": ["http://10.0.0.4:2379"]}
        text = _refusal(_existing(cluster, tmp_path))
        assert "this member has started before: " in text
        assert text.endswith("with --join and --replace=n4")
        others = "n9=http://127.0.0.1:1"
        settled, rebuild = newcomers.settle(_existing(cluster, tmp_path, "--rebuild", others=others), "")
    assert (settled.member_id, rebuild) == (3, "it holds no member's data")


def test_founder_that_lost_its_data_is_found_again_by_its_urls(tmp_path: pathlib.Path) -> None:
    """With --rebuild in a unit file that founds: while nobody knows it, it is new. The token may be wrong."""
    with _running() as cluster:
        named = f"--initial-cluster=n1={cluster.url},n2={N2}", "--initial-cluster-token=wrong"
        wanted = _read(tmp_path, "--name=n2", "--rebuild", *named)
        settled, rebuild = newcomers.settle(wanted, "")
        assert (settled.member_id, f"{settled.cluster_id:x}") == (2, CLUSTER_ID)
        assert rebuild == "it holds no member's data"
        cluster.members[2]["clientURLs"] = []
        assert newcomers.settle(wanted, "") == (wanted, "")
    assert newcomers.settle(wanted, "") == (wanted, "")


def test_member_does_not_come_to_a_cluster_of_etcd(tmp_path: pathlib.Path) -> None:
    """Which answers all of this as well."""
    with _running() as cluster:
        cluster.is_etcd = True
        cluster.add([OWN])
        assert "is a member of etcd" in _refusal(_existing(cluster, tmp_path))
        assert "is a member of etcd" in _refusal(_joining(cluster, tmp_path))
        assert not cluster.changes


# -- --join


def test_member_adds_itself_and_knows_itself_again(tmp_path: pathlib.Path) -> None:
    """Run again after it was killed at any moment, it is the same member, and nothing is asked for twice."""
    with _running() as cluster:
        first = newcomers.settle(_joining(cluster, tmp_path), "")
        assert cluster.changes == [("POST", OWN)]
        assert newcomers.settle(_joining(cluster, tmp_path), "") == first
        assert cluster.changes == [("POST", OWN)]
    settled, rebuild = first
    assert (settled.member_id, settled.replaces, rebuild) == (3, 0, "")
    assert [member.member_id for member in settled.members] == [1, 2, 3]


def test_member_whose_first_attempt_was_not_heard_of_yet_is_found_by_the_conflict(tmp_path: pathlib.Path) -> None:
    """The list may come from a member that lags; a change does not."""
    with _running() as cluster:
        cluster.add([OWN])
        cluster.hides_newest = True
        settled, _ = newcomers.settle(_joining(cluster, tmp_path), "")
    assert settled.member_id == 3


def test_other_urls_are_asked_when_one_does_not_answer(tmp_path: pathlib.Path) -> None:
    """A connection that is refused costs nothing."""
    reservation = ports.reserve(1)
    with _running() as cluster:
        wanted = _joining(cluster, tmp_path)
        nobody = f"http://{ports.LOOPBACK}:{reservation.ports[0]}"
        joining = dataclasses.replace(wanted.joining, urls=(nobody, cluster.url))
        settled, _ = newcomers.settle(dataclasses.replace(wanted, joining=joining), "")
    reservation.release()
    assert settled.member_id == 3


def test_page_that_is_no_member_hides_none_behind_it(tmp_path: pathlib.Path) -> None:
    """A status page or a load balancer that answers 200 to everything: the next URL is asked, as after no answer."""
    with FakeCluster() as page, _running() as cluster:
        wanted = _joining(cluster, tmp_path)
        joining = dataclasses.replace(wanted.joining, urls=(page.url, cluster.url))
        settled, _ = newcomers.settle(dataclasses.replace(wanted, joining=joining), "")
        assert (settled.member_id, cluster.changes) == (3, [("POST", OWN)])
        other = dataclasses.replace(wanted, joining=joining, is_empty=False, cluster_id=0xC1)
        with pytest.raises(SettingsError, match=rf"--join={cluster.url}: that is cluster {CLUSTER_ID}, and "):
            newcomers.settle(other, "")
    assert not page.changes


def test_replaced_member_is_kept_in_the_directory_and_removed_later(tmp_path: pathlib.Path) -> None:
    """By its id: whoever has the name later is another."""
    with _running() as cluster:
        settled, _ = newcomers.settle(_joining(cluster, tmp_path, "--replace=n2"), "")
        assert cluster.changes == [("POST", OWN)]
    assert settled.replaces == 2
    assert settled.identity.replaces == 2


def test_member_at_the_same_urls_goes_first(tmp_path: pathlib.Path) -> None:
    """It cannot be running, as this one has its port; and killed in between, the next start adds what is missing."""
    with _running() as cluster:
        cluster.members[2] |= {"peerURLs": [OWN], "name": "n2"}
        settled, _ = newcomers.settle(_joining(cluster, tmp_path, "--replace=n2", name="n2"), "")
        assert cluster.changes == [("DELETE", "2"), ("POST", OWN)]
        assert (settled.member_id, settled.replaces) == (2, 0), "the fake gives the number away again"
        del cluster.members[2], cluster.changes[:]
        newcomers.settle(_joining(cluster, tmp_path, "--replace=n2", name="n2"), "")
        assert cluster.changes == [("POST", OWN)]


@pytest.mark.parametrize(
    ("more", "name", "line"),
    [
        ((), "n2", f"--name=n2: the name is in use by member 2 at {N2}: choose another, or give --replace=n2 to put"),
        (("--replace=n9",), "n4", "--replace=n9: no member has that name: the cluster has n1 at "),
    ],
)
def test_names_that_do_not_fit_are_refused(more: tuple[str, ...], name: str, line: str, tmp_path: pathlib.Path) -> None:
    """Before anything is changed."""
    with _running() as cluster:
        assert _refusal(_joining(cluster, tmp_path, *more, name=name)).startswith(line)
        assert not cluster.changes


def test_member_that_would_be_where_another_is_is_refused(tmp_path: pathlib.Path) -> None:
    """One of two URLs is another's: the cluster refuses it, and the line says who is where."""
    with _running() as cluster:
        wanted = _read(
            tmp_path,
            "--name=n4",
            f"--initial-advertise-peer-urls={N2},{OWN}",
            "--listen-peer-urls=http://127.0.0.1:2380",
            f"--join={cluster.url}",
        )
        text = _refusal(wanted)
    assert f"membership: peerURL exists: the cluster has n1 at {cluster.url}; n2 at {N2}, and this member" in text


@pytest.mark.parametrize(
    ("has_leader", "why"),
    [
        (False, "it has no leader: start a majority of its members first, which may then do what was asked for"),
        (True, "not all of its members are started and connected (--strict-reconfig-check)"),
    ],
)
def test_cluster_that_cannot_change_says_no_more_than_500(
    has_leader: bool, why: str, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether there is a leader tells what the matter is."""
    monkeypatch.setattr(adding, "_ATTEMPTS", 1)
    monkeypatch.setattr(adding, "_AGAIN_S", 0.0)
    with _running() as cluster:
        cluster.status, cluster.has_leader = 500, has_leader
        assert f"the cluster did not add this member: {why}" in _refusal(_joining(cluster, tmp_path))


def test_member_waits_for_those_that_join_at_the_same_time(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cluster takes no other one before the last one has started (--strict-reconfig-check): that passes."""
    monkeypatch.setattr(adding, "_AGAIN_S", 0.0)
    with _running() as cluster:
        cluster.status, cluster.times = 500, 3
        assert newcomers.settle(_joining(cluster, tmp_path), "")[0].member_id == 3
        assert cluster.changes == [("POST", OWN)] * 4


def test_cluster_with_auth_on_says_who_may(tmp_path: pathlib.Path) -> None:
    """A start has no password; once somebody has added the member, it needs none."""
    with _running() as cluster:
        cluster.status = 401
        line = "the cluster did not add this member: auth is on, and only root may: do it with `etcdctl -u root member`"
        assert line in _refusal(_joining(cluster, tmp_path))
        cluster.add([OWN])
        assert newcomers.settle(_joining(cluster, tmp_path), "")[0].member_id == 3


def test_urls_that_lead_to_no_member(tmp_path: pathlib.Path) -> None:
    """Nobody there, somebody who speaks something else, and a member that never answers."""
    with socket.create_server((ports.LOOPBACK, 0)) as silent:
        url = f"http://{ports.LOOPBACK}:{silent.getsockname()[1]}"
        with pytest.raises(NoAnswerError, match="timed out"):
            HttpDoor(0.05).ask(url, "/v2/members")
    with FakeCluster() as cluster:
        text = _refusal(_joining(cluster, tmp_path))
    assert text == (
        f"--join={cluster.url}: no member answers ({cluster.url}: what answers there is no member of a cluster): "
        "give client URLs of members that run"
    )


def test_directory_that_cannot_be_used_is_told_before_the_cluster_is_changed(tmp_path: pathlib.Path) -> None:
    """Or else a member would be in it that never comes."""
    (tmp_path / "d").write_text("a file")
    with _running() as cluster:
        with pytest.raises(SettingsError, match=r"d is no directory: give a directory that this user can write"):
            newcomers.settle(_joining(cluster, tmp_path), "")
        assert not cluster.changes


def test_directory_of_another_cluster_is_not_used_for_the_one_to_join(tmp_path: pathlib.Path) -> None:
    """A machine that is used again. A later start of a member of this very cluster waits for nobody."""
    stored = Identity(0xC1, 3, "n4", "etcd-cluster", (), (Founder(3, "n4", (OWN,)),))
    with _running() as cluster:
        wanted = _read(tmp_path, "--name=n4", f"--join={cluster.url}", stored=stored)
        with pytest.raises(SettingsError, match=rf"cluster {CLUSTER_ID}, and .* of a member of cluster c1: choose"):
            newcomers.settle(wanted, "")
        same = dataclasses.replace(wanted, cluster_id=int(CLUSTER_ID, 16))
        assert newcomers.settle(same, "") == (same, "")
    assert newcomers.settle(wanted, "") == (wanted, "")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--replace=n2"], "--replace=n2: it needs --join"),
        (["--join=http://a:2379"], "--join=http://a:2379: the others must be told where this member is: give --init"),
        (
            ["--join=http://a:2379", "--listen-peer-urls=http://0.0.0.0:2380"],
            "--listen-peer-urls=http://0.0.0.0:2380: members would be told http://0.0.0.0:2380, which is",
        ),
        (["--join=http://a:2379", "--force-new-cluster"], "--join=http://a:2379: --force-new-cluster makes a cluster"),
        (["--join=nonsense"], "--join=nonsense: URL scheme must be http or https: nonsense (use http://host:port"),
        (["--force-new-cluster", "--rebuild"], "--force-new-cluster=true: it goes on with what this member holds, and"),
    ],
)
def test_flags_that_contradict_each_other_are_refused(arguments: list[str], line: str, tmp_path: pathlib.Path) -> None:
    """With what to give instead."""
    with pytest.raises(SettingsError) as refused:
        _read(tmp_path, *arguments)
    assert str(refused.value).startswith(line)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"members":7}',
        b'[{"id":0,"peerURLs":["http://a:1"]}]',
        b'[{"id":1}]',
        b'[{"id":1,"peerURLs":["a"]}]',
        b'[{"id":null,"peerURLs":["http://a:1"]}]',
        b'[{"id":1,"peerURLs":"http://a:1"}]',
        b"[7]",
        b"[" * 200_000,
        b'[{"id":1,"peerURLs":["http://a:1"],"clientURLs":[8]}]',
    ],
)
def test_answers_that_no_member_gives_are_none(body: bytes) -> None:
    """Whatever stands at that port."""
    with pytest.raises(NoAnswerError, match="what answers there is no member of a cluster"):
        told_members.told(Reply("http://a:1", 200, CLUSTER_ID, body))


@pytest.mark.parametrize("url", ["http://a..b:1", "http://" + "a" * 70 + ":1"])
def test_member_at_what_is_no_name_does_not_answer(url: str) -> None:
    """Other members may say so of themselves, and whoever asks goes on with the next."""
    with pytest.raises(NoAnswerError, match="its host is no name of DNS"):
        HttpDoor().ask(url, "/members")
