"""Why a member cannot go on: told once, by whichever part of it finds out."""

import asyncio
from collections.abc import Callable
from typing import final

from kvraft import logs

log = logs.get(__name__)


@final
class Failure:
    """One member's, which has not happened yet when this is made."""

    def __init__(self, name: str) -> None:
        self.reason: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        """Resolves when the member cannot go on; its process must end then."""
        self.rebuild_helps = False
        """Whether that reason is its data, which the other members have: it can begin anew with `--rebuild`."""
        self.is_removal = False
        """Whether that reason is no fault: the cluster has removed this member."""
        self.at_once: list[Callable[[], None]] = []
        """What falls silent before anybody hears of the reason."""
        self._name = name

    def tell(self, reason: str, error: Exception | None = None, *, rebuild_helps: bool = False) -> None:
        """Stop taking part at once: a member that cannot trust its disk or its state must not speak.

        `error` is what the reason tells of; storage marks those that say that data is damaged.
        """
        for fall_silent in self.at_once:
            fall_silent()
        if not self.reason.done():
            self.rebuild_helps = rebuild_helps or bool(getattr(error, "rebuild_helps", False))
            log.error("the member stops", member=self._name, reason=reason)
            self.reason.set_result(reason)

    def tell_removed(self, by: str) -> None:
        """The cluster goes on without this member; `by` is the member that knows."""
        for fall_silent in self.at_once:
            fall_silent()
        if not self.reason.done():
            self.is_removal = True
            log.warning(
                "this member was removed from the cluster for good, and ends: its data directory is of no use any more",
                member=self._name,
                told_by=by,
            )
            self.reason.set_result("it was removed from the cluster")

    def tell_of(self, error: Exception) -> None:
        """Stop for what nobody expected here, or for what storage has found: that is a sentence for people already."""
        is_sentence = hasattr(error, "rebuild_helps")
        self.tell(str(error) if is_sentence else f"internal error: {error!r}", error)
