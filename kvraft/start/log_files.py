"""The log and the audit log, opened where the flags say."""

from kvraft import audit_log, logs
from kvraft.logs import LogSettings
from kvraft.settings.flags import Given


def begin_log(given: Given, wanted: LogSettings) -> None:
    """Log as is wanted from now on.

    Raises:
        SettingsError: a file cannot be written.
    """
    try:
        logs.configure(wanted)
    except OSError as error:
        reason = f"{error.filename}: {error.strerror}: give a file that this user can write, or stderr"
        raise given.error(reason, "log-outputs") from error


def begin_audit(given: Given, path: str) -> None:
    """Keep an audit log from now on, if one is wanted.

    Raises:
        SettingsError: the file cannot be written.
    """
    if not path:
        return
    try:
        audit_log.open_at(path)
    except OSError as error:
        reason = f"{error.filename}: {error.strerror}: give a file that this user can write, or stderr"
        raise given.error(reason, "audit-log") from error
