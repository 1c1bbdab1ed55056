import dataclasses
import itertools
import logging
import pathlib

import pytest

from kvraft import ids
from kvraft.api_v2 import go_forms
from kvraft.api_v2.settings import ApiSettings
from kvraft.founding import Founder, Identity
from kvraft.keyspace import event_history
from kvraft.logs import LogSettings
from kvraft.member.settings import MemberSettings
from kvraft.raft.settings import RaftSettings
from kvraft.settings import config_file, flags, settings
from kvraft.settings.flags import SettingsError
from kvraft.settings.settings import Settings
from kvraft.transport.settings import TransportSettings

THREE = "n1=http://127.0.0.1:2380,n2=http://127.0.0.1:22380,n3=http://127.0.0.1:32380"


def read(*arguments: str, **environment: str) -> Settings:
    """The settings that these arguments and variables make."""
    return settings.from_flags(flags.read(arguments, environment))


def texts(urls: tuple[object, ...]) -> list[str]:
    """URLs as they were written."""
    return [str(url) for url in urls]


def test_bare_kvraft_serves_the_ports_of_bare_etcd_2_3() -> None:
    """Clients on 2379 and 4001, peers on 2380 and 7001, data in default.etcd, and etcd's own id for that."""
    bare = read()
    assert bare.name == "default"
    assert bare.data_dir == pathlib.Path.cwd() / "default.etcd"
    assert texts(bare.listen_client_urls) == ["http://127.0.0.1:2379", "http://127.0.0.1:4001"]
    assert texts(bare.listen_peer_urls) == ["http://127.0.0.1:2380", "http://127.0.0.1:7001"]
    assert bare.advertise_client_urls == ("http://localhost:2379", "http://localhost:4001")
    urls = ("http://localhost:2380", "http://localhost:7001")
    assert bare.initial_cluster == (Founder(0xCE2A822CEA30BFCA, "default", urls),)
    assert ids.text(bare.member_id) == "ce2a822cea30bfca"
    assert (bare.heartbeat_interval_ms, bare.election_timeout_ms) == (100, 1000)
    assert (bare.snapshot_count, bare.history_size) == (100_000, 100_000)
    assert (bare.initial_cluster_state, bare.initial_cluster_token) == ("new", "etcd-cluster")
    assert bare.cors == frozenset()
    assert bare.log == LogSettings()


def test_name_and_peers_are_enough_for_several_members_on_one_host() -> None:
    """Each listens for peers where its own entry says, and for clients one port below."""
    clients = {}
    for name in ("n1", "n2", "n3"):
        member = read("--name", name, "--peers", THREE, "--data-dir", f"data/{name}")
        clients[name] = texts(member.listen_client_urls)
        assert texts(member.listen_peer_urls) == [dict(p.split("=") for p in THREE.split(","))[name]]
        assert [one.name for one in member.initial_cluster] == ["n1", "n2", "n3"]
    assert clients == {
        "n1": ["http://127.0.0.1:2379", "http://127.0.0.1:4001"],
        "n2": ["http://127.0.0.1:22379"],
        "n3": ["http://127.0.0.1:32379"],
    }


def test_client_port_beside_a_peer_port_that_is_a_peer_port_must_be_given() -> None:
    """Peers on 2380, 2381: the second member's clients would get the first one's peer port."""
    peers = "n1=http://127.0.0.1:2380,n2=http://127.0.0.1:2381"
    with pytest.raises(SettingsError, match=r"would be 2380, which is the peer port of n1: give --listen-client-urls"):
        read("--name=n2", f"--peers={peers}")
    urls = "http://127.0.0.1:2479"
    given = read("--name=n2", f"--peers={peers}", f"--listen-client-urls={urls}", f"--advertise-client-urls={urls}")
    assert texts(given.listen_client_urls) == [urls]


