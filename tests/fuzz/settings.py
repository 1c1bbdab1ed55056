"""Flags, variables and configuration files together: settings, or one line that names what is wrong.

What is tried is the whole command (`cli.main`) up to where it has its settings. An audit hook watches that nothing is
written, made, bound or dialled before.
"""

import atexit
import contextlib
import functools
import json
import os
import pathlib
import shutil
import sys
import tempfile
from collections.abc import Iterator
from typing import Any, Final, final
from unittest import mock

from hypothesis import strategies as st

from kvraft import cli, logs
from kvraft.founding import Identity
from kvraft.logs import LogSettings
from kvraft.settings import proxy_flags, settings
from kvraft.settings.flag_table import FLAGS
from kvraft.settings.flags import Given
from kvraft.settings.proxy_flags import ProxyFlags
from kvraft.settings.settings import Settings
from kvraft.start import data_directory, proxying, start
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
URLS: Final = (
    st.builds(lambda scheme, host, port: f"{scheme}://{host}:{port}", SCHEMES, HOSTS, PORTS)
    | st.sampled_from(
        ("http://127.0.0.1:1?x", "http://127.0.0.1:1#x", "http://127.0.0.1", "127.0.0.1:1", "http:///", "//", "\x00")
    )
    | st.builds(
        lambda user, host, port, path: f"http://{user}{host}:{port}{path}",
        st.sampled_from(("", "u@", "u:p@", ":@", "@")),
        HOSTS,
        PORTS,
        st.sampled_from(("/", "/t", "//", "/../..", "/v2/keys/t/", "/%zz", "/t?a=b#c", "/ä", "/t\n")),
    )
)
DOMAINS: Final = st.sampled_from(
    ("example.com", ".", "..", "a..b", ".a", "_x", "x" * 300, "ä.de", "a b", "a\nb", "127.0.0.1", "-", "*")
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
    ("", "new", "existing", "true", "false", "n1", "*", "a\nb", "\x1b[31m", "data", "/", "..", "info", "exit", "proxy")
)
VALUES: Final = st.one_of(URLS, LISTS, CLUSTERS, NUMBERS, WORDS, DOMAINS, st.text(max_size=10))
NAMES: Final = st.sampled_from([*FLAGS, "peers", "unknown", "n", ""])
ARGUMENTS: Final = st.one_of(
    st.builds(lambda dash, name, value: f"{dash}{name}={value}", st.sampled_from(("-", "--")), NAMES, VALUES),
    st.builds(lambda name: f"--{name}", NAMES),
    VALUES,
    st.sampled_from(("--help", "--version", "-h", "--put-back")),
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
        ["--discovery=http://127.0.0.1:2379/v2/keys/d/t", "--listen-peer-urls=http://127.0.0.1:2380"],
        ["--proxy=on", "--initial-cluster=default=http://127.0.0.1:2380"],
        ["--discovery-srv=example.com", "--initial-advertise-peer-urls=http://127.0.0.1:2380"],
    )
)
SCALARS: Final = st.one_of(
    VALUES,
    VALUES.map(repr),
    VALUES.map(lambda value: f'"{value}"'),
    st.sampled_from(("", "~", "true", "'off'", "5", "1e3", "0x10", "1:30", "2001-01-01", "[stderr, 5]", "{a: b}")),
    st.sampled_from(
        ("!!str 5", "!!python/object:os.system x", "&a x", "*a", "[*a, *a]", '"a\\0b"', "|\n  a\n  b", "[" * 200)
    ),
)
LINES: Final = st.one_of(
    st.builds(lambda key, value: f"{key}: {value}", NAMES, SCALARS),
    st.builds(
        lambda section, key, value: f"{section}:\n  {key}: {value}",
        st.sampled_from(("client-transport-security", "peer-transport-security", "name")),
        st.sampled_from(("cert-file", "client-cert-auth", "auto-tls", "unknown", "<<")),
        SCALARS,
    ),
    st.sampled_from(
        ("name: n1", "enable-v2: true", "# comment", "---", "...", "%YAML 1.1", "<<: *a", "- a", "\t", "a: &a [x]")
    ),
)
FILES: Final = st.one_of(
    st.none(),
    st.none(),
    st.lists(LINES, max_size=6).map(lambda lines: "\n".join(lines).encode("utf-8", "surrogatepass")),
    st.dictionaries(NAMES, VALUES | st.booleans() | st.integers()).map(lambda keys: json.dumps(keys).encode()),
    st.binary(max_size=40),
)
INPUTS: Final = st.tuples(
    st.tuples(GOOD, st.lists(ARGUMENTS, max_size=5)).map(lambda two: two[0] + two[1]), VARIABLES, FILES
)
_WRITES: Final = frozenset(
    {
        "os.chmod", "os.chown", "os.link", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.symlink",
        "os.truncate", "os.utime", "shutil.copyfile", "shutil.move", "shutil.rmtree", "socket.bind", "socket.connect",
        "subprocess.Popen",
    }
)  # fmt: skip
"""Of the events that Python tells an audit hook: what leaves a mark on the host."""


