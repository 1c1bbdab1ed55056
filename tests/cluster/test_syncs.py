"""What an acknowledgement costs the disks, seen from outside: strace counts the syncs of real members."""

import os
import re
import signal
import time
from pathlib import Path

import pytest

from kvraft.testing.cluster import Cluster, Program

WRITES = 100
_BEGUN = re.compile(r"^(\d+) +(\d+\.\d+) fdatasync\(\d+<(.*)> <unfinished \.\.\.>$")
_ENDED = re.compile(r"^(\d+) +(\d+\.\d+) <\.\.\. fdatasync resumed>.*= 0 <(\d+\.\d+)>$")
_WHOLE = re.compile(r"^(\d+) +(\d+\.\d+) fdatasync\(\d+<(.*)>\) += 0 <(\d+\.\d+)>$")


def _syncs_of_log(trace: Path) -> list[tuple[float, float]]:
    """When each sync of the log environment began and ended, by the wall clock."""
    begun: dict[str, tuple[float, str]] = {}
    found = []
    for line in trace.read_text().splitlines():
        if whole := _WHOLE.match(line):
            began, path = float(whole[2]), whole[3]
            found.append((began, began + float(whole[4]), path))
        elif start := _BEGUN.match(line):
            begun[start[1]] = (float(start[2]), start[3])
        elif end := _ENDED.match(line):
            began, path = begun.pop(end[1])
            found.append((began, began + float(end[3]), path))
    return [(began, ended) for began, ended, path in found if path.endswith("/log/data.mdb")]


@pytest.mark.slow
def test_each_acknowledged_write_was_synced_on_a_quorum(tmp_path: Path) -> None:
    """Sequential writes cannot share a batch: within each, at least two of three members begin and end a sync."""
    cluster = Cluster(tmp_path / "cluster")
    traces = {member.name: tmp_path / f"{member.name}.trace" for member in cluster.members}
    for member in cluster.members:
        trace = ["strace", "-f", "--seccomp-bpf", "-ttt", "-T", "-y", "-e", "trace=fdatasync"]
        member.program = Program(wrapper=(*trace, "-o", str(traces[member.name])))
    with cluster:
        leader = cluster.leader()
        spans = []
        for number in range(WRITES):
            began = time.time()
            answer = leader.http("PUT", "/v2/keys/a", form={"value": str(number)})
            assert answer.status in {200, 201}
            spans.append((began, time.time()))
        for member in cluster.members:  # not strace itself, which has lines to write yet
            (traced,) = Path(f"/proc/{member.pid}/task/{member.pid}/children").read_text().split()
            os.kill(int(traced), signal.SIGKILL)
            member.wait_exit()
    syncs = {name: _syncs_of_log(trace) for name, trace in traces.items()}
    first, last = spans[0][0], spans[-1][1]
    counts = {name: sum(first <= began and ended <= last for began, ended in each) for name, each in syncs.items()}
    print(f"{WRITES} sequential acknowledged writes; syncs of the log meanwhile: {counts}")
    # Which two is another matter each time: a follower that is late makes two writes durable at once.
    for began, acknowledged in spans:
        synced = [
            name for name, each in syncs.items() if any(began < start and end < acknowledged for start, end in each)
        ]
        assert len(synced) >= 2, f"a write was acknowledged with syncs on {synced} only"