def test_environment_file_of_a_systemd_unit_works_unchanged() -> None:
    """The variables of a 2.3 unit, quoted lists with blanks included."""
    member = read(
        ETCD_NAME="infra0",
        ETCD_DATA_DIR="/var/lib/etcd/infra0",
        ETCD_LISTEN_CLIENT_URLS="http://10.0.0.1:2379, http://127.0.0.1:2379",
        ETCD_ADVERTISE_CLIENT_URLS="http://infra0.example:2379",
        ETCD_LISTEN_PEER_URLS="http://10.0.0.1:2380",
        ETCD_INITIAL_ADVERTISE_PEER_URLS="http://infra0.example:2380",
        ETCD_INITIAL_CLUSTER="infra0=http://infra0.example:2380,infra1=http://infra1.example:2380",
        ETCD_INITIAL_CLUSTER_STATE="existing",
        ETCD_INITIAL_CLUSTER_TOKEN="t1",
        ETCD_HEARTBEAT_INTERVAL="50",
        ETCD_ELECTION_TIMEOUT="250",
        ETCD_SNAPSHOT_COUNT="5000",
        ETCD_CORS="http://a.example,https://b.example",
        ETCD_DEBUG="true",
    )
    assert member.data_dir == pathlib.Path("/var/lib/etcd/infra0")
    assert texts(member.listen_client_urls) == ["http://10.0.0.1:2379", "http://127.0.0.1:2379"]
    assert member.advertise_client_urls == ("http://infra0.example:2379",)
    assert member.initial_advertise_peer_urls == ("http://infra0.example:2380",)
    assert member.initial_cluster_state == "existing"
    assert (member.heartbeat_interval_ms, member.election_timeout_ms, member.snapshot_count) == (50, 250, 5000)
    assert member.cors == {"http://a.example", "https://b.example"}
    assert member.log.level == logging.DEBUG
    assert member.member_id == ids.member_id(["http://infra0.example:2380"], "t1")


def test_member_with_several_peer_urls_names_each() -> None:
    """A repeated name in --initial-cluster adds a URL, as in etcd."""
    both = "http://127.0.0.1:7001,http://127.0.0.1:2380"
    cluster = "--initial-cluster=n1=http://127.0.0.1:7001,n1=http://127.0.0.1:2380"
    member = read("--name=n1", cluster, f"--initial-advertise-peer-urls={both}")
    assert member.initial_advertise_peer_urls == ("http://127.0.0.1:2380", "http://127.0.0.1:7001")
    assert read(f"--initial-advertise-peer-urls={both}").member_id == member.member_id


def test_listening_everywhere_needs_only_the_advertised_urls() -> None:
    """0.0.0.0 is for listening; what the others are told is given beside it."""
    member = read(
        "--listen-client-urls=http://0.0.0.0:2379",
        "--advertise-client-urls=http://10.0.0.1:2379",
        "--listen-peer-urls=http://0.0.0.0:2380",
        "--initial-advertise-peer-urls=http://10.0.0.1:2380",
    )
    assert member.initial_advertise_peer_urls == ("http://10.0.0.1:2380",)
    assert member.listen_client_urls[0].bind_host == "0.0.0.0"


def test_ipv6_and_localhost_urls_are_served() -> None:
    """Brackets belong to the URL, not to the address; localhost is bound as 127.0.0.1."""
    listen = "http://[::1]:2379,http://[::ffff:10.0.0.1]:2379,http://localhost:4001"
    member = read(f"--listen-client-urls={listen}", "--advertise-client-urls=http://x:1")
    places = {url.bind_address for url in member.listen_client_urls}
    assert places == {"[::1]:2379", "10.0.0.1:2379", "127.0.0.1:4001"}


def test_cluster_across_hosts_with_clients_on_loopback_is_warned_of() -> None:
    """Syncing clients would be told localhost: allowed, as in etcd, but said."""
    assert read("--name=n1", "--peers=n1=http://10.0.0.1:2380,n2=http://10.0.0.2:2380").warnings
    assert not read("--name=n1", f"--peers={THREE}").warnings
    assert not read().warnings


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--initial-cluster=default=http://127.0.0.1:5,"], "default=http://127.0.0.1:5"),
        (["--initial-cluster=,default=http://127.0.0.1:5"], "default=http://127.0.0.1:5"),
        (["--initial-cluster=default=http://127.0.0.1:5,,b=http://127.0.0.1:9, "], "b=http://127.0.0.1:9 default="),
        (["--initial-cluster= default = http://127.0.0.1:5 , b =http://127.0.0.1:9"], "b=http://127.0.0.1:9 default="),
        (["--initial-cluster=default=HTTP://127.0.0.1:5"], "default=http://127.0.0.1:5"),
        (["--name=n1 ", "--initial-cluster=n1 =http://127.0.0.1:5"], "n1=http://127.0.0.1:5"),
        (["--initial-advertise-peer-urls=http://127.0.0.1:5,http://127.0.0.1:5"], "default=http://127.0.0.1:5"),
        (["--listen-peer-urls=http://127.0.0.1:5,http://127.0.0.1:5"], "default=http://127.0.0.1:5"),
    ],
)
def test_cluster_is_read_as_by_etcd_and_blanks_are_nothing(arguments: list[str], expected: str) -> None:
    """Commas too many come from scripts; the ids are those of the plain form."""
    cluster = read(*arguments).initial_cluster
    assert " ".join(f"{member.name}={member.peer_urls[0]}" for member in cluster).startswith(expected)
    assert [member.member_id for member in cluster] == [
        ids.member_id(member.peer_urls, "etcd-cluster") for member in cluster
    ]
    assert all(len(member.peer_urls) == 1 and member.peer_urls[0].startswith("http://") for member in cluster)


