"""`kvraft member`, on a member without Raft and disk."""

import asyncio
import json
import re

import pytest

from kvraft.commands.exits import Exit
from tests.api_v2.conftest import Served
from tests.api_v2.memory_backend import MEMBER_ID
from tests.commands.conftest import WAIT_S, Background, Run
from tests.commands.fake_etcd import fake_etcd
from tests.commands.recording import shown_at_a_terminal

ID = f"{MEMBER_ID:x}"


def test_list_is_a_table(run: Run, served: Served) -> None:
    """Ids, names, who leads, and where they are."""
    ran = run("member", "list", "--endpoints", served.url)
    titles, row = ran.stdout.splitlines()
    assert titles.split() == ["ID", "NAME", "PEER", "URLS", "CLIENT", "URLS"]
    assert row.split() == [ID, "g", "leader", "http://127.0.0.1:33801", "http://127.0.0.1:33791"]


def test_added_member_gets_its_environment(run: Run, served: Served) -> None:
    """On stdout the variables alone, as etcdctl prints them, so that they can go into a file."""
    ran = run("member", "add", "n4", "http://10.0.0.4:2380", "--endpoints", served.url)
    assert ran.exit_code == Exit.DONE
    variables = dict(re.findall(r'^(ETCD_\w+)="(.*)"$', ran.stdout, re.MULTILINE))
    assert len(variables) == len(ran.stdout.splitlines()) == 4
    assert variables["ETCD_NAME"] == "n4"
    assert set(variables["ETCD_INITIAL_CLUSTER"].split(",")) == {
        "g=http://127.0.0.1:33801",
        "n4=http://10.0.0.4:2380",
    }
    assert variables["ETCD_INITIAL_ADVERTISE_PEER_URLS"] == "http://10.0.0.4:2380"
    assert variables["ETCD_INITIAL_CLUSTER_STATE"] == "existing"
    assert re.fullmatch(r"added member n4 with id [0-9a-f]+\n", ran.stderr)
    assert "not started" in run("member", "list", "--endpoints", served.url).stdout


def test_environment_stays_a_line_on_a_narrow_terminal(served: Served) -> None:
    """It is copied from there; only the terminal may break it."""
    urls = ",".join(f"http://a-host-with-a-long-name-{number}.example.com:2380" for number in range(4))
    shown = shown_at_a_terminal(f"kvraft member add n4 {urls}", served.url, 80)
    assert len(re.findall(r'^ETCD_\w+=".*"$', shown, re.MULTILINE)) == 4, shown


def test_added_member_of_several_urls_in_json(run: Run, served: Served) -> None:
    """The record and the variables in one value."""
    urls = "http://10.0.0.4:2380,http://10.0.1.4:2380"
    added = json.loads(run("member", "add", "n4", urls, "--json", "--endpoints", served.url).stdout)
    assert added["peerURLs"] == urls.split(",")
    assert added["environment"]["ETCD_INITIAL_CLUSTER"].count("n4=") == 2


def test_member_is_moved_and_removed_by_id_or_name(run: Run, served: Served) -> None:
    """An id in capitals will do; each says what it did, to whom."""
    added = json.loads(run("member", "add", "n4", "http://h4:1", "--json", "--endpoints", served.url).stdout)
    moved = run("member", "update", added["id"].upper(), "http://h5:1", "--endpoints", served.url)
    assert moved.stdout == f"member {added['id']} (not started) is at http://h5:1 from now on\n"
    shown = json.loads(run("member", "update", added["id"], "http://h6:1", "--json", "--endpoints", served.url).stdout)
    assert shown["peerURLs"] == ["http://h6:1"]
    listed = json.loads(run("member", "list", "--json", "--endpoints", served.url).stdout)
    assert ["http://h6:1"] in [member["peerURLs"] for member in listed]
    removed = run("member", "remove", added["id"], "--endpoints", served.url)
    assert removed.stdout == f"removed member {added['id']} (not started)\n"
    assert len(json.loads(run("member", "list", "--json", "--endpoints", served.url).stdout)) == 1
    moved = run("member", "update", "g", "http://h7:1", "--endpoints", served.url)
    assert moved.stdout == f"member g ({ID}) is at http://h7:1 from now on\n"


