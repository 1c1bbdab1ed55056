"""A subcommand of a function, and what that function is given."""

import asyncio
import functools
import inspect
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Final, cast, final

import click
from click.core import ParameterSource

from kvraft.client import Client
from kvraft.commands.codes import Exit, short
from kvraft.commands.options import Given, global_options
from kvraft.commands.output import Output

Ended = Exit | None
"""How a function ends; None is `Exit.DONE`."""
Function = Callable[..., Ended | Coroutine[Any, Any, Ended]]


@final
class Call:
    """One command line: the first argument of every subcommand's function."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.given: Final = Given(environment)
        self.out: Final = Output()
        self.interrupted = "interrupted"
        """What is said at Ctrl-C: what is left, how it goes on. Empty where that is the end that everybody wants."""

    def client(self, endpoints: Sequence[str] = (), timeout_s: float | None = None) -> Client:
        """A client of the cluster that the options name, or of these endpoints with the options' TLS and user.

        Raises:
            Failure: an endpoint, a file or the user cannot be used.
        """
        return self.given.client(endpoints, timeout_s)


def subcommand(name: str = "command", parent: click.Group | None = None) -> Callable[[Function], click.Command]:
    """Make a subcommand of a function, whose docstring is the help. `parent` is for those with a second word."""

    def make(function: Function) -> click.Command:
        @functools.wraps(function)
        def run(*arguments: Any, **options: Any) -> Ended:
            context = click.get_current_context()
            _refuse_empty(context)
            ended = function(context.obj, *arguments, **options)
            return asyncio.run(ended) if inspect.iscoroutine(ended) else cast("Ended", ended)

        made = click.command(name, epilog=f"Exit codes: {short()}.")(run)
        made.params += global_options()
        if parent is not None:
            parent.add_command(made)
        return made

    return make


def _refuse_empty(context: click.Context) -> None:
    """An empty text on a command line is a variable of a script that was never set.

    As a file it would be the working directory, as a name that of a member which has not been started. Of the global
    options it is as if they were not given, as in etcdctl.
    """
    for parameter in context.command.params:
        value = context.params.get(parameter.name or "")
        if context.get_parameter_source(parameter.name or "") is not ParameterSource.COMMANDLINE:
            continue
        if "" in (value if isinstance(value, tuple) else (value,)):
            raise click.BadParameter("it is empty", context, parameter)


def group(text: str) -> click.Group:
    """A subcommand that has subcommands of its own; the text is its help."""
    return click.Group("group", help=text, params=global_options(), no_args_is_help=False, subcommand_metavar="COMMAND")