@pytest.mark.parametrize("scheme", ["http", "HTTP"])
def test_client_url_that_is_there_twice_is_listened_on_once(scheme: str) -> None:
    """And advertised twice, as by etcd."""
    twice = f"http://127.0.0.1:1,{scheme}://127.0.0.1:1"
    member = read(f"--listen-client-urls={twice}", f"--advertise-client-urls={twice}")
    assert texts(member.listen_client_urls) == ["http://127.0.0.1:1"]
    assert member.advertise_client_urls == ("http://127.0.0.1:1", "http://127.0.0.1:1")


def test_tls_of_a_proxy_in_front_may_be_advertised() -> None:
    """Where a proxy speaks TLS for the member."""
    member = read("--listen-client-urls=http://127.0.0.1:1", "--advertise-client-urls=https://n1.example:443")
    assert member.advertise_client_urls == ("https://n1.example:443",)
    assert member.warnings == ()


@pytest.mark.parametrize(
    ("text", "number"), [("0x64", 100), ("0144", 100), ("0o144", 100), ("1_00", 100), ("0b1100100", 100)]
)
def test_numbers_are_read_as_by_go(text: str, number: int) -> None:
    """Of every base that its flags know."""
    assert read(f"--heartbeat-interval={text}").heartbeat_interval_ms == number


def test_snapshot_count_of_0_is_the_default() -> None:
    """As for etcd (3.4.23 embed/config.go)."""
    assert read("--snapshot-count=0").snapshot_count == settings.SNAPSHOT_COUNT


@pytest.mark.parametrize(
    "pair",
    [
        ("http://0.0.0.0:5", "http://127.0.0.1:5"),
        ("http://10.0.0.1:5", "http://[::]:5"),
        ("http://[::]:5", "http://0.0.0.0:5"),
        ("http://localhost:5", "http://127.0.0.1:5"),
        ("http://[::1]:5", "http://[0:0:0:0:0:0:0:1]:5"),
        ("http://[::ffff:10.0.0.1]:5", "http://10.0.0.1:5"),
    ],
)
def test_own_urls_that_overlap_are_named_as_such(pair: tuple[str, str]) -> None:
    """Else the port were held by kvraft's own process, as the line said."""
    first, second = sorted(pair)
    for flag in ("listen-client-urls", "listen-peer-urls"):
        with pytest.raises(SettingsError) as caught:
            read(f"--{flag}={','.join(pair)}", "--advertise-client-urls=http://a:1")
        assert f": {first} and {second} cannot both be listened on, as one includes the other" in str(caught.value)
        assert str(caught.value).startswith(f"--{flag}=")
    with pytest.raises(SettingsError, match="is taken by the peers'"):
        read(f"--listen-client-urls={first}", f"--listen-peer-urls={second}", "--advertise-client-urls=http://a:1")


def test_same_port_of_two_addresses_is_fine() -> None:
    """Loopback of both families, say."""
    both = "http://127.0.0.1:5,http://[::1]:5"
    assert len(read(f"--listen-client-urls={both}", f"--advertise-client-urls={both}").listen_client_urls) == 2


