"""Exceptions that nobody has caught: in a callback or task of the process's own they are its end."""

import asyncio
from collections.abc import Callable


def stop_for_defects(loop: asyncio.AbstractEventLoop, stop: Callable[[Exception], None]) -> None:
    """Stop for a defect in a callback or task, which would otherwise be dead and unnoticed.

    What goes wrong on one connection, a client's or a peer's, ends that connection alone.
    """

    def on_unhandled(loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
        loop.default_exception_handler(context)
        error = context.get("exception")
        on_one_connection = (
            "transport" in context
            or "protocol" in context
            or isinstance(error, OSError)
            or type(error).__module__.startswith("grpc")
        )
        if isinstance(error, Exception) and not on_one_connection:
            stop(error)

    loop.set_exception_handler(on_unhandled)
