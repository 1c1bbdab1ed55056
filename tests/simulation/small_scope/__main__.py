"""`python -m tests.simulation.small_scope [--scope NAME | --draw SEED | --plant BUG]`: look at every state there is.

Without a choice it goes through all named scopes. Deterministic: a greater limit goes on where a smaller one ended.
Exit code 1 if a rule is broken, with the shortest way there; with a planted bug, if none is.
"""

import argparse
import sys

from tests import tried
from tests.simulation.small_scope.bugs import BUGS
from tests.simulation.small_scope.scope import SCOPES, Scope, drawn
from tests.simulation.small_scope.search import Found, Search
from tests.simulation.small_scope.story import tell


def main(arguments: list[str]) -> int:
    """Search what was asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.small_scope", description=__doc__)
    parser.add_argument("--states", type=int, default=1_000_000, help="of each scope")
    parser.add_argument("--depth", type=int, help="events from the start")
    parser.add_argument("--seconds", type=float, help="for each scope")
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--scope", choices=list(SCOPES))
    choice.add_argument("--draw", type=int, metavar="SEED", help="a scope with limits drawn from a seed")
    choice.add_argument("--plant", choices=[bug.name for bug in BUGS])
    chosen = parser.parse_args(arguments)
    if chosen.plant:
        bug = next(bug for bug in BUGS if bug.name == chosen.plant)
        with bug.plant():
            found = _search(f"{bug.name}, {bug.title}", bug.scope, chosen)
        return 0 if found.finding else 1
    if chosen.draw is not None:
        return 1 if _search(f"drawn from {chosen.draw}", drawn(chosen.draw), chosen).finding else 0
    names = [chosen.scope] if chosen.scope else list(SCOPES)
    findings = [_search(name, SCOPES[name], chosen).finding for name in names]
    return 1 if any(findings) else 0


def _search(name: str, scope: Scope, chosen: argparse.Namespace) -> Found:
    search = Search(scope)
    found = search.run(chosen.states, chosen.depth, chosen.seconds)
    sys.stdout.write(f"{name}: {scope}\n  {found.table()}\n")
    if found.finding:
        sys.stdout.write("\n".join(tell(search, found)) + "\n")
    sys.stdout.write(tried.line({"states of three cores": found.states}) + "\n")
    sys.stdout.flush()
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
