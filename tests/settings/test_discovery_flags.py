"""Flags, variables and keys of discovery."""

from typing import Final

import pytest

from kvraft import ids
from kvraft.founding import Founder, Identity
from kvraft.settings import config_file, flags, settings
from kvraft.settings.flags import SettingsError
from kvraft.settings.settings import Settings

URL: Final = "http://d:2379/v2/keys/discovery/t"
OWN: Final = "--initial-advertise-peer-urls=http://10.0.0.1:2380"


def read(*arguments: str, **environment: str) -> Settings:
    """The settings that these flags and variables give a member with an empty directory."""
    return settings.from_flags(flags.read(arguments, environment))


def test_member_is_alone_until_the_others_are_known() -> None:
    """Its id is made with the URL in the place of the cluster's token, as etcd makes it."""
    wanted = read("--name=n1", OWN, f"--discovery={URL}")
    assert wanted.discovery.url == URL
    assert wanted.discovery.falls_back
    assert wanted.member_id == ids.member_id(["http://10.0.0.1:2380"], URL)
    assert [member.name for member in wanted.members] == ["n1"]
    assert str(wanted.listen_peer_urls[0]) == "http://10.0.0.1:2380"


@pytest.mark.parametrize("flag", [f"--discovery={URL}", "--discovery-srv=example.com"])
def test_empty_initial_cluster_is_no_other_way_to_name_the_members(flag: str) -> None:
    """As in etcd; without either, there is nothing to go by."""
    assert read(flag, OWN, "--initial-cluster=") == read(flag, OWN)
    with pytest.raises(SettingsError, match=r"^--initial-cluster=: it is empty"):
        read(OWN, "--initial-cluster=", "--discovery=", "--discovery-srv=")


def test_srv_leaves_the_token_to_the_operator() -> None:
    """It is the same on all members."""
    wanted = read(OWN, "--discovery-srv=example.com.", "--discovery-srv-name=blue", "--initial-cluster-token=t")
    assert (wanted.discovery.domain, wanted.discovery.service_name) == ("example.com", "blue")
    assert wanted.initial_cluster_token == "t"
    assert not wanted.discovery.url
    assert not wanted.discovery.may_fall_back


def test_every_flag_is_a_variable_and_a_key_too() -> None:
    """As in a unit of CoreOS and in etcd's configuration file."""
    by_variables = read(
        ETCD_DISCOVERY=URL, ETCD_DISCOVERY_PROXY="p:3128", ETCD_DISCOVERY_FALLBACK="exit", ETCD_NAME="n1"
    ).discovery
    data = f"name: n1\ndiscovery: {URL}\ndiscovery-proxy: 'p:3128'\ndiscovery-fallback: 'exit'\n".encode()
    by_file = settings.from_flags(config_file.read("f", data, flags.read([], {}))).discovery
    for found, source in ((by_variables, f"ETCD_DISCOVERY={URL}"), (by_file, f"f:2: discovery: {URL}")):
        assert (found.url, found.proxy, found.falls_back) == (URL, "http://p:3128", False)
        assert found.source == source
    assert read(ETCD_DISCOVERY_SRV="e.com", ETCD_DISCOVERY_SRV_NAME="b").discovery.service_name == "b"


def test_default_of_etcd_spelled_out_is_no_wish() -> None:
    """Its sample configuration file has it."""
    wanted = read("--discovery-fallback=proxy", "--discovery=", "--discovery-srv=", "--discovery-proxy=")
    assert not wanted.discovery.is_wanted
    assert wanted.warnings == ()