@pytest.mark.parametrize("everywhere", ["http://0.0.0.0:5", "http://[::]:5", "http://[0:0::0]:5"])
def test_advertised_url_of_every_address_is_warned_of(everywhere: str) -> None:
    """Whoever follows it reaches itself. It is allowed, as in etcd."""
    clients = read(f"--listen-client-urls={everywhere}", f"--advertise-client-urls={everywhere},http://10.0.0.1:1")
    assert clients.warnings == (
        f"clients are told {everywhere}, which is each one's own host: "
        "give --advertise-client-urls an address of this host",
    )
    peers = read("--name=n1", f"--peers=n1={everywhere},n2=http://127.0.0.1:7")
    assert peers.warnings[-1:] == (
        f"members are told {everywhere}, which is each one's own host: "
        "give --initial-advertise-peer-urls and --initial-cluster an address of this host",
    )


def test_data_directory_is_whole_and_a_tilde_is_warned_of(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every line then says where it is."""
    monkeypatch.chdir(tmp_path)
    assert read("--data-dir=d").data_dir == tmp_path / "d"
    assert read("--data-dir=d/").data_dir == tmp_path / "d"
    assert read("--data-dir=/d/").warnings == ()
    tilde = read("--data-dir=~/d")
    assert tilde.data_dir == tmp_path / "~" / "d"
    assert tilde.warnings == (f"nobody expands the ~ of {tmp_path}/~/d: the data is in a directory of that very name",)


def test_data_directory_below_a_working_directory_that_is_gone_is_refused(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A whole path is still one."""
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(SettingsError, match=r"^--data-dir=d: d is relative, and the working directory cannot be read"):
        read("--data-dir=d")
    assert read("--data-dir=/d").data_dir == pathlib.Path("/d")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            ["--listen-client-urls=http://127.0.0.1:1"],
            "--listen-client-urls=http://127.0.0.1:1: --advertise-client-urls is required when",
        ),
        (
            ["--election-timeout=400"],
            "--election-timeout=400: --election-timeout[400ms] should be at least as 5 times as "
            "--heartbeat-interval[100ms]: set it to 500 or more",
        ),
        (["--heartbeat-interval=300"], "--heartbeat-interval=300: --election-timeout[1000ms] should be at least"),
        (["--election-timeout=50001"], "--election-timeout=50001: use a whole number from 1 to 50000"),
        (["--heartbeat-interval=0"], "--heartbeat-interval=0: use a whole number from 1 to 50000"),
        (["--heartbeat-interval=1e3"], "--heartbeat-interval=1e3: use a whole number"),
        (["--snapshot-count=-3"], "--snapshot-count=-3: use a whole number"),
        (["--snapshot-count=" + "9" * 5000], "--snapshot-count=999"),
        (["--snapshot-count=٣"], "--snapshot-count=٣: use a whole number"),
        (["--history-size=10"], "--history-size=10: use a whole number from 1000"),
        (["--initial-cluster-state=old"], "--initial-cluster-state=old: invalid value: use new or existing"),
        (["--name", ""], "--name=: it is empty, as from a variable that is not set"),
        (["--name", "", "--data-dir=/d"], "--name=: it is empty, as from a variable that is not set"),
        (["--join="], "--join=: it is empty, as from a variable that is not set"),
        (["--join=http://a:1", "--replace", " "], "--replace= : it is empty, as from a variable that is not set"),
        (
            ["--name=n1", "--peers="],
            "--peers=: it is empty, as from a variable that is not set: give a value, or leave",
        ),
        (
            ["--name=n1", "--peers=n1=http://127.0.0.1:2380,n1=http://127.0.0.1:2381"],
            "--peers=n1=http://127.0.0.1:2380,n1=http://127.0.0.1:2381: n1 stands there 2 times: give every member a",
        ),
        (
            ["--name=n9", f"--initial-cluster={THREE}"],
            '--name=n9: couldn\'t find local name "n9" in the initial cluster configuration: use one of n1, n2, n3',
        ),
        ([f"--initial-cluster={THREE}"], '--name: couldn\'t find local name "default"'),
        (
            ["--peers=127.0.0.1:7001,127.0.0.1:7002"],
            "--peers=127.0.0.1:7001,127.0.0.1:7002: this is etcd 0.4's form: name every member",
        ),
        (["--peers=n1=http://a:1,http://b:1"], "--peers=n1=http://a:1,http://b:1: 'http://b:1' has no name"),
        (["--peers=n1=http://a:1,=http://b:1"], "--peers=n1=http://a:1,=http://b:1: '=http://b:1' has no name"),
        (["--peers=, ,"], "--peers=, ,: it names no member: name every one, this one included, as in n1=http://host"),
        (
            ["--name=n1", "--peers=n1=http://1.1.1.1:1,n1=http://1.1.1.1:1"],
            "--peers=n1=http://1.1.1.1:1,n1=http://1.1.1.1:1: duplicate url http://1.1.1.1:1: give it once",
        ),
        (
            ["--name=n9", "--peers=n1 =http://1.1.1.1:1, n 2 =http://1.1.1.1:2"],
            "--name=n9: couldn't find local name \"n9\" in the initial cluster configuration: use one of 'n 2', n1",
        ),
        (["--peers=n1=a:1"], "--peers=n1=a:1: n1: URL scheme must be http or https: a:1"),
        (
            ["--name=n1", "--peers=n1=http://1.1.1.1:1,n2=http://1.1.1.1:1"],
            "--peers=n1=http://1.1.1.1:1,n2=http://1.1.1.1:1: duplicate url http://1.1.1.1:1: give n1 and n2 each its",
        ),
        (
            ["--name=n1", f"--peers={THREE}", "--initial-advertise-peer-urls=http://127.0.0.1:1"],
            "--initial-advertise-peer-urls=http://127.0.0.1:1: --initial-cluster has n1=http://127.0.0.1:2380: make",
        ),
        (
            ["--name=n1", "--peers=n1=http://n1.example:2380"],
            "--peers=n1=http://n1.example:2380: expected IP in URL for binding (http://n1.example:2380): "
            "give --listen-peer-urls an address of this host",
        ),
        (
            ["--listen-client-urls=http://c.example:1", "--advertise-client-urls=http://a:1"],
            "--listen-client-urls=http://c.example:1: expected IP in URL for binding",
        ),
        (["--listen-peer-urls=127.0.0.1:1"], "--listen-peer-urls=127.0.0.1:1: URL scheme must be http"),
        (["--listen-peer-urls=http://127.0.0.1"], "--listen-peer-urls=http://127.0.0.1: URL address does not have"),
        (["--listen-peer-urls=http://:80"], "--listen-peer-urls=http://:80: URL address does not have"),
        (["--listen-peer-urls=http://127.0.0.1:99999"], "--listen-peer-urls=http://127.0.0.1:99999: Port out of range"),
        (["--listen-peer-urls=http://127.0.0.1:0"], "--listen-peer-urls=http://127.0.0.1:0: URL must have a port"),
        (
            ["--listen-peer-urls=http://1.1.1.1:1/x"],
            "--listen-peer-urls=http://1.1.1.1:1/x: URL must not contain a",
        ),
        (["--listen-peer-urls=http://[::1:1"], "--listen-peer-urls=http://[::1:1: Invalid IPv6 URL"),
        (["--listen-peer-urls=unix://a:1"], "--listen-peer-urls=unix://a:1: Unix sockets are not served by this"),
        (
            ["--listen-peer-urls=http://1.1.1.1:1?x"],
            "--listen-peer-urls=http://1.1.1.1:1?x: URL must not contain a query",
        ),
        (
            ["--listen-peer-urls=http://1.1.1.1:1#x"],
            "--listen-peer-urls=http://1.1.1.1:1#x: URL must not contain a frag",
        ),
        (
            ["--listen-peer-urls=http://u@1.1.1.1:1"],
            "--listen-peer-urls=http://u@1.1.1.1:1: URL must not contain a user",
        ),
        (
            ["--listen-peer-urls=\x11http://a:1"],
            "--listen-peer-urls=\\x11http://a:1: URL must have no blanks or control",
        ),
        (["--name=n1", "--peers=n1=\x11http://a:1"], "--peers=n1=\\x11http://a:1: n1: URL must have no blanks or"),
        (["--advertise-client-urls=http://a\tb:1"], "--advertise-client-urls=http://a\\tb:1: URL must have no blanks"),
        (["--advertise-client-urls=http://a b:1"], "--advertise-client-urls=http://a b:1: URL must have no blanks or"),
        (["--listen-peer-urls=http://ñ:1"], "--listen-peer-urls=http://ñ:1: URL must be ASCII, international names in"),
        (["--listen-peer-urls=http://1.1.1.1:1,"], "--listen-peer-urls=http://1.1.1.1:1,: a URL is missing before or"),
        (["--listen-peer-urls= "], "--listen-peer-urls= : there is no URL (use http://host:port"),
        (
            ["--listen-client-urls=http://0.0.0.0:2380", "--advertise-client-urls=http://a:1"],
            "--listen-client-urls=http://0.0.0.0:2380: http://0.0.0.0:2380 is taken by the peers' http://127.0.0.1:2380",
        ),
        (["--cors=example.com"], "--cors=example.com: 'example.com' is no origin"),
        (["--log-level=loud"], "--log-level=loud: use debug, info, warn or error"),
        (["--name=a,b"], "--name=a,b: a name must be printable"),
        (["--name=a\nb"], "--name=a\\nb: a name must be printable"),
    ],
)
def test_wrong_setting_is_one_line_with_flag_value_and_remedy(arguments: list[str], line: str) -> None:
    """The line an operator gets, and nothing else."""
    with pytest.raises(SettingsError) as caught:
        read(*arguments)
    assert str(caught.value).startswith(line)
    assert str(caught.value).isprintable()


