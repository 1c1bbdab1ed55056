"""Who answers: the etcd whose manners these are, kvraft, and the Python below it."""

import platform

from kvraft.settings import settings


def version_text() -> str:
    """Etcd's line first, because scripts read it: `etcd --version | head -1`. Then who really answers."""
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return (
        f"etcd Version: {settings.ETCD_VERSION}\n"
        f"kvraft Version: {kvraft_version()}\n"
        f"kvraft Form: {form()}\n"
        f"Python Version: {python}\n"
        f"OS/Arch: {platform.system().lower()}/{platform.machine()}\n"
    )


def kvraft_version() -> str:
    """Of the installed package."""
    from importlib import metadata  # noqa: PLC0415 -- a start does not need it

    return metadata.version("kvraft")


def form() -> str:
    """`compiled`, if the hot files run as extension modules (`setup.py`), else `pure`."""
    from kvraft.raft import core  # noqa: PLC0415 -- `--help` does not need it

    return "pure" if core.__file__.endswith(".py") else "compiled"
