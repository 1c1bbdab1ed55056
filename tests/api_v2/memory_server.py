"""The HTTP API of one member without Raft and disk, as a process: `python -m tests.api_v2.memory_server --port N`.

Prints one line with the URL when it serves; ends on SIGTERM or SIGINT.
"""

import argparse
import asyncio
import signal
import sys

import uvloop

from kvraft import logs
from kvraft.api_v2.listening import bind
from kvraft.api_v2.server import serve
from kvraft.api_v2.settings import ApiSettings
from kvraft.metrics import Metrics
from tests.api_v2.memory_backend import MemoryBackend


async def run(port: int, *, fast_front: bool, history_events_max: int) -> None:
    """Serve until told to stop."""
    listener = bind("127.0.0.1", port)
    url = f"http://127.0.0.1:{listener.socket.getsockname()[1]}"
    backend = MemoryBackend((url,), history_events_max)
    server = await serve(backend, [listener], ApiSettings(fast_front=fast_front), Metrics())
    backend.start_expiry()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    sys.stdout.write(f"{url}\n")
    sys.stdout.flush()
    await stop.wait()
    backend.stop_expiry()
    await server.stop()


def main() -> None:
    """Parse the command line and serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="port on 127.0.0.1; 0 takes any free one")
    parser.add_argument("--front", choices=("fast", "aiohttp"), default="fast")
    parser.add_argument("--history-size", type=int, default=1000)
    arguments = parser.parse_args()
    logs.configure()
    uvloop.run(run(arguments.port, fast_front=arguments.front == "fast", history_events_max=arguments.history_size))


if __name__ == "__main__":
    main()