def test_wrong_variable_is_named_by_its_own_name() -> None:
    """What stands in the EnvironmentFile is what the line shows."""
    with pytest.raises(SettingsError, match=r"^ETCD_HEARTBEAT_INTERVAL=abc: use a whole number"):
        read(ETCD_HEARTBEAT_INTERVAL="abc")


def _restarted(stored: Identity, *arguments: str) -> Settings:
    """A later start on that member's data directory."""
    return settings.from_flags(flags.read(arguments, {}), stored)


def test_founders_on_disk_stand_in_for_every_initial_flag() -> None:
    """After the first start `--name` is enough; it listens for peers where its founder's entry says."""
    first = read("--name", "n2", "--peers", THREE, "--initial-cluster-token", "t")
    again = _restarted(first.identity, "--name", "n2")
    assert again.identity == first.identity
    assert texts(again.listen_peer_urls) == texts(first.listen_peer_urls)
    assert texts(again.listen_client_urls) == texts(first.listen_client_urls)
    assert again.warnings == ()
    alone = read("--listen-peer-urls=http://127.0.0.1:7")
    assert texts(_restarted(alone.identity).listen_peer_urls) == ["http://127.0.0.1:7"]


def test_empty_flag_says_nothing_to_a_member_with_data() -> None:
    """As in etcd, and in a file too; but where its name says where its data is, it must have one."""
    first = read("--name", "n2", "--peers", THREE)
    empty = ("--name=", "--initial-cluster= ", "--join=", "--replace=")
    again = _restarted(first.identity, "--data-dir=/d", *empty)
    assert again == _restarted(first.identity, "--data-dir=/d")
    assert (again.name, again.warnings) == ("n2", ())
    file = config_file.read("c.yml", b"name: ''\ninitial-cluster: ''\ndata-dir: /d", flags.read((), {}))
    assert settings.from_flags(file, first.identity) == again
    with pytest.raises(SettingsError, match=r"^--name=: it is empty"):
        settings.data_dir(flags.read(["--name="], {}))


