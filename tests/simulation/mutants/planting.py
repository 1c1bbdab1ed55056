"""What a planted bug is, and the small tools that plant one."""

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Final, final
from unittest import mock

from tests.simulation.faults import Fault, draw_schedule
from tests.simulation.options import Options

SECONDS_MAX: Final = 60.0
ANCHOR_SECONDS_MAX: Final = 20.0
"""For the bugs that every checker of Raft must find: M1, M11, M15, M19, M35."""


def same_options(options: Options) -> Options:
    """Hunt with the options that the seed draws."""
    return options


@final
@dataclass(slots=True, frozen=True)
class Mutant:
    """One planted bug."""

    name: str
    """Its number, `M15`."""
    title: str
    invariants: tuple[str, ...]
    """Any of these must fall (`I1`..`I18`), or `stop`: an assertion or check of the product itself stops the member."""
    plant: Callable[[], AbstractContextManager[None]]
    options: Callable[[Options], Options] = same_options
    """Options under which it shows soonest, from those of a seed."""
    schedule: Callable[[Options], tuple[Fault, ...]] = draw_schedule
    """The faults: those of the seed, or a directed schedule of what the nemesis can do."""
    test: str = ""
    """Of a bug outside the simulator: the pytest id that must fail with it."""
    seconds_max: float = SECONDS_MAX
    """Of one core; found later is not found."""


def wrapped(owner: Any, name: str, around: Callable[..., Any]) -> Callable[[], AbstractContextManager[None]]:
    """Plant `around(original, *arguments)` in the place of `owner.name`."""

    @contextmanager
    def plant() -> Iterator[None]:
        original = getattr(owner, name)

        def instead(*arguments: Any, **named: Any) -> Any:
            return around(original, *arguments, **named)

        with mock.patch.object(owner, name, instead):
            yield

    return plant


def replaced(owner: Any, name: str, value: Any) -> Callable[[], AbstractContextManager[None]]:
    """Plant `value` in the place of `owner.name`."""

    @contextmanager
    def plant() -> Iterator[None]:
        with mock.patch.object(owner, name, value):
            yield

    return plant


def together(*plants: Callable[[], AbstractContextManager[None]]) -> Callable[[], AbstractContextManager[None]]:
    """Plant several at once."""

    @contextmanager
    def plant() -> Iterator[None]:
        with ExitStack() as stack:
            for each in plants:
                stack.enter_context(each())
            yield

    return plant


def with_options(**changes: Any) -> Callable[[Options], Options]:
    """The seed's options with some of them fixed."""
    return lambda options: dataclasses.replace(options, **changes)
