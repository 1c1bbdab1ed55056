"""What a measurement gives."""

from typing import NamedTuple


class Measured(NamedTuple):
    """One figure."""

    value: float
    detail: str
