import msgpack
import pytest

from kvraft.keyspace.command_codec import (
    MalformedCommandError,
    UnknownCommandError,
    decode_command,
    encode_command,
)
from kvraft.keyspace.commands import (
    AddMember,
    Command,
    CompareAndDelete,
    CompareAndSwap,
    Create,
    CreateInOrder,
    Delete,
    KeepMember,
    MoveMember,
    PublishMember,
    PublishMemberAlone,
    RegisterFounders,
    RegisterMembers,
    RemoveMember,
    Set,
    SetClusterVersion,
    SetHistorySize,
    SetHistorySizeAtIndex,
    Sync,
    Update,
)

GOLDEN: list[tuple[Command, str]] = [
    (Set(b"/a", b"\xff\x00", False, 30, 7, True), "9701c4022f61c402ff00c21e07c3"),
    (Set(b"/a"), "9701c4022f61c400c2ff00c2"),
    (Create(b"/a", b"v", True, 0, 2**64 - 1, True), "9702c4022f61c40176c300cfffffffffffffffffc3"),
    (CreateInOrder(b"/", b"v", True, 2**64 - 1, 5), "9603c4012fc40176c3cfffffffffffffffff05"),
    (Update(b"/a", b"v", 9, 5, True), "9604c4022f61c401760905c3"),
    (CompareAndSwap(b"/a", b"v", b"w", 2**64 - 1, 9, 5, True), "9805c4022f61c40176c40177cfffffffffffffffff0905c3"),
    (CompareAndSwap(b"/a"), "9805c4022f61c400c000ff00c2"),
    (Delete(b"/a", True, True), "9406c4022f61c3c3"),
    (CompareAndDelete(b"/a", b"w", 3), "9407c4022f61c4017703"),
    (CompareAndDelete(b"/a"), "9407c4022f61c000"),
    (Sync(), "9108"),
    (PublishMemberAlone(2**64 - 1, "n", ("http://h:1", "u")), "9409cfffffffffffffffffa16e92aa687474703a2f2f683a31a175"),
    (SetClusterVersion("3.4.0"), "920aa5332e342e30"),
    (SetHistorySizeAtIndex(1000), "920bcd03e8"),
    (RegisterMembers((1, 2**64 - 1)), "920c9201cfffffffffffffffff"),
    (RegisterMembers(()), "920c90"),
    (PublishMember(2**64 - 1, "n", ("http://h:1", "u")), "940dcfffffffffffffffffa16e92aa687474703a2f2f683a31a175"),
    (SetHistorySize(1000), "920ecd03e8"),
    (RegisterFounders(()), "920f90"),
    (
        RegisterFounders(((1, "n1", ("http://h:1",)), (2**64 - 1, "", ()))),
        "920f929301a26e3191aa687474703a2f2f683a3193cfffffffffffffffffa090",
    ),
    (AddMember(2**64 - 1, ("http://h:1", "u")), "9310cfffffffffffffffff92aa687474703a2f2f683a31a175"),
    (MoveMember(2**64 - 1, ("http://h:1", "u")), "9311cfffffffffffffffff92aa687474703a2f2f683a31a175"),
    (RemoveMember(2**64 - 1), "9212cfffffffffffffffff"),
    (KeepMember(1, (2, 3)), "931301920203"),
]


@pytest.mark.parametrize(("command", "golden"), GOLDEN, ids=lambda value: type(value).__name__)
def test_every_command_has_its_golden_bytes_and_comes_back_equal(command: Command, golden: str) -> None:
    """What one version wrote into a log, every later one reads as the same command."""
    assert encode_command(command).hex() == golden
    assert decode_command(bytes.fromhex(golden)) == command


def test_a_command_type_of_a_later_version_is_named() -> None:
    """A member that meets a type it does not know must stop, and say which it was."""
    with pytest.raises(UnknownCommandError) as caught:
        decode_command(msgpack.packb([99, b"/a"]))
    assert caught.value.command_type == 99


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        msgpack.packb([]),
        msgpack.packb(7),
        msgpack.packb(["1", b"/a"]),
        msgpack.packb([True, b"/a"]),
        msgpack.packb({1: 2}),
        msgpack.packb([8]) + b"\x00",
        msgpack.packb([8, 1]),
        msgpack.packb([1, b"/a", b"v", False, -1, 0]),
        msgpack.packb([1, b"a", b"v", False, -1, 0, False]),
        msgpack.packb([1, "/a", b"v", False, -1, 0, False]),
        msgpack.packb([1, b"/a", "v", False, -1, 0, False]),
        msgpack.packb([1, b"/a", b"v", 0, -1, 0, False]),
        msgpack.packb([1, b"/a", b"v", False, -2, 0, False]),
        msgpack.packb([1, b"/a", b"v", False, 1.5, 0, False]),
        msgpack.packb([1, b"/a", b"v", False, -1, -1, False]),
        msgpack.packb([1, b"/a", b"v", False, -1, True, False]),
        msgpack.packb([9, 1, "n", "u"]),
        msgpack.packb([9, 1, "n", [b"u"]]),
        msgpack.packb([9, 1, "n", ["u"] * 1025]),
        msgpack.packb([10, "x" * 65537]),
        msgpack.packb([10, b"3.4.0"]),
        msgpack.packb([15, [1]]),
        msgpack.packb([15, [[1, "n"]]]),
        msgpack.packb([15, [["1", "n", []]]]),
        msgpack.packb([15, {1: 2}]),
        msgpack.packb([16, 1, "u"]),
        msgpack.packb([18, "1"]),
        b"\xdd\xff\xff\xff\xff\x01",
        msgpack.packb([1, b"/a", b"v", False, -1, 0, False])[:-3],
    ],
    ids=lambda data: data[:12].hex() or "empty",
)
def test_bytes_that_no_version_wrote_are_refused(data: bytes) -> None:
    """Wrong types, wrong counts, sizes beyond the limits, rests and cuts: a typed error, never something else."""
    with pytest.raises(MalformedCommandError):
        decode_command(data)
