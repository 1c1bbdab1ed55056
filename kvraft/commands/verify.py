"""`kvraft verify`: every record of a backup, or of a stopped member's data directory."""

from collections.abc import Mapping
from pathlib import Path

import click

from kvraft.backup import verification
from kvraft.commands.calls import Call, subcommand
from kvraft.commands.exits import Exit, Failure, of_file
from kvraft.storage.errors import DirectoryInUseError, StorageError, WrongDirectoryError


@subcommand()
@click.argument("place", metavar="FILE|DIR", type=click.Path())
def command(call: Call, place: str) -> None:
    """Check every record of a backup or of a stopped member's data directory.

    Then print what is in it. What is damaged ends with exit code 5 and a line that says where. It takes the memory
    that a member with this data takes. A directory is opened as its member would, so be the same user.
    """
    path = Path(place)
    if not path.exists():
        raise Failure(f"{path}: there is no such file or directory", Exit.WRONG_ARGUMENTS)
    if not path.is_dir() and not path.is_file():  # a FIFO would be waited for
        raise Failure(
            f"{path}: neither a file nor a directory: give a backup or a data directory", Exit.WRONG_ARGUMENTS
        )
    try:
        found = verification.verify(path)
    except (DirectoryInUseError, WrongDirectoryError) as error:
        raise Failure(str(error), Exit.WRONG_ARGUMENTS) from error
    except StorageError as error:
        raise Failure(str(error), Exit.NOT_WELL) from error
    except OSError as error:
        raise of_file(error, str(path)) from error
    if call.out.is_json:
        call.out.json({"place": str(path), "whole": True, **found})
        return
    call.out.line(f"{path}: every record of this {found['kind']} is whole", "good")
    call.out.table(
        ["", ""], [[name.replace("_", " "), _text(value)] for name, value in found.items() if name != "kind"]
    )


def _text(value: object) -> str:
    """As a person writes it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(f"{item['name']} ({item['id']})" for item in value if isinstance(item, Mapping))
    return str(value)
