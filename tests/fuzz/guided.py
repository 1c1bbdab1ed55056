"""Fuzzing that is guided by coverage: `python -m tests.fuzz.guided [TARGET ...] [--seconds 60] [--seed 7]`.

For what reads bytes with branches of our own, where a grammar may have forgotten one: libFuzzer (atheris) keeps what
reaches a branch for the first time and goes on from there. What protobuf and msgpack parse in C it cannot see. A
finding is a file; `python -m tests.fuzz.guided TARGET --input FILE` tries it again.

| target | bytes are | demands |
|---|---|---|
| splitter | a connection, cut into pieces | the same requests however it is cut; each is one for aiohttp's parser |
| heads | the header lines of a request | what is plain to the fast front, aiohttp's parser reads in the same way |
| key-request | method, content type, query, body | a request or `EtcdError`, with short cuts as without |
| targets | a request target | a clean path that is clean, and a redirect that is one line |
| records | a record of storage or keyspace, below its checksum | a value, or one of the typed errors |
| session | a member's connection, raw or sealed, cut into pieces | the same messages however it is cut, each checked |
| settings | a command line and a configuration file | settings, or one line, and nothing touched |
"""

import argparse
import importlib
import re
import secrets
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from tests import tried

TARGETS: Final = ("splitter", "heads", "key-request", "targets", "records", "settings", "session")
INPUT_BYTES_MAX: Final = 600
SECONDS_FOR_AN_INPUT: Final = 10
COVERED_MIN: Final = 20
"""Branches; code that was imported before the instrumentation shows next to none."""
_ROOT: Final = Path(__file__).parents[2]
_RESULTS: Final = _ROOT / "build" / "fuzz" / "guided"
_EXECUTED: Final = re.compile(r"stat::number_of_executed_units: +(\d+)")
_COVERED: Final = re.compile(r"cov: (\d+)")


def campaign(target: str, seconds: float, seed: int, results: Path = _RESULTS) -> tuple[int, str | None]:
    """Fuzz one target in a process of its own; how many inputs were tried, and what it printed of a finding.

    Args:
        target: one of `TARGETS`, or `module:function` of a check that takes bytes.
        seconds: about how long.
        seed: the same inputs come from the same seed, as long as the code is the same.
        results: where the input of a finding is written.
    """
    results.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=results) as corpus:
        command = [sys.executable, "-m", "tests.fuzz.guided", target, "--inside", corpus]
        command += [f"-max_total_time={max(1, round(seconds))}", f"-seed={seed % 2**32 or 1}", "-print_final_stats=1"]
        command += [f"-artifact_prefix={results}/{target.replace(':', '-')}-", f"-timeout={SECONDS_FOR_AN_INPUT}"]
        command += [f"-max_len={INPUT_BYTES_MAX}"]
        ended = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, errors="replace", check=False)
    printed = ended.stdout + ended.stderr
    executed = _EXECUTED.search(printed)
    inputs = int(executed[1]) if executed is not None else 0
    if ended.returncode != 0 or not inputs:
        return inputs, printed
    assert int(_COVERED.findall(printed)[-1]) > COVERED_MIN, "what is fuzzed was not instrumented"
    return inputs, None


def check_of(target: str) -> tuple[Callable[[bytes], object], Sequence[bytes]]:
    """The check of a target, and inputs to begin with."""
    if ":" in target:
        module, _, name = target.partition(":")
        return getattr(importlib.import_module(module), name), ()
    checks = importlib.import_module("tests.fuzz.guided_checks")
    return checks.CHECKS[target], checks.EXAMPLES[target]


def _inside(target: str, corpus: Path, arguments: list[str]) -> None:
    """Become libFuzzer, which ends the process."""
    import atheris  # noqa: PLC0415 -- here only: what it instruments must be imported after it

    with atheris.instrument_imports(include=["kvraft", "tests.fuzz"]):
        check, examples = check_of(target)
    for number, example in enumerate(examples):
        (corpus / str(number)).write_bytes(example)
    atheris.Setup([sys.argv[0], *arguments, str(corpus)], check)
    atheris.Fuzz()


def main() -> int:
    """Run the campaigns; exit code 1 if anything was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.guided", description=__doc__.partition("\n")[0])
    parser.add_argument("target", nargs="*", help=", ".join(TARGETS))
    parser.add_argument("--seconds", type=float, default=60.0, help="for all targets together")
    parser.add_argument("--seed", type=int, default=secrets.randbits(32))
    parser.add_argument("--input", type=Path, help="only try what is in this file")
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    given, rest = parser.parse_known_args()
    if given.inside is not None:
        _inside(given.target[0], given.inside, rest)
    if rest:
        parser.error(f"unknown: {' '.join(rest)}")
    unknown = set(given.target) - set(TARGETS)
    if unknown:
        parser.error(f"no such target: {', '.join(sorted(unknown))}; there are {', '.join(TARGETS)}")
    chosen = given.target or TARGETS
    if given.input is not None:
        for target in chosen:
            check_of(target)[0](given.input.read_bytes())
        return 0
    found = [report(target, given.seconds / len(chosen), given.seed) for target in chosen]
    return 1 if any(found) else 0


def report(target: str, seconds: float, seed: int) -> bool:
    """One campaign and what it prints; whether it found something."""
    inputs, finding = campaign(target, seconds, seed)
    print(f"{target}: {inputs} inputs from seed {seed}")
    print(tried.line({f"guided {target} inputs": inputs}), flush=True)
    if finding is not None:
        print(
            f"{finding}\nFOUND; again with: python -m tests.fuzz.guided {target} --input <the file above>", flush=True
        )
    return finding is not None


if __name__ == "__main__":
    sys.exit(main())
