"""What the process ends with."""

from typing import Final

EXIT_FAILURE: Final = 1
EXIT_SIGNAL: Final = 128
"""With the number of the signal, as a shell shows it."""
