"""The way to a finding, event by event, as a person reads it."""

from kvraft.raft.entries import Entry
from tests.simulation.small_scope.search import Cluster, Found, Happening, Search
from tests.simulation.small_scope.server import COMPLETE, CRASH, PROPOSE, STEP_DOWN, Cast, Local

_WORDS = {
    STEP_DOWN: "hears no majority and steps down",
    PROPOSE: "takes a client's command",
    COMPLETE: "has its oldest batch on disk",
    CRASH: "crashes and starts again",
}


def tell(search: Search, found: Found) -> list[str]:
    """Play the path of a finding again; a line for each event, and the broken rule at the end."""
    lines = []
    cluster = search.first()
    finding = ""
    with search.rules():
        for number, name in enumerate(found.path[1:], 1):
            last = number == len(found.path) - 1
            for happening, after in search.followers(cluster):
                # Only at the end a rule is broken, perhaps by one of several events that lead to the same state.
                finding = search.finding(after)
                if search.name(after) == name and bool(finding) == last:
                    lines.append(f"{number:3}  {_event(search.cast, cluster, happening, after)}")
                    cluster = after
                    break
            else:
                message = f"event {number} of the path cannot be found again"
                raise AssertionError(message)
    return [*lines, f"     {finding}"]


def _event(cast: Cast, before: Cluster, happening: Happening, after: Cluster) -> str:
    server, _, stays = happening
    then = cast.local(after[0][server - 1])
    sent = list(after[1])
    for message in before[1]:
        if message in sent:
            sent.remove(message)
    lines = [f"{_what(cast, before, happening)}{' (and stays on its way)' if stays else ''}", f"       {_looks(then)}"]
    lines.extend(f"       -> server {cast.messages[each][1]}: {_message(cast, each)}" for each in sent)
    return "\n".join(lines)


def _what(cast: Cast, before: Cluster, happening: Happening) -> str:
    server, action, _ = happening
    if action >= 0:
        return f"server {server} hears server {cast.messages[action][0]}: {_message(cast, action)}"
    leads = cast.local(before[0][server - 1]).leads
    return f"server {server} {_WORDS.get(action, 'sends heartbeats' if leads else 'times out')}"


def _looks(local: Local) -> str:
    waiting = f", {len(local.pending)} batches not on disk" if local.pending else ""
    return (
        f"   server {local.server_id}: {local.role} in term {local.term}, log {_terms(local.log)}, "
        f"on disk {_terms(local.durable)}, commit index {local.commit_index}{waiting}"
    )


def _terms(entries: tuple[Entry, ...]) -> str:
    """The terms of the entries, as in the paper's figures."""
    return "[" + " ".join(str(entry.term) for entry in entries) + "]"


def _message(cast: Cast, number: int) -> str:
    message = cast.messages[number][2]
    fields = []
    for name in type(message).__slots__:
        value = getattr(message, name)
        if name == "entries":
            fields.append("entries=[" + " ".join(f"{entry.index}:{entry.term}" for entry in value) + "]")
        elif name not in ("clock_ms", "prev_log_hash", "read_id", "leadership_transfer"):
            fields.append(f"{name}={value}")
    return f"{type(message).__name__}({', '.join(fields)})"
