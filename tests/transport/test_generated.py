"""proto/raft.proto and what was generated from it."""

import re
from pathlib import Path

from kvraft.transport import generate


def test_the_generated_code_is_that_of_the_proto_file(tmp_path: Path) -> None:
    """`python -m kvraft.transport.generate` was run after the last change."""
    generate.generate(tmp_path)
    written = {path.name: path.read_text() for path in tmp_path.iterdir()}
    committed = {path.name: path.read_text() for path in generate.GENERATED.glob("raft_pb2*")}
    assert set(written) == {"raft_pb2.py", "raft_pb2.pyi"}
    assert written == committed


def test_every_field_and_every_message_is_documented() -> None:
    """The wire format is read by people who do not have this program."""
    lines = generate.PROTO.read_text().splitlines()
    undocumented = []
    for number, line in enumerate(lines):
        if re.match(r"(message|enum|service) |  rpc ", line) and not lines[number - 1].lstrip().startswith("//"):
            undocumented.append(line)
        if re.match(r"\s+\S.* = \d+;", line) and not re.search(r"; +// \S", line):
            undocumented.append(line)
    assert undocumented == []
    assert sum(" = " in line for line in lines) > 60, "the patterns above no longer match the file"
