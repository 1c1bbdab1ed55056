"""`python -m tests.forms [--seeds 20] [--requests 2000] [--seed 1]`: do the pure and the compiled form say the same?

Seeds of the simulator leave the same trace hash in both forms, and a cluster tells its clients the same to the byte.
Exit code 1 if not, with the first line that differs.
"""

import argparse
import sys

from tests import tried
from tests.forms.copies import FORMS, copies, outputs


def main(arguments: list[str]) -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.forms", description=__doc__)
    parser.add_argument("--seeds", type=int, default=20, help="of the simulator")
    parser.add_argument("--requests", type=int, default=2000, help="to a cluster in one process")
    parser.add_argument("--seed", type=int, default=1, help="what the random choices of both follow from")
    given = parser.parse_args(arguments)
    made = copies()
    traces = ["-m", "tests.simulation", "traces", "--seeds", str(given.seeds), "--master-seed", str(given.seed)]
    answers = ["-m", "tests.forms.answers", "--requests", str(given.requests), "--seed", str(given.seed)]
    found = 0
    for command in (traces, answers):
        said = outputs(made, command)
        print(" ".join(command), difference(said) or f"{len(said['pure'].splitlines())} lines, the same in both forms")
        found += difference(said) is not None
    print(tried.line({"seeds in both forms": given.seeds, "requests in both forms": given.requests}))
    return 1 if found else 0


def difference(said: dict[str, str]) -> str | None:
    """The first line that the forms do not share."""
    pure, compiled = (said[form].splitlines() for form in FORMS)
    for number in range(max(len(pure), len(compiled))):
        one, other = (lines[number] if number < len(lines) else "(nothing)" for lines in (pure, compiled))
        if one != other:
            return f"line {number + 1} differs\n  pure     {one}\n  compiled {other}"
    return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