def test_replacement_gets_what_makes_it_remove_the_other(run: Run, served: Served) -> None:
    """It is added, which takes root where users have to say who they are; the rest it does itself."""
    added = json.loads(run("member", "add", "n4", "http://h4:1", "--json", "--endpoints", served.url).stdout)
    ran = run("member", "replace", "g", "n6", "http://h6:1", "--endpoints", served.url)
    variables = dict(re.findall(r'^(ETCD_\w+)="(.*)"$', ran.stdout, re.MULTILINE))
    assert variables == {
        "ETCD_NAME": "n6",
        "ETCD_JOIN": "http://127.0.0.1:33791",
        "ETCD_REPLACE": "g",
        "ETCD_INITIAL_ADVERTISE_PEER_URLS": "http://h6:1",
    }
    assert ran.stderr.endswith("; it will remove g\n")
    own = run("member", "replace", "g", "n7", "http://127.0.0.1:33801", "--endpoints", served.url)
    assert own.exit_code == Exit.WRONG_ARGUMENTS
    assert "start it with --join and --replace g, or with --rebuild" in own.stderr
    nameless = run("member", "replace", added["id"], "n7", "http://h7:1", "--endpoints", served.url)
    assert nameless.exit_code == Exit.WRONG_ARGUMENTS
    assert f"kvraft member remove {added['id']}" in nameless.stderr


def test_unknown_member_is_told_which_there_are(run: Run, served: Served) -> None:
    """Before anything is sent."""
    for words in (("remove", "n9"), ("update", "n9", "http://h:1"), ("replace", "n9", "n1", "http://h:1")):
        ran = run("member", *words, "--endpoints", served.url)
        assert (ran.exit_code, ran.stdout) == (Exit.WRONG_ARGUMENTS, "")
        assert ran.stderr == f"kvraft: no member has the name or id 'n9': there are g ({ID})\n"


def test_name_of_two_members_needs_an_id(run: Run, background: Background) -> None:
    """Nobody is removed by a guess."""
    members = [
        {"id": number, "name": "twin", "peerURLs": ["http://h:1"], "clientURLs": ["{own}"]} for number in ("1", "2")
    ]
    with fake_etcd(background, members) as url:
        ran = run("member", "remove", "twin", "--endpoints", url)
    assert ran.exit_code == Exit.WRONG_ARGUMENTS
    assert "several members have the name twin: give an id: twin (1), twin (2)" in ran.stderr


def test_refusals_are_the_servers_words(run: Run, served: Served) -> None:
    """What is wrong with a URL, or that it is taken."""
    taken = run("member", "add", "n4", "http://127.0.0.1:33801", "--endpoints", served.url)
    assert (taken.exit_code, taken.stdout) == (Exit.REFUSED, "")
    assert taken.stderr == "kvraft: the server refused: membership: peerURL exists\n"
    wrong = run("member", "add", "n4", "nonsense", "--endpoints", served.url)
    assert wrong.exit_code == Exit.REFUSED
    assert "URL scheme must be http" in wrong.stderr


def test_change_that_no_majority_makes_is_told_with_the_reasons(
    run: Run, served: Served, background: Background
) -> None:
    """Etcd has one word for all of them."""
    served.backend.has_quorum = False

    async def time_out() -> None:
        while not served.backend.waiting:  # noqa: ASYNC110 -- the loop is what is waited for
            await asyncio.sleep(0)
        served.backend.time_out()

    timing_out = asyncio.run_coroutine_threadsafe(time_out(), background.loop)
    ran = run("member", "remove", "g", "--endpoints", served.url)
    timing_out.result(WAIT_S)
    assert ran.exit_code == Exit.REFUSED
    assert ran.stderr.startswith("kvraft: the cluster does not do it: Internal Server Error: there is no majority, ")


@pytest.mark.parametrize("words", [("add",), ("add", "n4"), ("remove",), ("update", "g"), ("replace", "g", "n4")])
def test_missing_argument_is_named(run: Run, words: tuple[str, ...]) -> None:
    """Which one, and where the help is."""
    ran = run("member", *words)
    assert ran.exit_code == Exit.WRONG_ARGUMENTS
    assert re.fullmatch(r"kvraft: Missing argument '[^']+': see kvraft member \w+ --help\n", ran.stderr), ran.stderr
