"""The planted deviations: what each is called, and how it is put into a running process."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any, Final

from kvraft.api_v2 import go_forms, key_requests, key_responses, keys
from kvraft.api_v2.answers import Answer
from kvraft.keyspace import chronicle, json_text, keyspace, listing, live_tree, store, watchers
from kvraft.keyspace.commands import NO_TTL
from kvraft.keyspace.errors import ErrorCode, EtcdError
from kvraft.keyspace.events import Action, Event


def around(owner: Any, name: str, change: Callable[..., Any]) -> None:
    """Replace a function by `change(original, *its arguments)`."""
    original = getattr(owner, name)
    replacement = functools.partial(change, original)

    @functools.wraps(original)
    def called(*arguments: Any, **named: Any) -> Any:
        return replacement(*arguments, **named)

    setattr(owner, name, called)


def recorded_as(change: Callable[[Event], None]) -> Callable[[], None]:
    """A deviation in every event that the keyspace records."""

    def record(original: Callable[..., Event], store: Any, event: Event, *rest: Any) -> Event:
        change(event)
        return original(store, event, *rest)

    return lambda: around(chronicle.Chronicle, "record", record)


def _cause_is_the_key_asked_for() -> None:
    def find(original: Callable[..., Any], tree: Any, path: bytes, etcd_index: int) -> Any:
        found = original(tree, path, etcd_index)
        if isinstance(found, EtcdError) and found.code is ErrorCode.KEY_NOT_FOUND:
            found.cause = path
        return found

    around(live_tree.LiveTree, "find", find)


def _update_without_prev_node(event: Event) -> None:
    if event.action is Action.UPDATE:
        event.prev_node = None


def _created_index_kept_on_set(event: Event) -> None:
    if event.action is Action.SET and event.prev_node is not None:
        event.node.created_index = event.prev_node.created_index


def _refresh_is_visible(event: Event) -> None:
    event.refresh = False


def _expire_hides_dir(event: Event) -> None:
    if event.action is Action.EXPIRE:
        event.node.directory = False


def _booleans_before_indices() -> None:
    def check(original: Callable[..., Any], method: bytes, form: Any) -> Any:
        for name in (b"recursive", b"sorted", b"wait", b"dir", b"quorum", b"stream"):
            key_requests._bool(form, name)
        return original(method, form)

    around(key_requests, "_check", check)


def _ttl_before_prev_value() -> None:
    def check(original: Callable[..., Any], method: bytes, form: Any) -> Any:
        if form.get(b"ttl") and form.get(b"prevValue") == b"":
            key_requests._uint64(form, b"ttl", ErrorCode.TTL_NAN)
        return original(method, form)

    around(key_requests, "_check", check)


def _query_before_body() -> None:
    def parse(original: Callable[..., Any], query: bytes, **given: Any) -> Any:
        form = original(query, **given)
        first: go_forms.Form = {}
        go_forms.parse_pairs(query, first)
        return {**form, **first}

    around(key_requests, "parse_form", parse)


def _hidden_keys_are_listed() -> None:
    setattr(listing, "_UNDERSCORE", 0)  # noqa: B010 -- the module's constant is private and Final


def _sorted_is_ignored() -> None:
    def get(original: Callable[..., Any], store: Any, path: bytes, **given: Any) -> Any:
        return original(store, path, **{**given, "in_order": False})

    around(keyspace.Keyspace, "get", get)


def _swap_of_nothing_fails_to_compare() -> None:
    def swap(original: Callable[..., Any], *given: Any) -> Any:
        answer = original(*given)
        if isinstance(answer, EtcdError) and answer.code is ErrorCode.KEY_NOT_FOUND:
            answer.code = ErrorCode.TEST_FAILED
        return answer

    around(store.Store, "_compare_and_swap", swap)


def _only_the_first_failed_condition() -> None:
    def find(original: Callable[..., Any], *given: Any) -> Any:
        found = original(*given)
        if isinstance(found, EtcdError) and found.code is ErrorCode.TEST_FAILED:
            found.cause = found.cause.partition(b"] [")[0].rstrip(b"]") + b"]"
        return found

    around(store.Store, "_find_comparable", find)


def _ttl_survives_a_swap() -> None:
    def rewrite(
        original: Callable[..., Any], store: Any, action: Any, path: bytes, old: Any, command: Any, clock_ms: int
    ) -> Any:
        if command.ttl_s == NO_TTL and old.lifetime is not None:
            left = (old.lifetime.deadline_ms - clock_ms) // 1000 + 1
            command = dataclasses.replace(command, ttl_s=left, expiration_ns=old.lifetime.expiration_ns)
        return original(store, action, path, old, command, clock_ms)

    around(store.Store, "_rewrite", rewrite)


def _quiet_delete() -> None:
    setattr(key_responses, "_QUIET_ACTIONS", frozenset(Action))  # noqa: B010 -- the module's constant is private and Final


def _post_answers_200() -> None:
    def answer(original: Callable[..., Answer], written: Any, cluster_id: int, **how: bool) -> Answer:
        made = original(written, cluster_id, **how)
        in_order = isinstance(written.event, Event) and written.event.node.path[-20:].isdigit()
        return dataclasses.replace(made, status=200) if in_order else made

    around(keys, "written_answer", answer)


def _errors_carry_no_index() -> None:
    def answer(original: Callable[..., Answer], error: EtcdError, cluster_id: int) -> Answer:
        return original(EtcdError(error.code, error.cause, 0), cluster_id)

    around(key_responses, "error_answer", answer)
    setattr(keys, "error_answer", key_responses.error_answer)  # noqa: B010 -- imported by name there


def _markup_is_not_escaped() -> None:
    def encode(original: Callable[..., Any], value: bytes) -> Any:
        encoded, raw = original(value)
        return encoded.replace(b"\\u003c", b"<"), raw

    around(store, "encode_value", encode)
    assert json_text.encode_value is not store.encode_value  # type: ignore[attr-defined] # re-exported by import only


def _watch_sees_the_future_only() -> None:
    def watch(original: Callable[..., Any], hub: Any, path: bytes, **given: Any) -> Any:
        return original(hub, path, **{**given, "since_index": 0})

    around(watchers.WatcherHub, "watch", watch)


def _watch_from_one_later() -> None:
    def watch(original: Callable[..., Any], hub: Any, path: bytes, **given: Any) -> Any:
        since = given["since_index"]
        return original(hub, path, **{**given, "since_index": since + 1 if since else 0})

    around(watchers.WatcherHub, "watch", watch)


def _removal_is_not_told_below() -> None:
    around(watchers.WatcherHub, "doomed_below", lambda original, *given: [])


MUTANTS: Final[Mapping[str, Callable[[], None]]] = {
    "the cause of 100 is the key asked for, not the first missing component": _cause_is_the_key_asked_for,
    "an update has no prevNode": recorded_as(_update_without_prev_node),
    "createdIndex is kept on set": recorded_as(_created_index_kept_on_set),
    "booleans are checked before indices": _booleans_before_indices,
    "ttl is checked before prevValue": _ttl_before_prev_value,
    "the query beats the body": _query_before_body,
    "hidden keys are listed": _hidden_keys_are_listed,
    "sorted=true is ignored": _sorted_is_ignored,
    "a swap of a missing key is 101": _swap_of_nothing_fails_to_compare,
    "a failed compare names its first condition only": _only_the_first_failed_condition,
    "a TTL survives a write without one": _ttl_survives_a_swap,
    "noValueOnSuccess shortens a delete": _quiet_delete,
    "POST answers 200": _post_answers_200,
    "store errors carry index 0": _errors_carry_no_index,
    "< is not escaped": _markup_is_not_escaped,
    "a refresh wakes watchers": recorded_as(_refresh_is_visible),
    "an expiring directory is not called one": recorded_as(_expire_hides_dir),
    "waitIndex does not look into history": _watch_sees_the_future_only,
    "waitIndex begins one event late": _watch_from_one_later,
    "watchers below a removed directory hear nothing": _removal_is_not_told_below,
}
