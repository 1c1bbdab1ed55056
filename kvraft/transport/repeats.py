"""Keeps a fact that is found again and again (a refused peer redials all day) from filling the log."""

from collections.abc import Callable
from typing import Final, final

_KEYS_MAX: Final = 256
"""Keys may come from strangers. Beyond this all are forgotten, and the worst that follows is a line too many."""
_AGAIN_AFTER_S: Final = 60.0
"""A fact that still holds is worth a line a minute."""


@final
class Repeats:
    """What was last said about whom."""

    def __init__(self, monotonic_s: Callable[[], float]) -> None:
        self._monotonic_s = monotonic_s
        self._said: dict[str, tuple[str, float]] = {}

    def is_news(self, key: str, fact: str) -> bool:
        """Whether `fact` differs from the last one about `key`, or that was a minute ago."""
        now = self._monotonic_s()
        last = self._said.get(key)
        if last is not None and last[0] == fact and now - last[1] < _AGAIN_AFTER_S:
            return False
        if len(self._said) >= _KEYS_MAX:
            self._said.clear()
        self._said[key] = (fact, now)
        return True

    def settle(self, key: str) -> None:
        """What was said about `key` no longer holds."""
        self._said.pop(key, None)
