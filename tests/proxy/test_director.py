"""Which endpoint is asked, and which not."""

from typing import cast

from kvraft.proxy.director import Director
from kvraft.proxy.upstream import Upstream

A, B, C = "http://a:1", "http://b:1", "http://c:1"


def _urls(director: Director) -> list[str]:
    return [endpoint.url for endpoint in director.available()]


async def test_each_refresh_puts_another_endpoint_first() -> None:
    """All requests go to the first, so the load goes round; the others come when it fails."""
    director = Director(1000, lambda: None)
    seen = []
    for _ in range(4):
        director.refresh([C, A, B, A])
        seen.append(_urls(director))
    assert seen == [[A, B, C], [B, C, A], [C, A, B], [A, B, C]]
    director.close()
    assert _urls(director) == []


async def test_failed_endpoint_is_asked_no_more_until_its_wait_is_over() -> None:
    """Also over a refresh; a failure is told once."""
    told: list[int] = []
    director = Director(60_000, lambda: told.append(1))
    director.refresh([A, B])
    failed = director.available()[0]
    failed.failed("refused")
    failed.failed("refused")
    assert (_urls(director), len(told)) == ([B], 1)
    director.refresh([A, B])
    assert _urls(director) == [B]
    failed.put_back()
    assert _urls(director) == [B, A]
    director.close()


async def test_endpoint_that_is_a_members_no_more_is_not_asked() -> None:
    """One that comes back begins anew."""
    director = Director(60_000, lambda: None)
    director.refresh([A, B])
    director.available()[0].failed("refused")
    director.refresh([B])
    assert _urls(director) == [B]
    director.refresh([A, B])
    assert sorted(_urls(director)) == [A, B]
    director.close()


class _Idle:
    """A connection to an endpoint, as far as it is kept."""

    def __init__(self) -> None:
        self.is_usable = True
        self.is_closed = False
        self.idle_sweeps = 0

    def close(self) -> None:
        """It is not wanted any more."""
        self.is_closed = True


async def test_connection_to_what_is_a_members_no_more_is_not_kept() -> None:
    """Neither one that waits, nor one whose request ends later; the others are kept until nobody uses them."""
    director = Director(60_000, lambda: None)
    director.refresh([A, B])
    gone, stays = director.available()
    waiting, late, kept = (cast("Upstream", _Idle()) for _ in range(3))
    gone.keep(waiting)
    stays.keep(kept)
    director.refresh([stays.url])
    gone.keep(late)
    assert [gone.take(), stays.take()] == [None, kept]
    assert [cast("_Idle", each).is_closed for each in (waiting, late, kept)] == [True, True, False]
    stays.keep(kept)
    for _ in range(3):
        director.sweep()
    assert cast("_Idle", kept).is_closed
    assert stays.take() is None
    director.close()
