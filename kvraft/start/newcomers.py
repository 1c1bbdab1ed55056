"""Whether a start is that of a member which comes to a cluster that runs, and what becomes of it then."""

from dataclasses import replace
from typing import Final

from kvraft.settings.flags import SettingsError
from kvraft.settings.settings import Settings
from kvraft.start.adding import add_itself, refuse_other_cluster
from kvraft.start.arriving import arrive, find_again
from kvraft.start.data_directory import refuse_unusable
from kvraft.start.discovering import discover
from kvraft.start.http_door import Contexts, HttpDoor, NoAnswerError

_WITHOUT_NEED_S: Final = 1.0
"""A start that needs nobody waits no longer for a cluster that does not answer."""
_NO_DATA: Final = "it holds no member's data"


def settle(wanted: Settings, rebuild: str, security: Contexts | None = None) -> tuple[Settings, str]:
    """Who this member is, if a running cluster must tell, and why it rebuilds, if it does.

    Called when its ports are its own and before any file is touched.

    Raises:
        SettingsError: it cannot come to that cluster, or the members of one that is founded cannot be found out; one
            line with the remedy.
        StorageError: its directory is somebody else's, or damaged; nobody was asked.
        FullClusterError: it was to be one of the founders, and is one too many.
    """
    if wanted.is_empty and wanted.discovery.is_wanted:
        refuse_unusable(wanted.data_dir, wanted.wal_dir, rebuilds=wanted.rebuild)
        wanted, was_registered = discover(wanted, has_been=wanted.rebuild)
        if was_registered and not rebuild:
            return wanted, _NO_DATA
    if not wanted.is_empty:
        if wanted.joining.urls:
            refuse_other_cluster(wanted, HttpDoor(_WITHOUT_NEED_S, security))
        return wanted, rebuild
    if rebuild:
        return wanted, rebuild
    if not wanted.joining.urls and wanted.initial_cluster_state == "new":
        found = find_again(wanted, HttpDoor(_WITHOUT_NEED_S, security)) if wanted.rebuild else None
        return (wanted, "") if found is None else (found.settings, _NO_DATA)
    refuse_unusable(wanted.data_dir, wanted.wal_dir, rebuilds=wanted.rebuild)
    try:
        arrival = (add_itself if wanted.joining.urls else arrive)(wanted, HttpDoor(security=security))
    except NoAnswerError:
        return wanted, _NO_DATA  # and waits for somebody to tell
    if not arrival.has_been:
        return replace(arrival.settings, is_empty=False), ""
    if not wanted.rebuild:
        raise SettingsError(
            f"{wanted.data_dir} holds no member's data, and this member has started before: restore its directory, "
            "start it with --rebuild to get everything back from the others, or put a new one in its place with "
            f"--join and --replace={arrival.settings.name}"
        )
    return arrival.settings, _NO_DATA
