"""Whose a directory is, so that a member that cannot use it says what to look at."""

import errno
import os
import pwd
import stat
from pathlib import Path
from typing import Final

_NOT_YET: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EACCES})
"""Not there, or behind what is no directory or closed to us: what is above it tells."""


def why_unusable(path: Path) -> str:
    """What stands in the way of this user at a path or above it, as far as it can be seen; empty if nothing does."""
    for place in (path, *path.parents):
        try:
            if place.is_symlink() and not place.exists():
                return f"{place} is a link to {place.readlink()}, which is not there"
            facts = place.stat()
        except OSError as error:
            if error.errno in _NOT_YET:
                continue
            return f"{place}: {error.strerror}"
        if not stat.S_ISDIR(facts.st_mode):
            return f"{place} is no directory"
        if not os.access(place, os.W_OK | os.X_OK, effective_ids=True):
            owner, mode = _user(facts.st_uid), stat.S_IMODE(facts.st_mode)
            return f"{place} belongs to {owner} with mode {mode:04o}, and this is {_user(os.geteuid())}"
        return ""
    return ""


def _user(uid: int) -> str:
    try:
        return f"user {pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"user {uid}"