def test_member_that_may_become_a_proxy_needs_no_advertised_urls() -> None:
    """etcdmain/config.go, `mayBeProxy`: etcd's default is advertised then."""
    listen = "--listen-client-urls=http://0.0.0.0:2379"
    assert read(listen, f"--discovery={URL}").advertise_client_urls == ("http://localhost:2379",)
    for others in (["--discovery-fallback=exit", f"--discovery={URL}"], ["--discovery-srv=e.com"]):
        with pytest.raises(SettingsError, match="--advertise-client-urls is required"):
            read(listen, *others)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            ["--initial-cluster=default=http://a:1", f"--discovery={URL}"],
            f'--discovery={URL}: multiple discovery or bootstrap flags are set: choose one of "initial-cluster", '
            '"discovery" or "discovery-srv"',
        ),
        (
            ["--discovery-srv=e.com", f"--discovery={URL}"],
            "--discovery-srv=e.com: multiple discovery or bootstrap flags are set",
        ),
        (["--discovery=d"], "--discovery=d: discovery: invalid URL: its scheme must be http or https: write it as"),
        (["--discovery=ftp://d/t"], "--discovery=ftp://d/t: discovery: invalid URL: its scheme must be"),
        (["--discovery=http:///t"], "--discovery=http:///t: discovery: invalid URL: it has no host"),
        (["--discovery=http://d"], "--discovery=http://d: discovery: invalid URL: it has no token"),
        (["--discovery=http://d/"], "--discovery=http://d/: discovery: invalid URL: it has no token"),
        (["--discovery=http://d:x/t"], "--discovery=http://d:x/t: Port could not be cast to integer value"),
        (["--discovery=http://d:0/t"], "--discovery=http://d:0/t: there is no port 0"),
        (["--discovery=http://d /t"], "--discovery=http://d /t: it has blanks, control characters or letters"),
        (
            ["--discovery=http://u:secret@d/t"],
            "--discovery=http://u:...@d/t: discovery: invalid URL: it must not contain a user",
        ),
        (["--discovery-proxy=https://p:1"], "--discovery-proxy=https://p:1: invalid proxy address"),
        (["--discovery-proxy=http://"], "--discovery-proxy=http://: invalid proxy address"),
        (["--discovery-srv=a..b"], "--discovery-srv=a..b: it is no domain name"),
        (["--discovery-srv=."], "--discovery-srv=.: it is no domain name"),
        (["--discovery-srv=\u00e4.de"], "--discovery-srv=\u00e4.de: it is no domain name"),
        (["--discovery-fallback=off"], "--discovery-fallback=off: invalid value: use exit or proxy"),
        (
            [f"--discovery={URL}", "--initial-cluster-state=existing"],
            f"--discovery={URL}: discovery URL should not be set when joining existing initial cluster",
        ),
        (
            [f"--discovery={URL}", "--join=http://a:1", OWN],
            "--join=http://a:1: it adds a member to a cluster that runs, and --discovery founds one",
        ),
        (
            [f"--discovery={URL}", "--listen-peer-urls=http://0.0.0.0:2380"],
            "--listen-peer-urls=http://0.0.0.0:2380: members would be told http://0.0.0.0:2380, which is",
        ),
    ],
)
def test_wrong_flag_is_one_line_that_says_what_to_do(arguments: list[str], line: str) -> None:
    """Before anybody is asked."""
    with pytest.raises(SettingsError) as caught:
        read(*arguments)
    assert str(caught.value).startswith(line)
    assert str(caught.value).isprintable()


def test_flag_that_says_something_about_another_is_named_without_it() -> None:
    """It is ignored, as by etcd."""
    assert read("--discovery-proxy=http://u:secret@p:1", "--discovery-srv-name=blue").warnings == (
        "--discovery-proxy=http://u:...@p:1 changes nothing without --discovery",
        "--discovery-srv-name=blue changes nothing without --discovery-srv",
    )
    assert read(f"--discovery={URL}", "--initial-cluster-token=t").warnings == (
        "--initial-cluster-token=t changes nothing: the URL of --discovery takes its place",
    )


@pytest.mark.parametrize("flag", [f"--discovery={URL}", "--discovery-srv=example.com"])
def test_member_with_data_ignores_discovery_and_says_so(flag: str) -> None:
    """In the words of etcd; what its data was founded with stays in force."""
    is_srv = flag != f"--discovery={URL}"
    urls = ("http://n1.example.com:2380" if is_srv else "http://10.0.0.1:2380",)
    own = Founder(ids.member_id(urls, URL), "n1", urls)
    stored = Identity(7, own.member_id, "n1", URL, (own,))
    wanted = settings.from_flags(flags.read(["--name=n1", "--data-dir=/d", flag, OWN], {}), stored)
    said = f"{flag} is ignored since a cluster has already been initialized: /d holds a member's data"
    assert wanted.members == (own,)
    assert said in wanted.warnings
    assert not any("initial-advertise-peer-urls" in line for line in wanted.warnings)
    assert [str(url) for url in wanted.listen_peer_urls] == ["http://10.0.0.1:2380"]
