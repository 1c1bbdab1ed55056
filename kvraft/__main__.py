"""`kvraft`, and `python -m kvraft`: what has to be so before everything else is imported."""

import os
import sys

try:
    from kvraft.commands import table
    from kvraft.start import signals
except KeyboardInterrupt:
    os._exit(130)


def main() -> int:
    """Run the command. Its exit code."""
    signals.prepare()
    _open_standard_descriptors()
    if table.is_called(sys.argv[1:]) or table.COMPLETING in os.environ:
        from kvraft.commands import main as subcommands  # noqa: PLC0415 -- libraries that the server does without

        return subcommands.run(sys.argv[1:])
    from kvraft import cli  # noqa: PLC0415 -- it takes a moment and opens files, after the above

    return cli.main()


def _open_standard_descriptors() -> None:
    """Where 0, 1 or 2 was closed, the next file or socket would be it, and get the lines meant for stderr."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            # The lowest free number, so this one.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)


if __name__ == "__main__":
    sys.exit(main())
