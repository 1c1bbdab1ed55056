"""The data directory: who owns it, whose it is, and whether this kvraft can read it.

<data-dir>/             mode 0700
    lock                held by flock while a process uses the directory; names its pid
    identity            one JSON object: format, cluster, member, name, founders, token, whether creation was
                        completed, checksum; `members`, `replaces` and `forced` only where they say something
    reading             exists while a start reads the files; left behind by a start that died in it
    log/                the log environment, with its watermark; with --wal-dir a link to it, see `log_place`
    state-<n>/          the state environment of generation n; the log names the generation in use
    spool/              snapshots on their way out or in
    damaged-<time>/     what a rebuild has set aside, in the same form; see `aside`
    making-room/        the same, chosen to come back, while what stands in its place is set aside
    putting-back/       the same, on its way back into place
    restoring/          what `kvraft restore` is writing; as long as it is there, nothing else is to be believed
"""

import contextlib
import fcntl
import json
import os
import re
import shutil
import zlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final, final

from kvraft import logs
from kvraft.founding import Founder, Identity
from kvraft.storage import failpoints
from kvraft.storage.codec import FORMAT, REMEDY
from kvraft.storage.errors import (
    CorruptStorageError,
    DirectoryInUseError,
    NewerFormatError,
    StorageFailedError,
    WrongDirectoryError,
)

ASIDE_PREFIX: Final = "damaged-"
MAKING_ROOM: Final = "making-room"
PUTTING_BACK: Final = "putting-back"
RESTORING: Final = "restoring"
_OURS: Final = frozenset(
    {"identity", "identity.new", "reading", "log", "log-again", "log-leaving", "log-link", "spool"}
)
_STATE: Final = re.compile(r"state-\d+")
_MADE_BY_MKFS: Final = "lost+found"
"""On every fresh ext4 file system: nothing to talk about."""

_log = logs.get(__name__)


@final
class DataDirectory:
    """A locked data directory of this member. Release it with `close`."""

    def __init__(self, path: Path, lock_descriptor: int) -> None:
        self.path: Final = path
        self._descriptors = [lock_descriptor]
        self._places = [path]
        self.fresh = False
        """Whether this process has created it: the member remembers nothing."""
        self.reading_died = False
        """Whether an earlier start died while it read the files: they are to be examined before LMDB maps them."""

    @property
    def log_path(self) -> Path:
        """The log environment."""
        return self.path / "log"

    def state_path(self, generation: int) -> Path:
        """The state environment of a generation; each installed snapshot begins a new one."""
        return self.path / f"state-{generation}"

    @property
    def spool_path(self) -> Path:
        """Snapshots on their way out or in."""
        return self.path / "spool"

    def remove_other_states(self, generation: int) -> None:
        """Remove what an interrupted or finished snapshot install has left."""
        for leftover in self.state_paths():
            if leftover != self.state_path(generation):
                shutil.rmtree(leftover)

    def state_paths(self) -> list[Path]:
        """The state environments that are there."""
        return state_paths(self.path)

    def free_bytes(self) -> int:
        """What the fuller of its file systems still has. Below the floor the member should take no more writes.

        Raises:
            StorageFailedError: nothing is known of the directory any more; whoever removed it, nothing may be promised.
        """
        try:
            facts = [os.statvfs(place) for place in self._places]
        except OSError as error:
            raise StorageFailedError(
                f"--data-dir={self.path}: {error.strerror}: the directory was taken away or its disk fails; stopping"
            ) from error
        return min(fact.f_bavail * fact.f_frsize for fact in facts)

    def hold_too(self, place: Path, descriptor: int) -> None:
        """A part of the data is elsewhere: its disk needs room too, and its lock is released with this one."""
        self._places.append(place)
        self._descriptors.append(descriptor)

    def begin_reading(self) -> None:
        """Leave a sign for the next start, should reading kill this process (LMDB trusts the file it maps)."""
        marker = self.path / "reading"
        self.reading_died = marker.exists()
        marker.touch()

    def end_reading(self) -> None:
        """The files were read to the end."""
        (self.path / "reading").unlink(missing_ok=True)

    def close(self) -> None:
        """Release the lock. Closing it again does nothing."""
        while self._descriptors:
            os.close(self._descriptors.pop())


def lock_directory(path: Path, *, for_putting_back: bool = False) -> DataDirectory:
    """Create the directory if need be, and lock it against other processes.

    Raises:
        WrongDirectoryError: etcd's data is in it, a file has the name of a directory of ours, or it is half put back
            and not to be so now. Nothing is touched.
        DirectoryInUseError: another process holds it.
        OSError: it cannot be created or opened.
    """
    refuse_restoring(path)
    if not for_putting_back:
        refuse_half_put_back(path)
    foreign = foreign_names(path)
    make_directory(path)
    if not foreign:
        path.chmod(0o700)
    elif not (path / "identity").exists() and foreign != [_MADE_BY_MKFS]:
        # Somebody's home, by a slip? Nothing of it is touched, its permissions included.
        names = ", ".join(foreign[:5]) + (", ..." if len(foreign) > 5 else "")
        _log.warning("the data directory has files of others, which are left alone", directory=path, names=names)
    return DataDirectory(path, take_lock(path))


