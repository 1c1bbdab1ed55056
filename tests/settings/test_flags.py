import subprocess

import hypothesis
import pytest
from hypothesis import strategies

from kvraft.settings import flags
from kvraft.settings.flag_table import FLAGS, Use
from kvraft.settings.flags import Given, SettingsError


def given(*arguments: str, **environment: str) -> Given:
    """What is read from these arguments and variables."""
    return flags.read(arguments, environment)


@pytest.mark.parametrize(
    "arguments", [["-name", "n1"], ["--name", "n1"], ["-name=n1"], ["--name=n1"], ["--name=x", "-name", "n1"]]
)
def test_every_spelling_of_go_is_read_and_the_last_wins(arguments: list[str]) -> None:
    """`-flag`, `--flag` and `=` are the same; a repeated flag counts once, the last time."""
    assert given(*arguments).values["name"].text == "n1"


def test_value_may_contain_equals_signs() -> None:
    """Only the first `=` ends the flag's name."""
    assert given("--initial-cluster=n1=http://a:1").values["initial-cluster"].text == "n1=http://a:1"


def test_switch_takes_a_value_only_after_equals() -> None:
    """As in Go: the word after `-debug` is not its value."""
    assert given("-debug").is_on("debug")
    assert not given("-debug=false").is_on("debug")
    assert given("--debug=T", "--name", "x").is_on("debug")
    with pytest.raises(SettingsError, match="'false' is not a flag"):
        given("-debug", "false")


def test_end_of_flags_may_be_said() -> None:
    """As in Go: scripts put `--` before arguments that they do not have."""
    assert given("--name=n1", "--").values["name"].text == "n1"


def test_flag_beats_variable_and_empty_variable_is_unset() -> None:
    """`ETCD_NAME=` in an EnvironmentFile is as if the line were not there."""
    assert given("--name=flag", ETCD_NAME="variable").values["name"].text == "flag"
    assert given(ETCD_NAME="variable").values["name"].text == "variable"
    assert "name" not in given(ETCD_NAME="").values


def test_peers_is_initial_cluster() -> None:
    """`--peers` is the short name, on the command line and as a variable; of both flags the last wins."""
    assert given("--peers", "n1=http://a:1").values["initial-cluster"].source == "--peers=n1=http://a:1"
    assert given("--peers=a", "--initial-cluster=b").values["initial-cluster"].text == "b"
    assert given(ETCD_PEERS="n1=http://a:1").values["initial-cluster"].text == "n1=http://a:1"
    assert given(ETCD_PEERS="a", ETCD_INITIAL_CLUSTER="b").values["initial-cluster"].text == "b"


def test_unknown_variable_is_mentioned_once_without_its_value() -> None:
    """Kubernetes sets ETCD_PORT and the like for a service of that name; a value may be a secret."""
    notices = given(ETCD_PORT="tcp://10.0.0.1:2379", ETCD_EMPTY="", ETCDCTL_API="2", PATH="/bin").notices
    assert notices == ("ETCD_PORT is not a variable that kvraft reads",)
    notices = flags.read((), {"ETCD_INITAL_CLUSTER": "n1=x"}).notices
    assert notices == ("ETCD_INITAL_CLUSTER is not a variable that kvraft reads: did you mean ETCD_INITIAL_CLUSTER?",)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--nosuch", "x"], "--nosuch: flag provided but not defined: see kvraft --help"),
        (["---name=x"], "---name=x: bad flag syntax: write --name=value"),
        (["-=x"], "-=x: bad flag syntax: write --name=value"),
        (["--name"], "--name: flag needs an argument: write --name=value"),
        (["gateway"], "'gateway' is not a flag: give flags only, as in --name=n1"),
        (["--", "--name=x"], "'--name=x' stands after --, where no flags are read: leave the -- out"),
        (["-"], "'-' is not a flag: give flags only"),
        (["--debug=maybe"], "--debug=maybe: invalid boolean value: use true or false"),
        (["--unsafe-no-fsync"], "--unsafe-no-fsync=true: what is acknowledged is on disk, always"),
        (["--name\n=x"], "--name\\n: flag provided but not defined"),
        (["--nmae=x"], "--nmae: flag provided but not defined: did you mean --name?"),
    ],
)
def test_wrong_flag_is_refused_in_one_line_with_its_remedy(arguments: list[str], line: str) -> None:
    """The line names flag, value and what to do, whatever characters were typed."""
    with pytest.raises(SettingsError) as caught:
        given(*arguments)
    assert str(caught.value).startswith(line)
    assert str(caught.value).isprintable()


def test_refused_variable_is_named_by_its_own_name() -> None:
    """An operator looks for what stands in the unit file."""
    with pytest.raises(SettingsError, match=r"^ETCD_UNSAFE_NO_FSYNC=true: what is acknowledged is on disk"):
        given(ETCD_UNSAFE_NO_FSYNC="true")


def test_flags_without_effect_leave_a_line_each() -> None:
    """Harmless flags of etcd are accepted; the log says that they do nothing, and why."""
    notices = given("--max-wals=3", "--quota-backend-bytes", "8589934592", ETCD_METRICS="extensive").notices
    assert notices == (
        "--max-wals=3 has no effect: the log is one environment, compacted by --snapshot-count",
        "--quota-backend-bytes=8589934592 has no effect: it concerns etcd's v3 API only",
        "ETCD_METRICS=extensive has no effect: /metrics shows everything",
    )


@pytest.mark.parametrize(
    "argument",
    [
        "--enable-v2",
        "--enable-v2=true",
        "--pre-vote=true",
        "--unsafe-no-fsync=false",
        "--discovery=",
        "--cluster-active-size=9",
        "-vv",
    ],
)
def test_value_that_asks_for_what_holds_anyway_passes_in_silence(argument: str) -> None:
    """A unit file that spells out defaults gets no warnings."""
    read = given(argument)
    assert read.notices == ()
    assert not read.values


def test_every_flag_of_the_installed_etcd_is_known() -> None:
    """Whatever `etcd --help` lists is a setting here, has no effect, or is refused: never `not defined`."""
    listing = subprocess.run(["etcd", "--help"], capture_output=True, text=True, check=False)
    words = [line.split()[0] for line in (listing.stdout + listing.stderr).splitlines() if line.startswith("  --")]
    assert len(words) > 60
    unknown = {word for word in words if word.removeprefix("--") not in FLAGS}
    assert unknown == set()


def test_help_lists_every_setting() -> None:
    """`kvraft --help` names each flag, with what etcd's others become."""
    text = flags.help_text()
    for flag in FLAGS.values():
        assert flag.use is Use.SILENT or flag.name in text


@hypothesis.given(strategies.lists(strategies.text(max_size=20) | strategies.sampled_from([f"--{n}" for n in FLAGS])))
def test_any_words_are_read_or_refused_in_one_line(arguments: list[str]) -> None:
    """No command line makes a traceback or a message of several lines."""
    try:
        read = flags.read(arguments, {})
    except SettingsError as error:
        assert str(error).isprintable()
    else:
        assert all(notice.isprintable() for notice in read.notices)
