"""The subcommands of `kvraft`, one file each; without one, `kvraft` is the server and imports `table` alone.

- `table`: their names, modules and summaries, and whether a command line calls one;
- `main`: carries one out: arguments in, an exit code out;
- `root`: all of them as click knows them, each imported when it is called;
- `calls`: `subcommand`, which makes one of a function, and what that is given: `Call`;
- `options`: what every subcommand takes (`--endpoints`, `--user`, ...), `ETCDCTL_*`, and a `Client` made of them;
- `output`: lines, tables, JSON and progress, with colours on a terminal only;
- `codes`: the exit codes; `exits`: the one line that each failure becomes;
- `completion`, `manual`: shells' completion and the man page, of what `--help` shows;
- `cluster_view`: what the members of a cluster say of themselves, and what is wrong;
- `import_arguments`: what `import` is given, as values;
- `status`, `member`, `backup`, `verify`, `restore`: subcommands.

To add one: a line in `table.SUBCOMMANDS`, and a file here like this:

    import click

    from kvraft.commands.calls import Call, subcommand


    @subcommand()
    @click.argument("key")
    @click.option("--quorum", is_flag=True, help="As a majority has it now.")
    async def command(call: Call, key: str, *, quorum: bool) -> None:
        \"\"\"Print what is at a key.

        The docstring is the help: its first line is the sentence, paragraphs follow.
        \"\"\"
        async with call.client() as client:
            event = await client.get(key, quorum=quorum)
        if call.out.is_json:
            call.out.json({"key": event.node.key, "value": event.node.value})
        else:
            call.out.table(["KEY", "VALUE"], [[event.node.key, event.node.value or ""]])

The function may be `async` or plain, and returns None or an `Exit`. What goes wrong is raised: the client's errors as
they are, `exits.Failure` with a line that says what to do, `click.UsageError` for wrong arguments. Libraries that only
one subcommand needs are imported in its file, so that the others start quickly. `manual` writes the man page anew:
`.venv/bin/python -m kvraft.commands.manual > man/kvraft.1`.
"""
