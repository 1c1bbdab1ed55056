import pytest

from kvraft.settings import flags, old_flags, settings
from kvraft.settings.flags import Given, SettingsError


def read(*arguments: str, **environment: str) -> Given:
    """What these arguments and variables are with URLs in the place of addresses."""
    return old_flags.as_urls(flags.read(arguments, environment))


def texts(given: Given) -> dict[str, str]:
    """The values."""
    return {name: value.text for name, value in given.values.items()}


def test_addresses_of_etcd_0_4_are_urls_of_2_3() -> None:
    """Each with a line that says what it is taken for."""
    given = read(
        "-addr=10.0.0.1:4001", "-bind-addr", "0.0.0.0:4001", "-peer-addr=10.0.0.1:7001", "--peer-bind-addr=[::1]:7001"
    )
    assert texts(given) == {
        "advertise-client-urls": "http://10.0.0.1:4001",
        "listen-client-urls": "http://0.0.0.0:4001",
        "initial-advertise-peer-urls": "http://10.0.0.1:7001",
        "listen-peer-urls": "http://[::1]:7001",
    }
    assert (
        given.notices[0]
        == "--addr=10.0.0.1:4001: it was etcd 0.4's, and is taken as --advertise-client-urls=http://10.0.0.1:4001"
    )
    made = settings.from_flags(given)
    assert [str(url) for url in made.listen_peer_urls] == ["http://[::1]:7001"]
    assert made.advertise_client_urls == ("http://10.0.0.1:4001",)


def test_address_alone_is_listened_at_on_every_interface() -> None:
    """As etcd 2.3 has it (`SetBindAddrFromAddr`): the port counts."""
    assert texts(read(ETCD_ADDR="10.0.0.1:4001", ETCD_PEER_ADDR="10.0.0.1:7001")) == {
        "advertise-client-urls": "http://10.0.0.1:4001",
        "listen-client-urls": "http://[::]:4001",
        "initial-advertise-peer-urls": "http://10.0.0.1:7001",
        "listen-peer-urls": "http://[::]:7001",
    }


def test_bound_address_alone_is_told_as_localhost() -> None:
    """Clients on this host find the port; etcd 2.3 told them its default ports, where nobody was."""
    assert texts(read("-bind-addr=127.0.0.1:5001")) == {
        "listen-client-urls": "http://127.0.0.1:5001",
        "advertise-client-urls": "http://localhost:5001",
    }


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["-addr=4001"], "--addr=4001: it has no port"),
        (["-addr=h:4001"], "--addr=h:4001: bad IP in address specification"),
        (["-addr=::1:4001"], "--addr=::1:4001: bad IP in address specification"),
        (["-addr=[10.0.0.1]:4001"], "--addr=[10.0.0.1]:4001: bad IP in address specification"),
        (["-addr=10.0.0.1:0"], "--addr=10.0.0.1:0: it has no port"),
        (["-addr=10.0.0.1:65536"], "--addr=10.0.0.1:65536: it has no port"),
        (["-addr=10.0.0.1:\u0661"], "it has no port"),
        (["-addr=http://10.0.0.1:4001"], "bad IP in address specification"),
        (
            ["-addr=10.0.0.1:4001", "--listen-client-urls=http://10.0.0.1:4001"],
            "--addr=10.0.0.1:4001: set only one of --listen-client-urls and --addr",
        ),
        (
            ["-peer-bind-addr=10.0.0.1:7001", "--listen-peer-urls=http://10.0.0.1:4001"],
            "--peer-bind-addr=10.0.0.1:7001: set only one of --listen-peer-urls and --peer-bind-addr",
        ),
        (["-peers-file=/p"], "--peers-file=/p: it was etcd 0.4's, and no longer etcd 2.3's: name the members"),
    ],
)
def test_wrong_address_is_one_line(arguments: list[str], line: str) -> None:
    """Flag, value, remedy."""
    with pytest.raises(SettingsError) as caught:
        read(*arguments)
    assert line in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "arguments",
    [
        ["-cluster-active-size", "9", "-name=n1"],
        ["-cluster-active-size=9", "-name=n1"],
        ["-config", "-name=n1"],
        ["-config", "/etc/etcd/etcd.conf", "-name", "n1"],
        ["-v", "-vv=2", "-name=n1", "-snapshot=maybe"],
    ],
)
def test_ignored_flag_takes_whatever_it_is_given_as(arguments: list[str]) -> None:
    """As etcd 2.3's, which are switches, and as etcd 0.4's, which had words behind them."""
    given = read(*arguments)
    assert texts(given) == {"name": "n1"}
    assert given.notices == ()


def test_listeners_of_later_3_4_are_further_ones() -> None:
    """`--listen-client-http-urls` came with etcd 3.4.25."""
    made = settings.from_flags(read("--listen-client-http-urls=http://127.0.0.1:2381"))
    assert [str(url) for url in made.listen_client_urls] == [
        "http://127.0.0.1:2379",
        "http://127.0.0.1:4001",
        "http://127.0.0.1:2381",
    ]
    with pytest.raises(SettingsError, match="expected IP in URL for binding"):
        settings.from_flags(read("--listen-client-http-urls=http://a.example:1"))
