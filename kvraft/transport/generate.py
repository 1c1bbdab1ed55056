"""Write `kvraft/transport/pb/` from `proto/raft.proto`: `python -m kvraft.transport.generate [directory]`.

Needs grpcio-tools, which a running member does not. The result is committed, and a test regenerates and compares it.
The service has no generated stub: streams carry bytes that `codec.py` reads, so that bytes from a stranger meet our
checks first.
"""

import sys
from pathlib import Path
from typing import Final

PROTO: Final = Path(__file__).parents[2] / "proto" / "raft.proto"
GENERATED: Final = Path(__file__).parent / "pb"


def generate(directory: Path) -> None:
    """Write `raft_pb2.py` and `raft_pb2.pyi` into `directory`.

    Raises:
        RuntimeError: the compiler found a fault, which it has printed.
    """
    # A tool of the checkout, absent where a member is installed; it ships no types.
    from grpc_tools import protoc  # type: ignore[import-untyped]  # noqa: PLC0415 -- see above

    arguments = ["protoc", f"-I{PROTO.parent}", f"--python_out={directory}", f"--pyi_out={directory}", PROTO.name]
    if protoc.main(arguments) != 0:
        message = f"protoc could not compile {PROTO}"
        raise RuntimeError(message)


if __name__ == "__main__":
    generate(Path(sys.argv[1]) if len(sys.argv) > 1 else GENERATED)
