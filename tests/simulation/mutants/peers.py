"""Planted bugs between members, which live outside the simulator. A unit test must fail with each."""

import dataclasses
from typing import Any

from kvraft.peer_frames import GreetingRefusalReason, GreetingRefused, PeerHello
from kvraft.transport import handshake
from kvraft.transport.handshake import Greeting
from kvraft.transport.lanes import OutboundQueue
from kvraft.transport.reports import Reports
from tests.simulation.mutants.planting import Mutant, wrapped


def _any_cluster(identity: Any, theirs: Greeting, ours: PeerHello) -> Any:
    hello = dataclasses.replace(theirs.hello, cluster_id=ours.cluster_id)
    return identity(dataclasses.replace(theirs, hello=hello), ours)


def _without_bound(push: Any, queue: OutboundQueue, frame: Any, frame_bytes: int) -> Any:
    queue._frames_max = queue._bytes_max = 1 << 62
    return push(queue, frame, frame_bytes)


def _any_history(identity: Any, theirs: Greeting, ours: PeerHello) -> Any:
    hello = dataclasses.replace(theirs.hello, founding=ours.founding)
    return identity(dataclasses.replace(theirs, hello=hello), ours)


def _stops_for_anybody(is_fatal: Any, reports: Reports, member_id: int, refusal: GreetingRefused) -> Any:
    return refusal.reason is GreetingRefusalReason.OTHER_HISTORY or is_fatal(reports, member_id, refusal)


MUTANTS = (
    Mutant(
        "M54",
        "talks to a member of another cluster",
        ("I17",),
        wrapped(handshake, "_identity", _any_cluster),
        test="tests/transport/test_handshake.py::test_a_greeting_that_cannot_be_meant_for_us_is_refused_with_a_remedy",
    ),
    Mutant(
        "M55",
        "queues for a slow peer without bound",
        ("I14",),
        wrapped(OutboundQueue, "push", _without_bound),
        test="tests/transport/test_links_and_lanes.py::test_a_queue_refuses_what_exceeds_its_bounds_and_keeps_what_it_has",
    ),
    Mutant(
        "M72",
        "compares indices with a member of another founding",
        ("I17",),
        wrapped(handshake, "_identity", _any_history),
        test="tests/transport/test_handshake.py::test_a_peer_of_another_founding_is_refused_with_both_histories",
    ),
    Mutant(
        "M73",
        "a majority stops for one member of another founding",
        ("I13", "I17"),
        wrapped(Reports, "_is_fatal", _stops_for_anybody),
        test="tests/transport/test_refusals.py::"
        "test_another_cluster_is_fatal_once_no_quorum_of_ones_own_can_be_left[founding]",
    ),
)
