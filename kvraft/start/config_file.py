"""The file that `--config-file` names."""

import pathlib
from typing import Final

from kvraft.settings.flags import Given

_BYTES_MAX: Final = 1 << 16
"""Some hundred settings and the names of a large cluster have room; a log or a disk that is named by a slip has not."""


def read(given: Given) -> Given:
    """The settings in the file, with the deeds that were asked for beside it.

    Raises:
        SettingsError: it cannot be read, is no YAML, or has a value that is none of its key's. One line.
    """
    from kvraft.settings import config_file  # noqa: PLC0415 -- YAML is for those who have such a file

    value = given.values["config-file"]
    try:
        with pathlib.Path(value.text).open("rb") as file:
            data = file.read(_BYTES_MAX + 1)
    except OSError as error:
        raise value.error(f"{error.strerror}: give a file that this user can read") from error
    except ValueError as error:  # a NUL in its name
        raise value.error(f"{error}: give the path of a file") from error
    if len(data) > _BYTES_MAX:
        raise value.error(f"it has more than {_BYTES_MAX >> 10} KiB, as no file of settings has: give another one")
    return config_file.read(value.text, data, given)
