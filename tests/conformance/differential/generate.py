"""Sequences from a seed: mostly sensible requests on a few of a dozen overlapping paths, some wrong, some odd.

Plain `random.Random` rather than hypothesis strategies: those cost more processor time than both servers together
(4 ms a request), and their search for novelty left some rows of the contract unvisited in 20,000 requests. What
hypothesis would give in return, seeds and shrinking, is in `campaign` and `shrink`.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from random import Random
from typing import Final, TypeVar
from urllib.parse import quote, quote_from_bytes

from tests.conformance.differential.steps import (
    Ask,
    Elsewhere,
    Expire,
    OpenWatch,
    Oversized,
    Parameters,
    Sequence,
    Step,
)
from tests.conformance.differential.vocabulary import (
    BOOLEANS,
    CONDITIONS,
    CONTENT_TYPES,
    ELSEWHERE_GET,
    ELSEWHERE_OTHER,
    GO_FALSE,
    GO_TRUE,
    NOT_BOOLEAN,
    NOT_INTEGER,
    ODD_FORMS,
    ODD_PATHS,
    PATHS,
    REFRESHES,
    SECONDS,
    VALUES,
    WAIT_INDICES,
    WATCHED_BESIDE,
    WRONG_FORMS,
    WRONG_WAITS,
)

STEPS_MIN: Final = 10
STEPS_MAX: Final = 34
PALETTE_MIN: Final = 1
PALETTE_MAX: Final = 4
"""How many of the paths one sequence works on: few, so that steps meet."""
WATCHED_IN: Final = 2.8
"""One sequence in so many has watches open."""
RARELY: Final = 500
"""One step in so many is of each rare kind: half a second of waiting, or 10 MiB sent."""

T = TypeVar("T")


def sequence_of(random: Random) -> Sequence:
    """A sequence of ten steps and more, one in three with watches."""
    palette = random.sample(PATHS, random.randint(PALETTE_MIN, PALETTE_MAX))
    generator = Generator(random, palette)
    steps = [step for _ in range(random.randint(STEPS_MIN, STEPS_MAX)) for step in generator.steps()]
    if random.random() * WATCHED_IN < 1:
        for _ in range(random.randint(1, 3)):
            steps.insert(random.randrange(len(steps)), generator.open_watch())
    return Sequence(random.random() < 1 / 3, tuple(steps))


class Generator:
    """Steps on the paths of one sequence."""

    def __init__(self, random: Random, palette: list[str]) -> None:
        self._random = random
        self._palette = palette

    def steps(self) -> list[Step]:
        """One step, or a watch and the expiry that it should see."""
        rare = self._random.randrange(RARELY)
        if rare == 0:
            return self._expire()
        if rare == 1:
            return [Oversized(self._path())]
        kind = self._random.choices(_NAMES, _WEIGHTS)[0]
        return [KINDS[kind][1](self)]

    def open_watch(self) -> Step:
        """A watch, from now on, from the past or from the future."""
        path = self._path() if self._chance(0.7) else self._one_of(WATCHED_BESIDE)
        return OpenWatch(path, self._chance(0.5), self._chance(0.35), self._one_of(WAIT_INDICES))

    # What steps are made of.

    def _chance(self, probability: float) -> bool:
        return self._random.random() < probability

    def _one_of(self, choices: tuple[T, ...]) -> T:
        return self._random.choice(choices)

    def _path(self) -> str:
        return self._random.choice(self._palette)

    def _any_path(self) -> str:
        if self._chance(0.85):
            return self._path()
        if self._chance(0.7):
            return self._one_of(ODD_PATHS)
        return "/a/" + quote(_text(self._random.randbytes(self._random.randint(1, 6))), safe="")

    def _value(self) -> Parameters:
        if self._chance(0.8):
            return (("value", self._one_of(VALUES)),)
        return (("value", quote_from_bytes(self._random.randbytes(self._random.randint(0, 8)), safe="")),)

    def _ttl(self) -> Parameters:
        return (("ttl", self._one_of(SECONDS)),)

    def _perhaps_ttl(self) -> Parameters:
        return self._ttl() if self._chance(0.25) else ()

    def _flags(self, *names: str) -> Parameters:
        chosen = self._random.sample(names, self._random.randint(0, min(2, len(names))))
        return tuple((name, self._one_of(GO_TRUE if self._chance(0.8) else GO_FALSE)) for name in chosen)

    # The kinds of steps.

    def _set(self) -> Step:
        return Ask("set", "PUT", self._any_path(), (), self._value() + self._perhaps_ttl())

    def _set_dir(self) -> Step:
        return Ask("set dir", "PUT", self._any_path(), (("dir", "true"),), self._perhaps_ttl())

    def _set_unconditionally(self) -> Step:
        return Ask("set", "PUT", self._path(), (("prevIndex", "0"),), self._value())

    def _create(self) -> Step:
        what = (("dir", "true"),) if self._chance(0.3) else self._value()
        return Ask("create", "PUT", self._any_path(), (("prevExist", "false"),), what + self._perhaps_ttl())

    def _update(self) -> Step:
        return Ask("update", "PUT", self._path(), (("prevExist", "true"),), self._value() + self._perhaps_ttl())

    def _update_dir(self) -> Step:
        query = (("prevExist", "true"), ("dir", "true")) if self._chance(0.7) else (("prevExist", "true"),)
        return Ask("update", "PUT", self._path(), query, self._ttl())

    def _compare_and_swap(self) -> Step:
        form = self._value() + self._perhaps_ttl()
        return Ask("compareAndSwap", "PUT", self._path(), self._one_of(CONDITIONS), form)

    def _compare_and_delete(self) -> Step:
        query = self._one_of(CONDITIONS) + (self._flags("dir", "recursive") if self._chance(0.2) else ())
        return Ask("compareAndDelete", "DELETE", self._path(), query)

    def _post(self) -> Step:
        query = self._flags("dir", "noValueOnSuccess", "prevExist")
        return Ask("post", "POST", self._any_path(), query, self._value() + self._perhaps_ttl())

    def _delete(self) -> Step:
        return Ask("delete", "DELETE", self._any_path(), self._flags("noValueOnSuccess", "prevExist"))

    def _delete_dir(self) -> Step:
        return Ask("delete", "DELETE", self._path(), (("dir", "true"),))

    def _delete_recursive(self) -> Step:
        return Ask("delete", "DELETE", self._path(), (("recursive", "true"), *self._flags("dir")))

    def _listing_flags(self) -> Parameters:
        return self._flags("recursive", "sorted", "quorum", "dir", "noValueOnSuccess")

    def _get(self) -> Step:
        return Ask("get", "GET", self._any_path(), self._listing_flags())

    def _list(self) -> Step:
        query = (("sorted", "true"), *self._flags("recursive")) if self._chance(0.5) else self._listing_flags()
        return Ask("get", "GET", self._one_of(("", "/", "/a", "/_x")), query)

    def _head(self) -> Step:
        return Ask("head", "HEAD", self._any_path(), self._listing_flags())

    def _refresh(self) -> Step:
        return Ask("refresh", "PUT", self._path(), self._one_of(REFRESHES), self._ttl())

    def _no_value(self) -> Step:
        condition = self._one_of(((), (("prevExist", "true"),), (("prevExist", "false"),), (("prevIndex", "$index"),)))
        query = (("noValueOnSuccess", "true"), *condition)
        return Ask("noValueOnSuccess", "PUT", self._path(), query, self._value())

    def _wrong_parameter(self) -> tuple[str, str | None]:
        """A parameter that does not parse."""
        kind = self._random.random()
        if kind < 0.55:
            return self._one_of(BOOLEANS), self._one_of(NOT_BOOLEAN)
        if kind < 0.85:
            return self._one_of(("prevIndex", "waitIndex", "ttl")), self._one_of(NOT_INTEGER)
        return self._one_of(WRONG_FORMS)

    def _wrong(self) -> Step:
        """One to three wrong ones: which is complained of shows the order of the checks."""
        method = self._one_of(("PUT", "PUT", "GET", "POST", "DELETE", "HEAD"))
        parameters = tuple(self._wrong_parameter() for _ in range(self._random.choice((1, 2, 2, 3))))
        if method in ("PUT", "POST"):
            beside = self._value() if self._chance(0.5) else ()
            if self._chance(0.5):
                return Ask("invalid", method, self._path(), (), parameters + beside)
            return Ask("invalid", method, self._path(), parameters, beside)
        return Ask("invalid", method, self._path(), parameters)

    def _wrong_wait(self) -> Step:
        """`wait=true` where it must not be, and refreshes with a value or without a TTL."""
        method = self._one_of(("PUT", "PUT", "POST", "DELETE", "HEAD"))
        return Ask("invalid", method, self._path(), self._one_of(WRONG_WAITS))

    def _odd_body(self) -> Step:
        """A form under another content type, or one that repeats and omits."""
        query = self._one_of(((), (("value", "query"),), (("prevExist", "true"),)))
        method = self._one_of(("PUT", "PUT", "POST", "DELETE"))
        return Ask("odd body", method, self._path(), query, self._one_of(ODD_FORMS), self._one_of(CONTENT_TYPES))

    def _root(self) -> Step:
        """A write to the root itself, or to the directory of all other paths."""
        method = self._one_of(("PUT", "DELETE", "PUT", "DELETE", "POST"))
        query: Parameters = self._one_of(
            (
                (),
                (("dir", "true"),),
                (("recursive", "true"),),
                (("prevExist", "true"),),
                (("prevExist", "false"),),
                (("prevIndex", "1"),),
                (("prevIndex", "1"),),
                (("prevValue", "x"),),
            )
        )
        return Ask("root", method, self._one_of(("", "/")), query, None if method == "DELETE" else self._value())

    def _elsewhere(self) -> Step:
        if self._chance(0.5):
            return Elsewhere("GET", self._one_of(ELSEWHERE_GET))
        methods = ("PUT", "POST", "DELETE", "PATCH", "OPTIONS", "HEAD", "FOO")
        return Elsewhere(self._one_of(methods), self._one_of(ELSEWHERE_OTHER))

    def _expire(self) -> list[Step]:
        """One node that expires at once, or two that expire one after the other, perhaps watched."""
        directory = self._chance(0.5)
        expire = Expire(("/e/one", "/e/two"), 1, directory)
        if self._chance(0.85):
            expire = Expire((self._one_of(("/a", "/a/b", "/e", "/_x/y")),), 0, directory)
        if self._chance(0.3):
            return [expire]
        # A watch for one event must pass the write by to see the expiry.
        stream = self._chance(0.5)
        return [OpenWatch(expire.paths[-1], self._chance(0.5), stream, None if stream else "$soon"), expire]


KINDS: Final[Mapping[str, tuple[int, Callable[[Generator], Step]]]] = {
    "set": (30, Generator._set),
    "set dir": (9, Generator._set_dir),
    "set unconditionally": (3, Generator._set_unconditionally),
    "create": (12, Generator._create),
    "update": (9, Generator._update),
    "update dir": (8, Generator._update_dir),
    "compareAndSwap": (22, Generator._compare_and_swap),
    "compareAndDelete": (12, Generator._compare_and_delete),
    "post": (9, Generator._post),
    "delete": (9, Generator._delete),
    "delete dir": (6, Generator._delete_dir),
    "delete recursive": (5, Generator._delete_recursive),
    "get": (20, Generator._get),
    "list": (12, Generator._list),
    "head": (3, Generator._head),
    "refresh": (12, Generator._refresh),
    "no value": (8, Generator._no_value),
    "wrong": (34, Generator._wrong),
    "wrong wait": (5, Generator._wrong_wait),
    "odd body": (8, Generator._odd_body),
    "root": (13, Generator._root),
    "elsewhere": (4, Generator._elsewhere),
}
"""How often, in parts, and what."""
_NAMES: Final = tuple(KINDS)
_WEIGHTS: Final = tuple(weight for weight, _ in KINDS.values())


def _text(data: bytes) -> str:
    """Any bytes as text: of others kvraft makes no key, on purpose (docs/differences.md)."""
    return data.decode("utf-8", "replace")


def simpler(step: Step) -> list[Step]:
    """Steps that are like this one, but plainer; what a shrinker tries in its place."""
    match step:
        case Ask():
            without = [
                replace(step, query=step.query[:number] + step.query[number + 1 :]) for number in range(len(step.query))
            ]
            plain = [replace(step, path=path) for path in PATHS[:1] if step.path not in (*PATHS, "", "/")]
            form = step.form or ()
            shorter = [replace(step, form=form[:number] + form[number + 1 :]) for number in range(len(form))]
            values = [replace(step, form=(("value", "1"), *form[1:]))] if form and form[0][0] == "value" else []
            guests = replace(step, login=None)
            return [other for other in [guests, *without, *shorter, *values, *plain] if other != step]
        case OpenWatch():
            plainer = [replace(step, stream=False), replace(step, recursive=False), replace(step, wait_index=None)]
            return [other for other in plainer if other != step]
        case Expire():
            return [replace(step, paths=step.paths[:1])] if len(step.paths) > 1 else []
        case _:
            return []
