"""The `kvraft` command: flags in, an exit code out."""

import os
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import Final

from kvraft import logs
from kvraft.commands import codes, table
from kvraft.security.files import SecurityError
from kvraft.settings import flags, old_flags, settings
from kvraft.settings.flags import SettingsError
from kvraft.start import config_file, data_directory, versions
from kvraft.start.exit_codes import EXIT_FAILURE, EXIT_SIGNAL
from kvraft.start.start import start
from kvraft.storage.errors import StorageError
from kvraft.transport.listening import ListenError

_STDOUT: Final = 1


def main(arguments: Sequence[str] | None = None, environment: Mapping[str, str] | None = None) -> int:
    """Run a member until SIGTERM or SIGINT. Exit code 1 for wrong settings, an unusable directory, or a failure."""
    try:
        given = flags.read(
            sys.argv[1:] if arguments is None else arguments, os.environ if environment is None else environment
        )
        if given.is_on("help"):
            return _print(_help_text())
        if given.is_on("version"):
            return _print(versions.version_text())
        if "config-file" in given.values:
            given = config_file.read(given)
        given = old_flags.as_urls(given)
        if given.is_on("put-back"):
            return _print(data_directory.put_back(settings.data_dir(given)))
        return start(given)
    except (SettingsError, SecurityError, StorageError, ListenError) as error:
        logs.last_words(str(error))
        return EXIT_FAILURE


def _help_text() -> str:
    """The subcommands, and the flags of the server."""
    lines = [
        "Usage: kvraft [flags]",
        "       kvraft SUBCOMMAND [options]",
        "",
        "Subcommands, each with --help:",
        *table.help_lines(),
        "",
        f"Exit codes of subcommands: {codes.short()}.",
        "",
        "Without a subcommand kvraft is a member, and takes etcd's flags.",
    ]
    return "\n".join(lines) + "\n" + flags.help_text()


def _print(text: str) -> int:
    """Write to stdout; the exit code. Whoever reads no further, as `head` does, is no error to talk about."""
    data = text.encode("utf-8", "backslashreplace")
    try:
        while data:
            data = data[os.write(_STDOUT, data) :]
    except BrokenPipeError:
        return EXIT_SIGNAL + signal.SIGPIPE
    except OSError as error:
        logs.last_words(f"cannot write to stdout: {error.strerror}")
        return EXIT_FAILURE
    return 0
