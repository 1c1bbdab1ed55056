"""Commands in log entries: bytes are refused, or they are a command that every keyspace can apply."""

import contextlib
from collections.abc import Iterator
from typing import Any, Final

import msgpack
from hypothesis import strategies as st

from kvraft.keyspace.command_codec import CommandError, decode_command, encode_command
from kvraft.keyspace.keyspace import Keyspace
from tests.fuzz.damage import U64, damaged
from tests.fuzz.engine import Check, Target

PATHS: Final = st.sampled_from((b"/", b"/a", b"/a/b", b"/a/b/c", b"/_h", b"/b", b"/\xff\0", b"a", b"")) | st.binary(
    max_size=8
)
PLAUSIBLE_PATHS: Final = st.sampled_from((b"/", b"/a", b"/a/b", b"/a/b/c", b"/_h/x", b"/b", b"/\xff\0"))
VALUES: Final = st.sampled_from((b"", b"x", b"\xff", b'"')) | st.binary(max_size=8)
TTLS: Final = st.sampled_from((-1, 0, 1, 60)) | U64
EXPIRATIONS: Final = st.sampled_from((0, 1)) | U64
INDICES: Final = st.integers(0, 30) | U64
FLAGS: Final = st.booleans()
CONDITIONS: Final = st.none() | VALUES
TEXTS: Final = st.text(max_size=6)

PLAUSIBLE: Final[st.SearchStrategy[tuple[Any, ...]]] = st.one_of(
    st.tuples(st.sampled_from((1, 2)), PLAUSIBLE_PATHS, VALUES, FLAGS, TTLS, EXPIRATIONS, FLAGS),
    st.tuples(st.just(3), PLAUSIBLE_PATHS, VALUES, FLAGS, TTLS, EXPIRATIONS),
    st.tuples(st.just(4), PLAUSIBLE_PATHS, VALUES, TTLS, EXPIRATIONS, FLAGS),
    st.tuples(st.just(5), PLAUSIBLE_PATHS, VALUES, CONDITIONS, INDICES, TTLS, EXPIRATIONS, FLAGS),
    st.tuples(st.just(6), PLAUSIBLE_PATHS, FLAGS, FLAGS),
    st.tuples(st.just(7), PLAUSIBLE_PATHS, CONDITIONS, INDICES),
    st.tuples(st.just(8)),
    st.tuples(st.just(9), U64, TEXTS, st.lists(TEXTS, max_size=3)),
    st.tuples(st.just(10), TEXTS),
    st.tuples(st.just(11), INDICES),
)
ANY_ITEM: Final = st.one_of(
    PATHS, VALUES, U64, st.integers(-(2**63), -1), FLAGS, st.none(), TEXTS, st.floats(), st.lists(TEXTS, max_size=2)
)


@st.composite
def twisted(draw: st.DrawFn) -> tuple[Any, ...]:
    """A command with one field replaced by something of any type, or one too many or too few."""
    items = list(draw(PLAUSIBLE))
    at = draw(st.integers(0, len(items) - 1))
    match draw(st.sampled_from(("replace", "drop", "add"))):
        case "replace":
            items[at] = draw(ANY_ITEM)
        case "drop":
            del items[at]
        case _:
            items.insert(at, draw(ANY_ITEM))
    return tuple(items)


def _packed(items: tuple[Any, ...]) -> bytes:
    packed: bytes = msgpack.packb(items)
    return packed


BOMB: Final = b"\x91" * 600
"""Arrays in arrays: a decoder that recurses meets its limit."""
INPUTS: Final = st.lists(
    st.one_of(
        PLAUSIBLE.map(_packed),
        PLAUSIBLE.map(_packed),
        twisted().map(_packed),
        damaged(PLAUSIBLE.map(_packed)),
        st.just(BOMB),
        st.binary(max_size=30),
    ),
    min_size=1,
    max_size=12,
)


@contextlib.contextmanager
def _open() -> Iterator[Check]:
    yield check


def check(pieces: list[bytes]) -> str:
    """One log: what decodes comes back from its own bytes and is applied, whatever stands before it."""
    keyspace = Keyspace(history_events_max=8)
    outcome = "refused"
    for number, data in enumerate(pieces):
        try:
            command = decode_command(data)
        except CommandError as error:
            assert len(str(error)) < 2_000
            continue
        assert decode_command(encode_command(command)) == command
        keyspace.apply(command, 1000 * number)
        outcome = "applied"
    return outcome


TARGET: Final = Target("commands", INPUTS, _open, frozenset({"applied", "refused"}))
