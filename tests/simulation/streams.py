"""Random streams that do not disturb each other: one for each (seed, server, purpose)."""

import hashlib
import random


def stream(seed: int, server: int, purpose: str) -> random.Random:
    """The stream of H(seed, server, purpose): draws for one purpose never shift those of another.

    Server 0 stands for the world outside any server.
    """
    return random.Random(derive(seed, server, purpose))


def derive(seed: int, number: int, purpose: str) -> int:
    """A 63-bit seed below another one, for a part of a run or for the Nth run of a campaign."""
    digest = hashlib.blake2b(f"{seed}/{number}/{purpose}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