@pytest.mark.parametrize(
    ("flag", "held"),
    [
        (f"--initial-cluster={THREE.replace('22380', '22381')}", THREE),
        ("--peers=nonsense", THREE),
        ("--initial-cluster-token=other", "etcd-cluster"),
        ("--initial-advertise-peer-urls=http://127.0.0.1:22381", "http://127.0.0.1:22380"),
        ("--initial-advertise-peer-urls=nonsense", "http://127.0.0.1:22380"),
    ],
)
def test_initial_flag_that_differs_from_the_disk_is_named_and_changes_nothing(flag: str, held: str) -> None:
    """One line with both values, as an operator who thinks the flag counts must hear of it."""
    first = read("--name", "n2", "--peers", THREE)
    again = _restarted(first.identity, "--name=n2", flag)
    assert again.identity == first.identity
    assert again.warnings == (
        f"{again.data_dir} keeps what its cluster was founded with, so these change nothing: {flag} (in force: {held})",
    )


def test_initial_flags_that_say_what_the_disk_says_are_not_mentioned() -> None:
    """In any order; and `new` stays in the unit file for good."""
    first = read("--name", "n2", "--peers", THREE)
    turned = ",".join(reversed(THREE.split(",")))
    own = "--initial-advertise-peer-urls=http://127.0.0.1:22380"
    assert (
        _restarted(first.identity, "--name=n2", f"--peers={turned}", own, "--initial-cluster-state=new").ignored == ()
    )


