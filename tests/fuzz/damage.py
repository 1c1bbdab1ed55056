"""Bytes that were good once: cut, lengthened, flipped, overwritten with numbers at the edges, or joined."""

from typing import Final

from hypothesis import strategies as st

EDGES: Final = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**53, 2**63 - 1, 2**63, 2**64 - 1)
"""Numbers at which lengths, signs and JSON's doubles break."""
U64: Final = st.sampled_from(EDGES) | st.integers(0, 2**64 - 1) | st.integers(0, 40)


@st.composite
def damaged(draw: st.DrawFn, whole: st.SearchStrategy[bytes]) -> bytes:
    """What `whole` gives, with up to three things done to it; with none it is unharmed."""
    data = draw(whole)
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(data)))
        match draw(st.sampled_from(("cut", "flip", "number", "insert", "repeat", "join"))):
            case "cut":
                data = data[:at] if draw(st.booleans()) else data[at:]
            case "flip" if at < len(data):
                data = data[:at] + bytes([data[at] ^ 1 << draw(st.integers(0, 7))]) + data[at + 1 :]
            case "number":
                size = draw(st.sampled_from((1, 2, 4, 8)))
                number = (draw(st.sampled_from(EDGES)) % 256**size).to_bytes(
                    size, draw(st.sampled_from(("little", "big")))
                )
                data = data[:at] + number + data[at + size :]
            case "insert":
                data = data[:at] + draw(st.binary(max_size=12)) + data[at:]
            case "repeat":
                piece = data[at : at + draw(st.integers(1, 40))]
                data = data[:at] + piece * draw(st.integers(2, 30)) + data[at:]
            case "join":
                data += draw(whole)[at:]
    return data
