"""Debian's `etcd-discovery`, which is behind discovery.etcd.io, from the package that `tools/deps programs` unpacked.

It reads one configuration file of a fixed name, so it gets an /etc of its own.
"""

import contextlib
import pathlib
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Final

from kvraft import clock
from kvraft.testing import leash, ports

PROGRAM: Final = (
    pathlib.Path(__file__).parents[2] / ".programs" / "etcd-discovery" / "usr" / "bin" / "discovery.etcd.io"
)
_READY_WITHIN_MS: Final = 20_000
_BIND: Final = 'mount --bind "$0" /etc && exec "$@"'


@contextlib.contextmanager
def running(directory: pathlib.Path, store_url: str) -> Iterator[str]:
    """The program, whose tokens are kept in a store; its URL, which is that before each token, too."""
    assert PROGRAM.exists(), f"{PROGRAM} is not there: run `tools/deps programs`"
    reserved = ports.reserve(1)
    [port] = reserved.ports
    url = f"http://{ports.LOOPBACK}:{port}"
    configuration = directory / "etc" / "etcd-discovery" / "etcd-discovery.conf"
    configuration.parent.mkdir(parents=True)
    configuration.write_text(
        f"[server]\nprefix_url={url}\nweb_service_address={ports.LOOPBACK}:{port}\n"
        f"[etcd]\nendpoint_location={store_url}\n"
    )
    words = ["unshare", "--mount", "--propagation", "private", "--", "sh", "-c", _BIND, str(directory / "etc")]
    with (directory / "etcd-discovery.log").open("wb") as log:
        process = subprocess.Popen([*words, str(PROGRAM)], stdout=log, stderr=log, start_new_session=True)
    leash.hold(process.pid)
    try:
        _wait_until_ready(process, url)
        yield url
    finally:
        leash.kill_group(process.pid)
        process.wait()
        leash.let_go(process.pid)
        reserved.release()


def _wait_until_ready(process: "subprocess.Popen[bytes]", url: str) -> None:
    deadline_ms = clock.monotonic_ms() + _READY_WITHIN_MS
    while True:
        with contextlib.suppress(urllib.error.URLError), urllib.request.urlopen(f"{url}/robots.txt", timeout=5):
            return
        assert clock.monotonic_ms() < deadline_ms, "etcd-discovery does not answer"
        with contextlib.suppress(subprocess.TimeoutExpired):
            raise AssertionError(f"etcd-discovery ended with {process.wait(0.05)}")
