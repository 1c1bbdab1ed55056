"""Named places where a test may make the disk misbehave (decision 16 of the design).

Nothing in the product registers a hook, so in an installed kvraft each of them is one lookup in an empty dict.
A hook may raise (the error a disk would give) or kill the process; it runs on the thread that reached the place.
"""

from collections.abc import Callable
from typing import Final

NAMES: Final = frozenset(
    {
        "alone.before_identity",
        "directory.created",
        "identity.before_rename",
        "log_place.arrived",
        "log_place.copied",
        "log_place.leaving",
        "log.before_commit",
        "log.after_commit",
        "commit.before_watermark",
        "log.compaction_slice",
        "state.before_commit",
        "state.after_commit",
        "spool.before_rename",
        "backup.before_close",
        "restore.built",
        "restore.moving",
        "restore.before_end",
        "install.state_built",
        "install.before_switch",
        "install.after_switch",
        "install.before_cleanup",
    }
)
"""Every place. A hook for another name is a mistake in the test."""

_hooks: dict[str, Callable[[], None]] = {}


def hit(name: str) -> None:
    """Run the hook that a test has put here, if any."""
    hook = _hooks.get(name)
    if hook is not None:
        hook()


def register(name: str, hook: Callable[[], None]) -> None:
    """Run `hook` each time the place is reached, until `clear`."""
    assert name in NAMES, f"no failpoint is called {name}"
    _hooks[name] = hook


def clear() -> None:
    """Remove every hook."""
    _hooks.clear()
