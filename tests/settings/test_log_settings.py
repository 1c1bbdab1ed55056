import logging

import pytest

from kvraft.logs import LogSettings
from kvraft.settings import flags, log_settings, settings
from kvraft.settings.flags import SettingsError


def read(*arguments: str) -> LogSettings:
    """The settings of the log that these arguments make."""
    return log_settings.from_flags(flags.read(arguments, {}))


def test_nothing_said_is_text_on_stderr_from_info_up() -> None:
    """And so are etcd's defaults, spelled out."""
    assert read() == LogSettings(logging.INFO, (), (), False, ("default",))
    assert read("--logger=capnslog", "--log-outputs=default", "--log-level=info", "--debug=false") == LogSettings()


def test_zap_is_json_and_outputs_may_be_several() -> None:
    """As etcd 3.3 called them: `--log-output`."""
    assert read("--logger=zap", "--log-outputs=stderr, /var/log/kvraft.log") == LogSettings(
        as_json=True, outputs=("stderr", "/var/log/kvraft.log")
    )
    assert read("--log-output=stdout").outputs == ("stdout",)


def test_package_levels_of_etcd_2_are_those_of_the_rooms_that_do_the_same() -> None:
    """`etcdserver` is the member, `rafthttp` the transport; `*` is all of them; capnslog's names in any case."""
    wanted = read("--log-package-levels=etcdserver=DEBUG,rafthttp=w, etcdserver/api/v2http=error,*=NOTICE", "--debug")
    assert read("--log-package-levels=proxy/httpproxy=DEBUG").room_levels == (("proxy", logging.DEBUG),)
    assert wanted.room_levels == (
        ("member", logging.DEBUG),
        ("transport", logging.WARNING),
        ("api_v2", logging.ERROR),
    )
    assert wanted.level == logging.INFO


def test_package_level_that_nobody_reads_is_warned_of_and_refuses_nothing() -> None:
    """As etcd, which goes on with its defaults, does."""
    given = flags.read(["--log-package-levels=etcdserver=LOUD,lease=DEBUG,raft\n,wal=INFO"], {})
    made = settings.from_flags(given)
    assert made.log.room_levels == (("storage", logging.INFO),)
    line = "--log-package-levels=etcdserver=LOUD,lease=DEBUG,raft: no room or no level is called so"
    assert [warning for warning in made.warnings if warning.startswith(line)]


@pytest.mark.parametrize(
    ("argument", "line"),
    [
        ("--logger=json", "--logger=json: use capnslog for lines of text, or zap for JSON"),
        ("--log-level=loud", "--log-level=loud: use debug, info, warn or error"),
        ("--log-outputs=,", "--log-outputs=,: use default, stderr, stdout, or paths of files, by commas"),
        ("--log-outputs=a\0b", "--log-outputs=a\\x00b: use default"),
    ],
)
def test_wrong_setting_of_the_log_is_one_line(argument: str, line: str) -> None:
    """Flag, value, remedy."""
    with pytest.raises(SettingsError) as caught:
        read(argument)
    assert str(caught.value).startswith(line)
