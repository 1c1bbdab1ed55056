"""The group of all subcommands, as click knows it."""

import importlib
from typing import Final, final

import click

from kvraft.commands import table
from kvraft.commands.options import global_options

EPILOG: Final = "Without a subcommand kvraft is a member; kvraft --help lists its flags."


@final
class Subcommands(click.Group):
    """The subcommands of `table`, each imported when it is called."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        """Their names, in the order of the help."""
        return list(table.SUBCOMMANDS)

    def get_command(self, _ctx: click.Context, name: str) -> click.Command | None:
        """One of them."""
        entry = table.SUBCOMMANDS.get(name)
        if entry is None:
            return None
        found: click.Command = importlib.import_module(f"kvraft.commands.{entry.module}").command
        found.name = name
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The subcommand of a word, or what was meant."""
        if args and args[0] not in table.SUBCOMMANDS and not ctx.resilient_parsing:
            meant = table.alike(args[0])
            hint = f"did you mean {meant}?" if meant else f"there are {', '.join(table.SUBCOMMANDS)}"
            raise click.UsageError(f"{args[0]!r} is no subcommand: {hint}", ctx)
        return super().resolve_command(ctx, args)


def command() -> click.Group:
    """`kvraft` with its subcommands."""
    text = "A key-value store replicated by Raft that speaks the etcd v2 API."
    return Subcommands("kvraft", help=text, params=global_options(), epilog=EPILOG, subcommand_metavar="SUBCOMMAND")
