"""Every target, in the order in which a campaign takes them."""

from tests.fuzz import commands, core, http, peers, records, settings
from tests.fuzz.engine import Target


def targets(*, member: bool) -> list[Target]:
    """All of them. `member`: HTTP goes to a whole member."""
    return [http.target(member=member), peers.TARGET, core.TARGET, records.TARGET, commands.TARGET, settings.TARGET]
