"""What operators are told of the flags is what the table has, and the table is what the installed etcd has."""

from kvraft.settings import flags
from kvraft.settings.flag_table import ETCD_DEFAULTS, FLAGS, Use
from tests.settings import flag_page

_OTHERWISE = {"enable-v2", "experimental-initial-corrupt-check", "pre-vote"}
"""Off in etcd, and always on here: who spells that out is told."""


def test_page_has_the_table() -> None:
    """docs/operations.md is what `python -m tests.settings.flag_page` writes."""
    text = flag_page.PAGE.read_text()
    assert flag_page.page(text) == text


def test_defaults_of_etcd_are_those_that_its_help_shows() -> None:
    """Of every flag that has an effect, kvraft's default is etcd's, or the page has both."""
    shown = flag_page.etcd_defaults()
    assert len(shown) > 75
    shown["max-concurrent-streams"] = shown["max-concurrent-streams"].replace("math.MaxUint32", str((1 << 32) - 1))
    told = {name: ETCD_DEFAULTS.get(name, FLAGS[name].default) for name in shown if FLAGS[name].use is Use.SETTING}
    assert told == {name: shown[name] for name in told}
    others = {name: default for name, default in ETCD_DEFAULTS.items() if name not in told}
    assert others == {name: shown[name] for name in others}


def test_spelled_out_default_of_etcd_passes_in_silence() -> None:
    """A unit file may repeat every default of etcd: no flag that is no setting refuses it or talks about it."""
    talkative = set()
    for name, default in flag_page.etcd_defaults().items():
        if FLAGS[name].use is not Use.SETTING:
            text = ETCD_DEFAULTS.get(name, default)
            if flags.read([f"--{name}={text}"], {}).notices:
                talkative.add(name)
    assert talkative == _OTHERWISE
