"""Flags and variables: settings, or one line that names what is wrong."""

import contextlib
from collections.abc import Iterator
from typing import Final

from hypothesis import strategies as st

from kvraft.settings import flags, settings
from kvraft.settings.flag_table import FLAGS
from kvraft.settings.flags import SettingsError
from tests.fuzz.engine import Check, Target

HOSTS: Final = st.sampled_from(
    (
        "127.0.0.1",
        "localhost",
        "[::1]",
        "[::1%lo]",
        "0.0.0.0",
        "",
        "a_b",
        "x" * 300,
        "256.1.1.1",
        "[",
        "ä",
        "h@127.0.0.1",
    )
)
PORTS: Final = st.sampled_from(
    ("2379", "2380", "0", "-1", "65535", "65536", "", "http", "9" * 5000, "\u0661", "2379/", "1e3")
)
SCHEMES: Final = st.sampled_from(("http", "https", "unix", "HTTP", "", "ftp"))
URLS: Final = st.builds(
    lambda scheme, host, port: f"{scheme}://{host}:{port}", SCHEMES, HOSTS, PORTS
) | st.sampled_from(
    ("http://127.0.0.1:1?x", "http://127.0.0.1:1#x", "http://127.0.0.1", "127.0.0.1:1", "http:///", "//", "\x00")
)
LISTS: Final = st.lists(URLS, max_size=3).map(",".join)
CLUSTERS: Final = st.lists(
    st.builds(lambda name, url: f"{name}={url}", st.sampled_from(("n1", "n2", "", "default", "ä", "n=1")), URLS),
    max_size=4,
).map(",".join)
NUMBERS: Final = st.sampled_from(
    ("0", "1", "100", "1000", "-1", "50001", "1e3", "9" * 5000, "0x10", " 1", "1_000", "\u0663")
)
WORDS: Final = st.sampled_from(
    ("", "new", "existing", "true", "false", "n1", "*", "a\nb", "\x1b[31m", "data", "/", "..", "info")
)
VALUES: Final = st.one_of(URLS, LISTS, CLUSTERS, NUMBERS, WORDS, st.text(max_size=10))
NAMES: Final = st.sampled_from([*FLAGS, "peers", "unknown", "n", ""])
ARGUMENTS: Final = st.one_of(
    st.builds(lambda dash, name, value: f"{dash}{name}={value}", st.sampled_from(("-", "--")), NAMES, VALUES),
    st.builds(lambda name: f"--{name}", NAMES),
    VALUES,
    st.sampled_from(("--", "-", "---", "--=", "-=x", "--name=n1", "--initial-cluster=n1=http://127.0.0.1:2380")),
)
VARIABLES: Final = st.dictionaries(
    NAMES.map(lambda name: "ETCD_" + name.upper().replace("-", "_")) | st.just("etcd_name"),
    VALUES.map(lambda value: value.replace("\0", "")),
    max_size=4,
)
GOOD: Final = st.sampled_from(
    (
        [],
        ["--name=n1", "--initial-cluster=n1=http://127.0.0.1:2380"],
        ["--name", "n1", "--peers", "n1=http://127.0.0.1:2380,n2=http://127.0.0.1:2381"],
    )
)
INPUTS: Final = st.tuples(st.tuples(GOOD, st.lists(ARGUMENTS, max_size=5)).map(lambda two: two[0] + two[1]), VARIABLES)


@contextlib.contextmanager
def _open() -> Iterator[Check]:
    yield check


def check(given: tuple[list[str], dict[str, str]]) -> str:
    """Arguments and environment make settings, or a `SettingsError` of one printable line."""
    arguments, environment = given
    try:
        read = flags.read(arguments, environment)
        assert all(notice.isprintable() for notice in read.notices)
        made = settings.from_flags(read)
    except SettingsError as error:
        assert str(error).isprintable()
        return "refused"
    assert all(warning.isprintable() for warning in made.warnings)
    assert made.member_id
    assert made.cluster_id
    return "settings"


TARGET: Final = Target("settings", INPUTS, _open, frozenset({"refused", "settings"}))