def stored_identity(path: Path) -> Identity | None:
    """Whose data a directory holds; None if no member has completed its first start in it. Touches nothing.

    Raises:
        NewerFormatError: a newer kvraft wrote it.
        CorruptStorageError: the identity is damaged.
        WrongDirectoryError: what is there was to be restored, and is not whole.
        OSError: it cannot be read.
    """
    refuse_restoring(path)
    try:
        stored, complete = _read_identity(path / "identity")
    except (FileNotFoundError, NotADirectoryError):
        return None
    return stored if complete else None


def take_lock(path: Path) -> int:
    """Lock a directory that is there; the descriptor that holds the lock.

    Raises:
        DirectoryInUseError: another process has it.
        OSError: the lock cannot be opened.
    """
    descriptor = open_lock(path)
    try:
        sign_lock(descriptor)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def open_lock(path: Path) -> int:
    """As `take_lock`, and nobody is told yet who has it."""
    descriptor = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
        os.close(descriptor)
        raise DirectoryInUseError(
            f"data directory {path} is in use by process {holder}: stop it or choose another --data-dir"
        ) from None
    return descriptor


def sign_lock(descriptor: int) -> None:
    """Say whose it is. Raises OSError where the disk has no room for that."""
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, b"%d\n" % os.getpid(), 0)


def refuse_restoring(path: Path) -> None:
    """Raises WrongDirectoryError if a restore has not come to its end there: a start would found an empty cluster."""
    if (path / RESTORING).exists():
        raise WrongDirectoryError(
            f"--data-dir={path}: a restore was interrupted: run the same kvraft restore again, or remove the directory"
        )


def refuse_half_put_back(path: Path) -> None:
    """Raises WrongDirectoryError if `--put-back` has not come to its end there."""
    if any((path / stage).exists() for stage in (MAKING_ROOM, PUTTING_BACK)):
        raise WrongDirectoryError(f"--data-dir={path}: putting data back was interrupted: run --put-back again")


def state_paths(path: Path) -> list[Path]:
    """The state environments in a directory, and nothing that is only called alike: `state-1.bak` is somebody's."""
    return [entry for entry in path.iterdir() if _STATE.fullmatch(entry.name)]


def was_begun(path: Path) -> bool:
    """False if a first start there did not come to its end, before which nothing is acknowledged.

    Raises:
        OSError: it cannot be read.
    """
    try:
        return _read_identity(path / "identity")[1]
    except (FileNotFoundError, NotADirectoryError, CorruptStorageError, NewerFormatError):
        return True  # lost, or unreadable: then the other files tell


def holds_etcd(path: Path) -> bool:
    """Whether a member of etcd keeps its data there."""
    return (path / "member").is_dir() and not (path / "identity").exists()


def refuse_etcd(path: Path) -> None:
    """Raises WrongDirectoryError if a member of etcd keeps its data there."""
    if holds_etcd(path):
        raise WrongDirectoryError(
            f"--data-dir={path} holds etcd's data, which kvraft does not read: choose an empty directory, and copy the "
            'keys through the API (docs/operations.md, "Coming from etcd")'
        )


def foreign_names(path: Path) -> list[str]:
    """What somebody else has put there: a file system its own directory, a package its `.keep`, a person a note.

    Raises:
        WrongDirectoryError: it is etcd's, or a file has the name of a directory of ours.
        OSError: it cannot be read.
    """
    try:
        names = sorted(entry.name for entry in path.iterdir())
    except FileNotFoundError:
        return []
    refuse_etcd(path)
    taken = next((name for name in ("log", "spool") if (path / name).is_file()), None)
    if taken is not None:
        raise WrongDirectoryError(
            f"--data-dir={path}: {taken} is somebody's file, and kvraft keeps a directory of that name: move it away"
        )
    return [name for name in names if not is_ours(name)]


def is_ours(name: str) -> bool:
    """Whether kvraft keeps something under this name in a data directory."""
    return name in _OURS or _STATE.fullmatch(name) is not None or _is_beside(name)


def _is_beside(name: str) -> bool:
    """What is kvraft's and no part of the data in use."""
    return name in {"lock", MAKING_ROOM, PUTTING_BACK, RESTORING} or name.startswith(ASIDE_PREFIX)


def is_kept(name: str) -> bool:
    """What stays where it is when a rebuild sets data aside, and does not make a directory a used one."""
    return _is_beside(name) or not is_ours(name)


def refuse_remains(path: Path) -> None:
    """Raises CorruptStorageError if a directory without an identity holds anything of a member."""
    rest = sorted(entry.name for entry in path.iterdir() if entry.name != "identity.new" and not is_kept(entry.name))
    if rest:
        raise CorruptStorageError(f"{path / 'identity'} is missing, and {rest[0]} is there; {REMEDY}")


