"""Memory that was freed goes back to the system."""

import pathlib

import pytest

from kvraft import heap

PIECE_BYTES = 10_000
PIECES = 5_000


def resident_bytes() -> int:
    """Of this process."""
    return int(pathlib.Path("/proc/self/statm").read_text().split()[1]) * 4096


def test_pages_between_what_is_still_used_are_given_back() -> None:
    """The allocator by itself gives back the end of its heap only."""
    pieces = [bytes([number % 256]) * PIECE_BYTES for number in range(PIECES)]
    full = resident_bytes()
    kept = pieces[::100]
    del pieces
    assert heap.give_back()
    assert full - resident_bytes() > PIECES * PIECE_BYTES // 2
    assert len(kept) == PIECES // 100


def test_c_library_without_the_call_is_fine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Musl has none."""
    monkeypatch.setattr(heap, "_malloc_trim", None)
    assert heap.give_back() is False
