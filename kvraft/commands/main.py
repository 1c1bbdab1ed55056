"""The `kvraft` command where it is called with a subcommand: arguments in, an exit code out."""

import os
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import click

from kvraft import logs
from kvraft.commands import root, table
from kvraft.commands.calls import Call
from kvraft.commands.exits import Exit, Failure, is_expected, of_file, told
from kvraft.commands.output import printable


def main(arguments: Sequence[str], environment: Mapping[str, str] | None = None) -> int:
    """Carry out a subcommand. Its exit code; whatever goes wrong is one line on stderr."""
    call = Call(os.environ if environment is None else environment)
    command = root.command()
    try:
        if table.COMPLETING in os.environ:
            _complete(command)
        with command.make_context("kvraft", list(arguments), obj=call) as context:
            ended: Any = command.invoke(context)
        sys.stdout.flush()
    except click.exceptions.Exit as asked_for_help:
        ended = asked_for_help.exit_code
    except BrokenPipeError:
        _discard_stdout()
        return Exit.NOBODY_READS
    except (click.Abort, EOFError, KeyboardInterrupt):
        if call.interrupted:
            logs.last_words(call.interrupted)
        return Exit.INTERRUPTED
    except OSError as error:
        return _fail(of_file(error) if error.filename else Failure(f"stdout: {error.strerror or error}"))
    except Exception as error:
        if not is_expected(error):
            raise
        return _fail(error)
    return ended if isinstance(ended, int) else Exit.DONE


def _fail(error: Exception) -> Exit:
    text, exit_code = told(error)
    logs.last_words(printable(text))  # a server may have said it
    return exit_code


def run(arguments: Sequence[str]) -> int:
    """`main` as a process: Ctrl-C and SIGTERM end what is under way in order; a terminal that closes takes it along."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, _terminated)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:  # it was closed, so whoever called wants nothing from it
            setattr(sys, name, open(os.devnull, "r+", encoding="utf-8"))  # noqa: PTH123, SIM115 -- until the end
    return main(arguments)


def _terminated(_number: int, _frame: object) -> NoReturn:
    """What is under way is undone, as at Ctrl-C."""
    raise SystemExit(Exit.TERMINATED)


def _complete(command: click.Group) -> NoReturn:
    """Tell a shell what may follow, which it asks for in the environment."""
    from kvraft.commands import completion  # noqa: PLC0415 -- no subcommand needs it

    command.params += completion.server_flags()
    command.main([], "kvraft", complete_var=table.COMPLETING)


def _discard_stdout() -> None:
    """What is still buffered has no reader; the interpreter would fail on it again at its end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