class _RightError(Exception):
    """The settings are right, and the start would go on from here."""


@final
class _Watch:
    """Whether anything is touched while this is on. There is one, as an audit hook stays for good."""

    def __init__(self) -> None:
        self.is_on = False
        sys.addaudithook(self._hear)

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.is_on:
            return
        is_writing = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        if is_writing or event in _WRITES:
            self.is_on = False
            raise AssertionError(f"touched before the settings are right: {event} {arguments!r:.200}")


@functools.cache
def _watch() -> _Watch:
    return _Watch()


@functools.cache
def _place() -> pathlib.Path:
    """Where a process that fuzzes keeps its file."""
    place = pathlib.Path(tempfile.mkdtemp(prefix="kvraft-fuzz-"))
    atexit.register(shutil.rmtree, place)
    return place


@contextlib.contextmanager
def _open() -> Iterator[Check]:
    yield check


def check(given: tuple[list[str], dict[str, str], bytes | None]) -> str:
    """The whole command, up to where its settings are right, or to one printable line; nothing is touched till then."""
    arguments, environment, data = given
    if data is not None:
        path = _place() / "c.yml"
        path.write_bytes(data)
        arguments = [*arguments, f"--config-file={path}"]
    lines: list[str] = []
    shown: list[str] = []
    settings_of_member, settings_of_proxy = settings.from_flags, proxy_flags.from_flags

    def show(text: str) -> int:
        shown.append(text)
        return 0

    def of_member(read: Given, stored: Identity | None = None) -> Settings:
        wanted = settings_of_member(read, stored)
        assert all(warning.isprintable() for warning in wanted.warnings)
        assert wanted.member_id
        assert wanted.cluster_id
        return wanted

    def of_proxy(read: Given) -> ProxyFlags:
        wanted = settings_of_proxy(read)
        assert all(warning.isprintable() for warning in wanted.warnings)
        return wanted

    def begin_log(read: Given, _: LogSettings) -> None:
        assert all(notice.isprintable() for notice in read.notices)
        raise _RightError

    def put_back(_path: pathlib.Path) -> str:
        raise _RightError

    with (
        mock.patch.object(logs, "last_words", lines.append),
        mock.patch.object(cli, "_print", show),
        mock.patch.object(settings, "from_flags", of_member),
        mock.patch.object(proxy_flags, "from_flags", of_proxy),
        mock.patch.object(start, "begin_log", begin_log),
        mock.patch.object(proxying, "begin_log", begin_log),
        mock.patch.object(data_directory, "put_back", put_back),
        # Python keeps what it has compiled beside the sources of the first start that needs them: no start's touch.
        mock.patch.object(sys, "dont_write_bytecode", new=True),
    ):
        watch = _watch()
        watch.is_on = True
        try:
            code = cli.main(arguments, environment)
        except _RightError:
            return "settings" if data is None else "settings of a file"
        finally:
            watch.is_on = False
    if shown:
        return "shown"
    [line] = lines
    assert line.isprintable(), line
    assert code == 1
    return "refused" if data is None else "refused file"


TARGET: Final = Target(
    "settings", INPUTS, _open, frozenset({"refused", "refused file", "settings", "settings of a file", "shown"})
)