def claim(directory: DataDirectory, identity: Identity) -> bool:
    """Check that the directory is this member's. True if its environments still have to be created.

    A new name of the member is kept for later starts, and that it is not told any more to be a cluster of its own.

    Raises:
        WrongDirectoryError: another member's, or another cluster's.
        NewerFormatError: a newer kvraft wrote it.
        CorruptStorageError: the identity is damaged.
    """
    path = directory.path / "identity"
    if not path.exists():
        refuse_remains(directory.path)
        _write_identity(path, identity, complete=False)
        directory.fresh = True
        return True
    stored, complete = _read_identity(path)
    if not complete:  # a first start broke off: whoever it was to be has promised nothing
        _write_identity(path, identity, complete=False)
        directory.fresh = True
        return True
    if stored.cluster_id != identity.cluster_id:
        raise WrongDirectoryError(
            f"data directory {directory.path} belongs to cluster {stored.cluster_id:x} (member {stored.name!r}), "
            f"not to cluster {identity.cluster_id:x}: choose another --data-dir or correct --initial-cluster"
        )
    if stored.member_id != identity.member_id:
        raise WrongDirectoryError(
            f"data directory {directory.path} belongs to member {stored.member_id:x} ({stored.name!r}), "
            f"not to member {identity.member_id:x} ({identity.name!r}): choose another --data-dir"
        )
    change_identity(directory, lambda held: replace(held, name=identity.name, forced=held.forced and identity.forced))
    return False


def complete_creation(directory: DataDirectory, identity: Identity) -> None:
    """From now on a missing or empty environment is damage, not a first start."""
    _write_identity(directory.path / "identity", identity, complete=True)


def change_identity(directory: DataDirectory, change: Callable[[Identity], Identity]) -> None:
    """What later starts find; nothing is written if they would find it anyway.

    Raises:
        CorruptStorageError: the identity is damaged.
        OSError: it cannot be written.
    """
    path = directory.path / "identity"
    stored, _ = _read_identity(path)
    identity = change(stored)
    if identity != stored:
        _write_identity(path, identity, complete=True)


def _write_identity(path: Path, identity: Identity, *, complete: bool) -> None:
    facts: dict[str, object] = {
        "format": FORMAT,
        "cluster": f"{identity.cluster_id:x}",
        "member": f"{identity.member_id:x}",
        "name": identity.name,
        "complete": complete,
    }
    if identity.known_members:
        facts["token"] = identity.token
    for key, members in (("founders", identity.founders), ("members", identity.members)):
        if members:
            facts[key] = [
                {"member": f"{member.member_id:x}", "name": member.name, "peer_urls": member.peer_urls}
                for member in members
            ]
    if identity.replaces:
        facts["replaces"] = f"{identity.replaces:x}"
    if identity.forced:
        facts["forced"] = True
    facts["crc32"] = _identity_checksum(facts)
    replace_durably(path, json.dumps(facts).encode() + b"\n")


def _read_identity(path: Path) -> tuple[Identity, bool]:
    try:
        facts = json.loads(path.read_bytes())
        written = int(facts["format"])
        checksum = facts.pop("crc32")
        founders, members = (
            tuple(
                Founder(int(member["member"], 16), str(member["name"]), tuple(map(str, member["peer_urls"])))
                for member in facts.get(key, ())
            )
            for key in ("founders", "members")
        )
        identity = Identity(
            int(facts["cluster"], 16),
            int(facts["member"], 16),
            str(facts["name"]),
            str(facts.get("token", "")),
            founders,
            members,
            int(facts.get("replaces", "0"), 16),
            bool(facts.get("forced", False)),
        )
        complete = bool(facts["complete"])
        intact = checksum == _identity_checksum(facts)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorruptStorageError(f"{path} is not readable ({error}); {REMEDY}") from error
    if written > FORMAT:
        raise NewerFormatError(f"{path} has format {written}; this kvraft reads {FORMAT}: run a newer kvraft")
    if not intact:
        raise CorruptStorageError(f"{path} fails its checksum; {REMEDY}")
    return identity, complete


def _identity_checksum(facts: Mapping[str, object]) -> int:
    return zlib.crc32(json.dumps(facts, sort_keys=True).encode())


def replace_durably(path: Path, content: bytes) -> None:
    """After this, also after a power cut, the file has either its old content or all of the new."""
    new = path.with_name(path.name + ".new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, content)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    failpoints.hit("identity.before_rename")
    new.replace(path)
    sync_directory(path.parent)


def make_directory(path: Path) -> None:
    """Make a directory with those above it, if need be, so that a power cut does not take it away again.

    Raises:
        OSError: it cannot be made.
    """
    missing = [place for place in (path, *path.parents) if not place.exists()]
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    for made in missing:
        with contextlib.suppress(PermissionError):  # may be written and not be read: then nobody can sync it
            sync_directory(made.parent)


def sync_directory(path: Path) -> None:
    """Make creations, renames and removals in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