SWAPPED = [
    # Only the name is left in the unit file, and another member has it.
    ["--name=n1"],
    ["--name=n1", f"--peers={THREE}"],
    ["--name=n1", "--listen-peer-urls=http://0.0.0.0:2380"],
    # A new name, with the URL of another member.
    ["--name=n9", "--initial-advertise-peer-urls=http://127.0.0.1:2380"],
    ["--name=n9", f"--peers={THREE.replace('n1', 'n9')}"],
    ["--name=n9", "--listen-peer-urls=http://127.0.0.1:2380"],
    ["--initial-advertise-peer-urls=http://127.0.0.1:2380"],
]
RENAMED = [
    ["--name=n9"],
    ["--name=n9", f"--peers={THREE}"],
    ["--name=n9", f"--peers={THREE.replace('n2', 'n9')}"],
    ["--name=n9", "--listen-peer-urls=http://0.0.0.0:22380"],
    # Two hosts exchange their names, and keep their addresses.
    ["--name=n1", "--initial-advertise-peer-urls=http://127.0.0.1:22380"],
    ["--name=n1", "--peers=" + THREE.replace("n1", "nX").replace("n2", "n1").replace("nX", "n2")],
]


@pytest.mark.parametrize("arguments", SWAPPED)
def test_data_of_another_member_is_refused_with_both_ids_and_urls(arguments: list[str]) -> None:
    """Two members' disks were swapped: a name that another member has, or another member's URL, shows it."""
    first = read("--name", "n2", "--peers", THREE)
    other = read("--name", "n1", "--peers", THREE)
    with pytest.raises(SettingsError) as caught:
        _restarted(first.identity, "--data-dir=/d", *arguments)
    line = str(caught.value)
    assert f"the data directory /d is that of member {ids.text(first.member_id)} ('n2', http://127.0.0.1:22380)" in line
    assert f"those of {ids.text(other.member_id)} (http://127.0.0.1:2380): give each member its own --data-dir" in line
    assert line.startswith("--name")


@pytest.mark.parametrize("arguments", RENAMED)
def test_new_name_of_a_member_is_taken_and_said(arguments: list[str]) -> None:
    """Hosts are renamed: who the member is does not change, and where it listens for peers does not either."""
    first = read("--name", "n2", "--peers", THREE)
    again = _restarted(first.identity, *arguments)
    name = arguments[0].partition("=")[2]
    assert (again.name, again.member_id, again.cluster_id) == (name, first.member_id, first.cluster_id)
    assert again.initial_cluster == first.initial_cluster
    assert again.initial_advertise_peer_urls == first.initial_advertise_peer_urls
    assert again.warnings == (f"this member was 'n2' and is {name!r} from now on, as --name says",)
    assert _restarted(again.identity, *arguments).warnings == ()


def test_member_keeps_its_name_when_none_is_given() -> None:
    """It is no new one to be called `default`."""
    first = read("--name", "n2", "--peers", THREE)
    assert _restarted(first.identity).name == "n2"


def test_data_older_than_the_record_of_founders_takes_them_from_the_flags() -> None:
    """As every start did before; storage compares the ids."""
    first = read("--name", "n2", "--peers", THREE)
    older = Identity(first.cluster_id, first.member_id, "n2")
    assert _restarted(older, "--name", "n2", "--peers", THREE).identity == first.identity


def test_ids_agree_between_members_whatever_the_order_of_the_flag() -> None:
    """Every member computes the same cluster id from the same names."""
    orders = [",".join(order) for order in itertools.permutations(THREE.split(","))]
    assert len({read("--name=n1", f"--peers={order}").cluster_id for order in orders}) == 1


