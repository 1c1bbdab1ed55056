"""What a message between members costs, beside as many bytes over a bare TCP stream of the same event loop."""

import os
import pathlib
import subprocess
import sys
from typing import Final

from bench.measured import Measured
from bench.scale import SCALE
from kvraft.testing.cluster import Program

TALK: Final = pathlib.Path(__file__).parent / "talk.py"
ROUND_TRIPS: Final = 20_000


def messages(_label: str, program: Program, _seconds: int) -> list[Measured]:
    """A round trip in microseconds, and its CPU at each side, the mean of both.

    etcd has no part of its own that could be measured alike: in its column stands the bare stream.
    """
    what = "bare" if program.kind == "etcd" else "kvraft"
    command = [*program.wrapper, sys.executable, str(TALK), what, str(SCALE.count(ROUND_TRIPS))]
    # A script's own directory is first on the path, and then this: the checkout in which the wrapper puts it.
    found = subprocess.run(command, env={**os.environ, "PYTHONPATH": "."}, check=True, capture_output=True, text=True)
    trip_us, *sides_us = map(float, found.stdout.split()[-3:])
    shown = ", ".join(f"{side:.0f}" for side in sides_us)
    return [Measured(trip_us, "asking and answering"), Measured(sum(sides_us) / 2, f"asking, answering: {shown}")]
