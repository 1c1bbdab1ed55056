"""What a measurement gives."""

from typing import NamedTuple


class Measured(NamedTuple):
    """One figure."""

    value: float
    detail: str
    cpu_us: float | None = None
    """Microseconds of CPU for each operation, all members together; None where nothing is counted in operations."""
