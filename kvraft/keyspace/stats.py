"""The counters of `/v2/stats/store`, one set per member, counted where etcd 3.4 counts them.

That is not always where one expects: its deferred counters read a variable that some refusals never set, so these count
as successes (a change of the root, an update of a directory with a value, most refused compareAndDeletes), and a create
below a file counts as a failed set too. Tools compare members and watch rates, so kvraft moves the same counters.
Left out are the failed gets that etcd's own look-ups of its auth settings add to every request.
"""

from dataclasses import dataclass
from typing import final


@final
@dataclass(slots=True)
class StoreStats:
    """What this member has applied and read since it started. Fields in the answer's order (contract A.10)."""

    gets_success: int = 0
    gets_fail: int = 0
    sets_success: int = 0
    sets_fail: int = 0
    delete_success: int = 0
    delete_fail: int = 0
    update_success: int = 0
    update_fail: int = 0
    create_success: int = 0
    create_fail: int = 0
    compare_and_swap_success: int = 0
    compare_and_swap_fail: int = 0
    compare_and_delete_success: int = 0
    compare_and_delete_fail: int = 0
    expire_count: int = 0
    recursive_gets: int = 0
    """How many of the gets, failed ones too, were recursive: only /metrics shows them apart."""

    def json_fields(self, watchers: int) -> dict[str, int]:
        """The answer's fields by their names in etcd, in its order, with the number of open watchers."""
        return {
            "getsSuccess": self.gets_success,
            "getsFail": self.gets_fail,
            "setsSuccess": self.sets_success,
            "setsFail": self.sets_fail,
            "deleteSuccess": self.delete_success,
            "deleteFail": self.delete_fail,
            "updateSuccess": self.update_success,
            "updateFail": self.update_fail,
            "createSuccess": self.create_success,
            "createFail": self.create_fail,
            "compareAndSwapSuccess": self.compare_and_swap_success,
            "compareAndSwapFail": self.compare_and_swap_fail,
            "compareAndDeleteSuccess": self.compare_and_delete_success,
            "compareAndDeleteFail": self.compare_and_delete_fail,
            "expireCount": self.expire_count,
            "watchers": watchers,
        }
