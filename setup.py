"""The compiled form: with KVRAFT_COMPILED=1, mypyc makes extension modules of the hot files.

The same sources run as they are where no such module lies beside them: the compiled form is faster and nothing else.
Everything else about the package stands in pyproject.toml.
"""

import os
from concurrent.futures import ThreadPoolExecutor

from setuptools import setup
from setuptools.command.build_ext import build_ext

HOT = (
    "kvraft/raft/configuration.py",
    "kvraft/raft/core.py",
    "kvraft/raft/durability.py",
    "kvraft/raft/effects.py",
    "kvraft/raft/election.py",
    "kvraft/raft/entries.py",
    "kvraft/raft/inputs.py",
    "kvraft/raft/invariants.py",
    "kvraft/raft/log.py",
    "kvraft/raft/membership.py",
    "kvraft/raft/messages.py",
    "kvraft/raft/progress.py",
    "kvraft/raft/quorum.py",
    "kvraft/raft/reads.py",
    "kvraft/raft/rebuild.py",
    "kvraft/raft/replication.py",
    "kvraft/raft/restored.py",
    "kvraft/raft/roles.py",
    "kvraft/raft/settings.py",
    "kvraft/raft/snapshots.py",
    "kvraft/raft/state.py",
    "kvraft/keyspace/changes.py",
    "kvraft/keyspace/command_codec.py",
    "kvraft/keyspace/commands.py",
    "kvraft/keyspace/dirty_state.py",
    "kvraft/keyspace/event_history.py",
    "kvraft/keyspace/events.py",
    "kvraft/keyspace/expiry.py",
    "kvraft/keyspace/keyspace.py",
    "kvraft/keyspace/listing.py",
    "kvraft/keyspace/live_tree.py",
    "kvraft/keyspace/node_hash.py",
    "kvraft/keyspace/records.py",
    "kvraft/keyspace/removal.py",
    "kvraft/keyspace/state_hash.py",
    "kvraft/keyspace/store.py",
    "kvraft/keyspace/tree.py",
    "kvraft/keyspace/views.py",
    "kvraft/keyspace/watchers.py",
    "kvraft/records.py",
    "kvraft/peer_frames.py",
    "kvraft/storage/codec.py",
    "kvraft/transport/codec.py",
    "kvraft/transport/envelope.py",
    "kvraft/transport/framing.py",
    "kvraft/transport/session.py",
    "kvraft/member/applier.py",
    "kvraft/member/client_port.py",
    "kvraft/member/fencing.py",
    "kvraft/member/forwarding.py",
    "kvraft/member/peer_port.py",
    "kvraft/member/raft_loop.py",
    "kvraft/member/reads.py",
    "kvraft/member/steps.py",
    "kvraft/member/waiters.py",
    "kvraft/api_v2/answers.py",
    "kvraft/api_v2/exchange.py",
    "kvraft/api_v2/fast_protocol.py",
    "kvraft/api_v2/http_dates.py",
    "kvraft/api_v2/key_requests.py",
    "kvraft/api_v2/key_responses.py",
    "kvraft/api_v2/keys.py",
    "kvraft/api_v2/request_heads.py",
    "kvraft/api_v2/request_splitter.py",
    "kvraft/api_v2/routes.py",
    "kvraft/api_v2/targets.py",
    "kvraft/api_v2/unfinished.py",
    "kvraft/api_v2/unread.py",
    "kvraft/api_v2/watches.py",
)
"""The way of a write and of a read.

What is not here gains nothing, as it waits for a disk or a socket or calls C, or has what mypyc gets wrong: a dataclass
that is an exception, a subclass of `asyncio.Protocol`, an attribute `_thread`, a literal that is a lone surrogate, a
variable that holds a slice as the index of bytes (wrong without a word). A generator expression becomes a list, which
costs memory where it is long. `python -m tests.forms` compares what both forms say.
"""


class BuildOnAllCores(build_ext):
    """One process of the compiler a core: setuptools has several only for several extensions, and here one is most."""

    def finalize_options(self) -> None:
        """Also for the many small extensions by which the others are imported."""
        super().finalize_options()
        self.parallel = os.cpu_count()

    def build_extensions(self) -> None:
        """Compile and link."""
        compiler = self.compiler
        compile_in_turn = compiler.compile
        with ThreadPoolExecutor(os.cpu_count()) as pool:

            def compile_beside(sources: list[str], *arguments: object, **named: object) -> list[str]:
                objects = pool.map(lambda source: compile_in_turn([source], *arguments, **named), sources)
                return [path for paths in objects for path in paths]

            compiler.compile = compile_beside
            super().build_extensions()


def extensions() -> list[object]:
    """None unless they are asked for, so that a machine without a compiler installs the pure form."""
    if os.environ.get("KVRAFT_COMPILED") != "1":
        return []
    from mypyc.build import mypycify  # noqa: PLC0415 -- the pure form is built without it

    return [*mypycify(list(HOT), opt_level="2", debug_level="0", multi_file=True, group_name="kvraft")]


setup(ext_modules=extensions(), cmdclass={"build_ext": BuildOnAllCores})
