"""How a proxy ends."""

import asyncio
import pathlib
from collections.abc import Callable

import pytest

from kvraft.proxy.cluster_file import ClusterFile
from kvraft.settings import proxy_flags
from kvraft.settings.flags import Given, SettingsError, read
from kvraft.settings.proxy_flags import ProxyFlags
from kvraft.start import discovering, proxying, signals
from kvraft.start.exit_codes import EXIT_FAILURE
from kvraft.start.http_door import HttpDoor
from kvraft.start.listeners import bound
from tests.start.fake_cluster import FakeCluster

MEMBER = "http://127.0.0.1:9"
OTHER = "http://127.0.0.1:8"


def _wanted(data_dir: pathlib.Path, *arguments: str) -> ProxyFlags:
    return proxy_flags.from_flags(_given(data_dir, *arguments))


def _given(data_dir: pathlib.Path, *arguments: str) -> Given:
    return read(["--proxy=on", f"--data-dir={data_dir}", *arguments], {})


def _known(file: ClusterFile, *arguments: str, peer_urls: tuple[str, ...] = ()) -> tuple[str, ...]:
    given = _given(file.directory.parent, *arguments)
    return proxying._known(given, proxy_flags.from_flags(given), file, peer_urls)


@pytest.mark.parametrize("defect", [ValueError("a defect"), None])
def test_defect_before_anybody_is_served_is_a_failure(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, defect: ValueError | None
) -> None:
    """A service manager starts it again then, and not after it was told to stop."""
    stops: list[Callable[[], None]] = []

    def take(_loop: object, stop: Callable[[], None], _hang_up: object) -> None:
        stops.append(stop)

    async def serve(*_: object) -> None:
        loop = asyncio.get_running_loop()
        if defect is None:
            loop.call_soon(stops[0])
        else:
            loop.call_exception_handler({"message": "in a callback", "exception": defect})
        await asyncio.Event().wait()

    monkeypatch.setattr(signals, "take", take)
    monkeypatch.setattr(proxying, "serve", serve)
    wanted = _wanted(tmp_path, "--initial-cluster=a=http://127.0.0.1:9")
    with bound(()) as listeners:
        ended = proxying._run(wanted, listeners, (), proxying._Tls(wanted), ClusterFile(tmp_path), 1)
        assert asyncio.run(ended) == (0 if defect is None else EXIT_FAILURE)


def test_page_that_is_no_member_hides_none_behind_it() -> None:
    """Whatever answers 200 at the first URL, the members at the others are asked."""
    with FakeCluster() as page, FakeCluster(n1="http://10.0.0.1:2380") as cluster:
        told = asyncio.run(proxying._ask(HttpDoor(), (page.url, cluster.url)))
    assert told.peer_urls == ("http://10.0.0.1:2380",)


def test_what_a_flag_names_is_not_kept_before_a_member_has_told(tmp_path: pathlib.Path) -> None:
    """A slip in it is corrected by correcting it; the directory is a proxy's from then on, as with etcd."""
    file = ClusterFile(tmp_path / "d")
    for url in (OTHER, MEMBER):
        assert _known(file, f"--initial-cluster=a={url}") == (url,)
        assert file.read() is None
    assert file.directory.is_dir()


def test_what_was_found_out_is_kept_at_once(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A discovery service need not be there for the next start, and a cluster need not be full again."""
    monkeypatch.setattr(discovering, "members_urls", lambda _: (MEMBER,))
    discovered, fallen_back = ClusterFile(tmp_path / "d"), ClusterFile(tmp_path / "f")
    asking = "--discovery=http://127.0.0.1:7/v2/keys/discovery/t"
    assert _known(discovered, asking) == (MEMBER,)
    assert _known(fallen_back, asking, peer_urls=(OTHER,)) == (OTHER,)
    assert (discovered.read(), fallen_back.read()) == ((MEMBER,), (OTHER,))


@pytest.mark.parametrize("url", ["http://127.0.0.1:x", "http://[::1", "http://127.0.0.1:99999", "http://a\n:1"])
def test_file_that_names_no_member_is_refused_with_a_line(url: str, tmp_path: pathlib.Path) -> None:
    """Whoever has edited it."""
    file = ClusterFile(tmp_path)
    file.write([url])
    with pytest.raises(
        SettingsError, match=r"it does not hold the members' peer URLs \(.*\): remove it, and"
    ) as refused:
        _known(file)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("url", ["http://127.0.0.1:x", "http://[::1", "http://127.0.0.1:99999"])
def test_what_is_no_url_hides_no_member_behind_it(url: str) -> None:
    """Wherever it comes from."""
    with FakeCluster(n1=MEMBER) as cluster:
        told = asyncio.run(proxying._ask(HttpDoor(), (url, cluster.url)))
    assert told.peer_urls == (MEMBER,)
