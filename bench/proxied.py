"""The same requests through `--proxy on` of either product, before the same single etcd."""

import pathlib
import re
import shutil
from typing import Final

from bench.fill import fill
from bench.load import cpu_us, wrk
from bench.measured import Measured
from bench.scale import SCALE
from kvraft.testing.cluster import Cluster, Member, Program
from tests.proxy.running import MINUTES, running

KEYS: Final = 10_000


def through_proxy(build: pathlib.Path, label: str, program: Program, seconds: int, connections: int) -> list[Measured]:
    """Reads and writes of 256 bytes a second, each with its p50 and p99; the proxy's CPU for each; its memory.

    etcd stands behind both: what differs is the proxy alone.
    """
    directory = build / label
    shutil.rmtree(directory, ignore_errors=True)
    with (
        Cluster(directory, size=1, kind="etcd") as cluster,
        running(cluster, program.kind, wrapper=program.wrapper, proxy_refresh_interval=MINUTES) as proxy,
    ):
        fill(cluster.members[0], SCALE.count(KEYS), 256)
        figures = []
        for script in ("get.lua", "put.lua"):
            before_us = cpu_us(proxy)
            count, rate = wrk(proxy, script, connections, seconds)
            figures += [rate, Measured((cpu_us(proxy) - before_us) / count, f"{count} requests")]
        return [*figures, Measured(peak_mb(proxy), "the most that was resident")]


def peak_mb(member: Member) -> float:
    """The most that a process has had in memory, files included."""
    status = pathlib.Path(f"/proc/{member.pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) / 1024