def test_limits_of_the_table_are_those_that_the_rooms_enforce() -> None:
    """The table in settings.py is the one an operator reads; a room's own default must not drift from it."""
    limits = settings.Limits()
    assert limits.request_line_bytes_max == ApiSettings().request_line_bytes_max
    assert limits.header_bytes_max == ApiSettings().header_bytes_max
    assert limits.headers_max == ApiSettings().headers_max
    assert limits.connections_max == ApiSettings().connections_max
    assert limits.waiting_requests_max == MemberSettings().waiting_requests_max
    assert (
        limits.uncommitted_bytes_max == RaftSettings().uncommitted_bytes_max == MemberSettings().uncommitted_bytes_max
    )
    assert limits.unread_bytes_max == ApiSettings().unread_bytes_max
    assert limits.strangers_max == TransportSettings().strangers_max
    assert limits.unfinished_bytes_max == ApiSettings().unfinished_bytes_max


def test_limits_of_the_table_are_those_that_operators_are_told() -> None:
    """docs/operations.md has a row for each, with its figure."""
    rows = (pathlib.Path(__file__).parents[2] / "docs" / "operations.md").read_text().splitlines()
    assert f"| body of a request | {go_forms.FORM_BYTES_MAX >> 20} MiB |" in "\n".join(rows)
    for name, value in dataclasses.asdict(settings.Limits()).items():
        [row] = [row for row in rows if f"(`{name}`)" in row]
        if name.endswith("_bytes_max"):
            mebibytes, rest = divmod(value, 1 << 20)
            figure = f"{mebibytes} MiB" + (f" and {rest >> 10} KiB" if rest else "")
        else:
            figure = f"{value:,}"
        assert row.split("|")[2].strip() == figure


def test_defaults_of_the_rooms_are_those_of_the_flags() -> None:
    """What `--help` says is what a member built without flags does."""
    bare = read()
    member, raft = MemberSettings(), RaftSettings()
    assert bare.heartbeat_interval_ms == member.heartbeat_interval_ms == raft.heartbeat_interval_ms
    assert bare.election_timeout_ms == member.election_timeout_ms == raft.election_timeout_ms
    assert bare.snapshot_count == member.snapshot_count
    assert bare.history_size == member.history_events_max == event_history.EVENTS_MAX
    assert ApiSettings().server_version == settings.ETCD_VERSION


def test_nothing_is_written_while_settings_are_read(tmp_path: pathlib.Path) -> None:
    """The data directory is only a name until the member opens it."""
    read(f"--data-dir={tmp_path}/d", "--name=n1", f"--peers={THREE}")
    assert list(tmp_path.iterdir()) == []


def test_hosts_are_any_unless_named() -> None:
    """Blanks beside commas are nothing; an empty list and `*` let all through, as in etcd."""
    assert read().hosts == read("--host-whitelist=*").hosts == read("--host-whitelist=,").hosts == {"*"}
    assert read("--host-whitelist=a.example, b.example").hosts == {"a.example", "b.example"}


def test_metrics_have_listeners_of_their_own() -> None:
    """IP addresses and ports that nobody else has."""
    assert texts(read("--listen-metrics-urls=http://127.0.0.1:1,http://[::1]:1").listen_metrics_urls) == [
        "http://127.0.0.1:1",
        "http://[::1]:1",
    ]
    for url, line in (
        ("http://127.0.0.1:2379", "http://127.0.0.1:2379 is taken by http://127.0.0.1:2379: give the metrics another"),
        ("http://0.0.0.0:2380", "http://0.0.0.0:2380 is taken by http://127.0.0.1:2380"),
        ("http://0.0.0.0:1,http://127.0.0.1:1", "cannot both be listened on"),
        ("http://a.example:1", "expected IP in URL for binding"),
    ):
        with pytest.raises(SettingsError) as caught:
            read(f"--listen-metrics-urls={url}")
        assert str(caught.value).startswith(f"--listen-metrics-urls={url}: ")
        assert line in str(caught.value)


def test_profiles_are_served_if_asked_for() -> None:
    """By the switch that etcd has for it."""
    assert not read().profiles
    assert read("--enable-pprof").profiles


def test_log_has_a_directory_of_its_own_if_one_is_named() -> None:
    """Absolute, as the data directory is; a NUL, which YAML can write, is no path."""
    assert read().wal_dir is None
    assert read("--wal-dir=wal").wal_dir == pathlib.Path.cwd() / "wal"
    for flag in ("wal-dir", "data-dir"):
        with pytest.raises(SettingsError, match="a path has no NUL"):
            read(f"--{flag}=a\0b")
