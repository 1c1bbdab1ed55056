"""What this process does about signals, from its first moment on. Imports next to nothing: it is there before the rest.

As etcd, which Go's runtime keeps alive, a member goes on at signals that it has no use for. Other than etcd it does so
at SIGHUP: a terminal that closes and logrotate(8) send it to whoever is there.
"""

import faulthandler
import signal
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable

_STDERR: Final = 2
_ENDING: Final = (signal.SIGTERM, signal.SIGINT)
_IGNORED: Final = (
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGALRM,
    signal.SIGVTALRM,
    signal.SIGPROF,
    signal.SIGIO,
    signal.SIGXCPU,
)


def prepare() -> None:
    """Before anything else: Ctrl-C ends the process without a word, SIGQUIT after it has told what each thread does."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        # Until the member runs and stops in order, as at SIGTERM.
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    for number in (signal.SIGHUP, *_IGNORED):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)  # a shell that starts us in its background has it ignored
    faulthandler.register(signal.SIGQUIT, _STDERR, all_threads=True, chain=True)


def take(loop: "AbstractEventLoop", stop: "Callable[[], None]", hang_up: "Callable[[], None]") -> None:
    """While the loop runs: what SIGTERM and SIGINT do, and SIGHUP."""
    for number in _ENDING:
        loop.add_signal_handler(number, stop)
    loop.add_signal_handler(signal.SIGHUP, hang_up)


def release() -> None:
    """The loop has ended, and has put back what Python begins with: SIGINT raises then, and SIGHUP kills."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
