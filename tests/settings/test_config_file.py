import pathlib
import re
import subprocess
import sys

import hypothesis
import pytest
from hypothesis import strategies

from kvraft.settings import flags, settings
from kvraft.settings.flags import Given, SettingsError
from kvraft.start import config_file

SAMPLE = pathlib.Path(__file__).parents[1] / "data" / "units" / "etcd.conf.yml"


def read(directory: pathlib.Path, text: str | bytes, *arguments: str, **environment: str) -> Given:
    """What is read with a file of this text."""
    path = directory / "c.yml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return config_file.read(flags.read([f"--config-file={path}", *arguments], environment))


def texts(given: Given) -> dict[str, str]:
    """The values but for the file's own."""
    return {name: value.text for name, value in given.values.items() if name != "config-file"}


def test_keys_are_those_of_the_flags_with_etcds_types(tmp_path: pathlib.Path) -> None:
    """Texts, numbers, truth values and etcd's lists; capitals as in Go's JSON; null is as if the key were not there."""
    given = read(
        tmp_path,
        "name: n1\nHeartbeat-Interval: 50\nsnapshot-count: 0x64\ndebug: yes\nlog-outputs: [stderr, /l]\ncors:\n"
        "initial-cluster-token: 2001-01-01\nlisten-client-urls: ''\nenable-v2: true\nmax-wals: 5\n",
    )
    assert texts(given) == {
        "name": "n1",
        "heartbeat-interval": "50",
        "snapshot-count": "0x64",
        "debug": "true",
        "log-outputs": "stderr,/l",
        "initial-cluster-token": "2001-01-01",
    }
    assert given.notices == ()
    assert settings.from_flags(given).snapshot_count == 100


def test_nothing_else_is_read_beside_it_but_deeds(tmp_path: pathlib.Path) -> None:
    """As etcd has it, with a line that names what was given in vain; refused flags among it refuse nothing."""
    given = read(tmp_path, "name: file", "--name=x", "--rebuild", "--experimental-enable-v2v3=/k", ETCD_DATA_DIR="/d")
    assert texts(given) == {"name": "file", "rebuild": "true"}
    [notice] = given.notices
    assert notice == (
        f"--config-file={tmp_path}/c.yml is all that is read, as by etcd: --name=x, "
        "--experimental-enable-v2v3=/k, ETCD_DATA_DIR=/d changes nothing"
    )


def test_variable_may_name_the_file(tmp_path: pathlib.Path) -> None:
    """As in the images that set nothing but ETCD_CONFIG_FILE."""
    (tmp_path / "c.yml").write_text("name: n1")
    given = config_file.read(flags.read([], {"ETCD_CONFIG_FILE": str(tmp_path / "c.yml")}))
    assert texts(given) == {"name": "n1"}


def test_unknown_and_repeated_keys_are_named_with_their_lines(tmp_path: pathlib.Path) -> None:
    """They change nothing, in etcd without a word; of a repeated key the last counts."""
    given = read(tmp_path, "name: a\nnam: b\nname: c\nclient-transport-security:\n  keyfile: /k\nhelp: true\n")
    assert texts(given) == {"name": "c"}
    path = tmp_path / "c.yml"
    assert given.notices == (
        f"{path}:2: nam is not a key that kvraft reads: did you mean name?",
        f"{path}:1: name: a has no effect: name comes again below it",
        f"{path}:5: client-transport-security.keyfile is not a key that kvraft reads",
        f"{path}:6: help is not a key that kvraft reads",
    )


def test_flag_without_effect_and_refused_one_are_named_with_their_lines(tmp_path: pathlib.Path) -> None:
    """The same rules as for flags, another source."""
    path = tmp_path / "c.yml"
    assert read(tmp_path, "\nmax-wals: 3").notices[0].startswith(f"{path}:2: max-wals: 3 has no effect: ")
    with pytest.raises(SettingsError, match=rf"^{path}:1: experimental-enable-v2v3: /k: the v2 API is kvraft's own"):
        read(tmp_path, "experimental-enable-v2v3: /k")


BOMB = "\n".join(["a0: &a0 [x]", *(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30))])
WRONG = [
    ("name: [a]", "c.yml:1: name: a list where one value is expected"),
    ("\nname: 5", "c.yml:2: name: 5: a number: write it in quotes"),
    ("name: yes", "c.yml:1: name: yes: a truth value: write it in quotes"),
    ("snapshot-count: '10'", "c.yml:1: snapshot-count: 10: text: write a whole number, without quotes"),
    ("debug: 'true'", "c.yml:1: debug: true: text: write true or false, without quotes"),
    ("debug: 1", "c.yml:1: debug: 1: a number: write true or false, without quotes"),
    ("log-outputs: [1]", "c.yml:1: log-outputs: 1: a number in the list: write each as text"),
    ("log-outputs: {a: b}", "c.yml:1: log-outputs: a map where one value is expected"),
    ("- a", "c.yml:1: a list where keys are expected: write name: value, one a line"),
    ("text", "c.yml:1: text where keys are expected"),
    ("? [a]\n: b", "c.yml:1: a list where a key is expected"),
    ("client-transport-security: x", "c.yml:1: text where keys are expected"),
    (
        "cert-file: /c",
        "c.yml:1: cert-file: /c: etcd reads it in a section only: move it below client-transport-security",
    ),
    ("peer-auto-tls: true", "etcd reads it in a section only: move it below peer-transport-security, as auto-tls"),
    ("a: &a {name: x}\n<<: *a", "c.yml:2: <<: merged maps are not read here"),
    ("name: *a", "c.yml:1: found undefined alias"),
    ("name: !!python/object:os.system x", "is a tag that means nothing here: write it in quotes"),
    ("name: 'a", "c.yml:1: found unexpected end of stream: it is no YAML"),
    ("\tname: a", "c.yml:1: found character '\\t' that cannot start any token"),
    ('{"name": "json"', "c.yml:1: expected ',' or '}'"),
    (b"a: 1\nname: \xff", "c.yml:2: it is not UTF-8"),
    ("name: a\n\nb: \x01", "c.yml:3: a control character"),
    ("[" * 5000, "c.yml: it is nested too deeply"),
    ('data-dir: "\\ud800"', "c.yml:1: data-dir: \\ud800: half of a character"),
    ('log-outputs: ["\\udfff"]', "c.yml:1: log-outputs: half of a character"),
    ("name: x\nname: ''", "c.yml:2: name: : it is empty"),
    ("#" * (1 << 17), "it has more than 64 KiB"),
    ("election-timeout: 400", "c.yml:1: election-timeout: 400: --election-timeout[400ms] should be at least"),
]


