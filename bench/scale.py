"""How large what is measured is: as its row says, or a hundredth of that where a row is only tried."""

from typing import Final, final


@final
class Scale:
    """The one setting that every row reads."""

    def __init__(self) -> None:
        self.is_smoke = False
        """Every row for a moment: what it finds means nothing, that it finds something does."""

    def count(self, usual: int) -> int:
        """So many keys, watchers, repetitions; at least 10 of what is counted in hundreds, 1 of the rest."""
        if not self.is_smoke:
            return usual
        return max(10, usual // 100) if usual >= 100 else 1


SCALE: Final = Scale()
