"""What stops a process that nobody has caught."""

import asyncio

import pytest

from kvraft.start.unhandled import stop_for_defects


@pytest.mark.parametrize(
    ("error", "connection", "stops"),
    [
        (ValueError("a defect"), {}, True),
        (ValueError("found by a stranger"), {"transport": None}, False),
        (ConnectionResetError(), {}, False),
        (asyncio.CancelledError(), {}, False),
    ],
)
async def test_defect_stops_unless_it_is_of_one_connection(
    error: BaseException, connection: dict[str, object], stops: bool
) -> None:
    """A proxy as well as a member."""
    stopped: list[Exception] = []
    loop = asyncio.get_running_loop()
    stop_for_defects(loop, stopped.append)
    loop.call_exception_handler({"message": "as asyncio has it", "exception": error, **connection})
    assert stopped == ([error] if stops else [])