@pytest.mark.parametrize(("text", "line"), WRONG, ids=[line[:40] for _, line in WRONG])
def test_wrong_file_is_one_line_with_file_line_key_and_remedy(
    text: str | bytes, line: str, tmp_path: pathlib.Path
) -> None:
    """Whatever is in it."""
    with pytest.raises(SettingsError) as caught:
        settings.from_flags(read(tmp_path, text))
    assert line in str(caught.value)
    assert str(caught.value).startswith((f"{tmp_path}/c.yml:", f"--config-file={tmp_path}/c.yml:"))
    assert str(caught.value).isprintable()


def test_aliases_cannot_multiply(tmp_path: pathlib.Path) -> None:
    """Nine to the thirtieth values in one kilobyte: each node is looked at once."""
    assert texts(read(tmp_path, f"{BOMB}\nname: n1")) == {"name": "n1"}
    with pytest.raises(SettingsError, match="a list where one value is expected"):
        read(tmp_path, f"{BOMB}\nname: *a29")


@pytest.mark.parametrize(("path", "why"), [("none", "No such file"), (".", "Is a directory"), ("a\0b", "null byte")])
def test_file_that_cannot_be_read_is_one_line(path: str, why: str, tmp_path: pathlib.Path) -> None:
    """Not there, a directory, no name at all."""
    with pytest.raises(SettingsError, match=why) as caught:
        config_file.read(flags.read([f"--config-file={tmp_path}/{path}"], {}))
    assert str(caught.value).isprintable()


AS_ETCD = [
    "name: [a]", "name: 5", "name: yes", "name: ~", "name: 2001-01-01", "snapshot-count: '10'", "snapshot-count: 0x64",
    "debug: yes", "debug: 'true'", "debug: 0", "log-outputs: [stderr]", "log-outputs: [1]", "- a", "", "nam: a",
    "NAME: a", "name: a\nname: b", "client-transport-security: x", "client-transport-security: {bogus: 1}",
    "client-transport-security: {auto-tls: 1}", "peer-transport-security: {cert-file: 5}", "a: &a [1]\nb: *a",
    "name: *a", b"name: \xff", "\tname: a", '{"name": "json"}', '{"name": "json"', "cors: 5", "initial-cluster:",
    "a: 1\n---\nb: [", "max-wals: 5", "proxy-failure-wait: 5000", "quota-backend-bytes: 0", "force-new-cluster: false",
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("text", AS_ETCD, ids=map(repr, AS_ETCD))
def test_file_is_taken_if_etcd_takes_it(text: str | bytes, tmp_path: pathlib.Path) -> None:
    """The installed etcd judges: it checks the election timeout once everything has been read."""
    data = text if isinstance(text, bytes) else text.encode()
    is_json = data.startswith(b"{")
    last = b'"election-timeout": 400' if is_json else b"election-timeout: 400"
    data = data.replace(b"}", b", " + last + b"}") if is_json else last + b"\n" + data
    (tmp_path / "c.yml").write_bytes(data)
    ended = subprocess.run(
        ["etcd", f"--config-file={tmp_path}/c.yml"],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
        cwd=tmp_path,
    )
    assert "error verifying flags" in ended.stderr
    with pytest.raises(SettingsError) as caught:
        settings.from_flags(read(tmp_path, data))
    assert ("should be at least as 5 times" in str(caught.value)) == ("should be at least as 5 times" in ended.stderr)


@hypothesis.given(strategies.binary(max_size=200) | strategies.text(max_size=100).map(str.encode))
@hypothesis.settings(suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
def test_any_bytes_are_read_or_refused_in_one_line(tmp_path: pathlib.Path, data: bytes) -> None:
    """No file makes a traceback or a message of several lines."""
    try:
        given = read(tmp_path, data)
    except SettingsError as error:
        assert str(error).isprintable()
    else:
        assert all(notice.isprintable() for notice in given.notices)


@pytest.mark.slow
def test_wrong_file_ends_the_start_before_anything_is_touched(tmp_path: pathlib.Path) -> None:
    """One line, code 1, no directory."""
    (tmp_path / "c.yml").write_text(f"data-dir: {tmp_path}/d\nelection-timeout: soon\n")
    command = [sys.executable, "-m", "kvraft", f"--config-file={tmp_path}/c.yml"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == (
        f"kvraft: {tmp_path}/c.yml:2: election-timeout: soon: text: write a whole number, without quotes\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["c.yml"]


def test_sample_that_etcd_ships_is_read_without_a_word_about_unknown_keys(tmp_path: pathlib.Path) -> None:
    """Every key of etcd.conf.yml.sample, with its defaults."""
    given = read(tmp_path, SAMPLE.read_text())
    assert [notice for notice in given.notices if re.search("not a key", notice)] == []
    assert settings.from_flags(given).name == "default"
