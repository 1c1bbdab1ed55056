"""How a proxy ends."""

import asyncio
import pathlib
from collections.abc import Callable

import pytest

from kvraft.proxy.cluster_file import ClusterFile
from kvraft.settings import proxy_flags
from kvraft.settings.flags import read
from kvraft.start import proxying, signals
from kvraft.start.exit_codes import EXIT_FAILURE
from kvraft.start.http_door import HttpDoor
from kvraft.start.listeners import bound
from tests.start.fake_cluster import FakeCluster


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
    wanted = proxy_flags.from_flags(
        read(["--proxy=on", "--initial-cluster=a=http://127.0.0.1:9", f"--data-dir={tmp_path}"], {})
    )
    with bound(()) as listeners:
        ended = proxying._run(wanted, listeners, (), proxying._Tls(wanted), ClusterFile(tmp_path), 1)
        assert asyncio.run(ended) == (0 if defect is None else EXIT_FAILURE)


def test_page_that_is_no_member_hides_none_behind_it() -> None:
    """Whatever answers 200 at the first URL, the members at the others are asked."""
    with FakeCluster() as page, FakeCluster(n1="http://10.0.0.1:2380") as cluster:
        told = asyncio.run(proxying._ask(HttpDoor(), (page.url, cluster.url)))
    assert told.peer_urls == ("http://10.0.0.1:2380",)
