"""How far an import is, beside it on disk: so that one that was killed goes on where it was.

Doing a change twice does no harm, so the file may be behind by what its last writing did not reach.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final, final

from kvraft.migration.contents import UnusableError
from kvraft.storage.whole_file import whole_file

_FORMAT: Final = 1
_ERRORS: Final = "surrogateescape"
"""A path that is not UTF-8 is text for JSON, too, and comes back as it was."""


@final
@dataclass(slots=True)
class Progress:
    """What the file holds."""

    source: str
    """Which cluster, directory or file, and which of that name."""
    target: str
    indices: dict[bytes, int] = field(default_factory=dict)
    """For each watched path, up to which index it was followed. Empty while the first copy is being made."""
    format: int = _FORMAT


def load(path: Path, source: str, target: str) -> Progress | None:
    """What was reached; None where nothing was begun.

    Raises:
        UnusableError: it is the state of another import, or none.
    """
    try:
        facts = json.loads(path.read_text())
        indices = {top.encode("utf-8", _ERRORS): index for top, index in facts["indices"].items()}
        progress = Progress(facts["source"], facts["target"], indices, facts["format"])
    except FileNotFoundError:
        return None
    except OSError as error:
        error.filename = str(path)  # that of a read names nothing
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UnusableError(f"{path}: not the state of an import ({error}); remove it to begin anew") from error
    if progress.format != _FORMAT:
        raise UnusableError(f"{path}: of another version of kvraft; remove it to begin anew")
    if (progress.source, progress.target) != (source, target):
        raise UnusableError(
            f"{path}: the state of an import from {progress.source} to {progress.target}, and this one is from {source}"
            f" to {target}; name another file (--state), or remove it to begin anew"
        )
    return progress


def save(path: Path, progress: Progress) -> None:
    """Replace the file in one step."""
    indices = {top.decode("utf-8", _ERRORS): index for top, index in progress.indices.items()}
    with whole_file(path) as file:
        file.write(json.dumps(asdict(progress) | {"indices": indices}).encode())
