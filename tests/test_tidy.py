"""What a reviewer would say twice. Each test lists the offending lines as `file:line: what`."""

import ast
import functools
import graphlib
import pathlib
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from typing import Final

ROOT: Final = pathlib.Path(__file__).parents[1]
GENERATED: Final = ROOT / "kvraft" / "transport" / "pb"

FOUNDATION: Final = {
    "audit_log",
    "background",
    "clock",
    "founding",
    "heap",
    "ids",
    "log_forms",
    "log_outputs",
    "log_writer",
    "logs",
    "metrics",
    "sockets",
    "repeats",
}
"""May be imported by every room but the pure ones, and import nothing else of kvraft."""
SHARED_VALUES: Final = {"peer_frames", "records"}
"""Value types that cross between rooms which do not know each other. They import the pure rooms only."""
PURE: Final = {"raft", "keyspace"}
HOST_FACTS: Final = {"start.file_limit", "start.path_owners", "start.port_holders", "start.service_manager"}
"""Files of a room that knows everything, which know logs alone: they may be borrowed one by one."""

ROOMS: Final[dict[str, set[str]]] = {
    "raft": set(),
    "keyspace": set(),
    "settings": {"founding", "ids", "logs", "security.files"},
    "storage": PURE | FOUNDATION | SHARED_VALUES,
    "transport": PURE | FOUNDATION | SHARED_VALUES | {"settings"},
    "member": PURE | FOUNDATION | SHARED_VALUES,
    "api_v2": {"keyspace", "security"} | FOUNDATION | SHARED_VALUES,
    "backup": PURE | FOUNDATION | SHARED_VALUES | {"client", "storage"},
    "proxy": {"api_v2", "settings.urls", "transport.names"} | FOUNDATION,
    "security": FOUNDATION,
    "client": set(),
    "discovery": {"founding", "ids", "logs", "settings"},
    "migration": PURE | {"client", "clock", "records", "storage"},
    "testing": {"clock", "start.port_holders"},
    "start": PURE
    | FOUNDATION
    | SHARED_VALUES
    | {"api_v2", "discovery", "member", "proxy", "security", "settings", "storage", "transport"},
    "commands": {
        "backup",
        "client",
        "clock",
        "ids",
        "logs",
        "migration",
        "settings",
        "storage.errors",
        "storage.whole_file",
    },
    "commands.table": set(),
    "commands.codes": set(),
    "cli": {"commands.codes", "commands.table", "logs", "security.files", "settings", "start", "storage", "transport"},
    "__main__": {"cli", "commands.main", "commands.table", "start.signals"},
    **dict.fromkeys(FOUNDATION, FOUNDATION),
    **{file: {"logs"} for file in HOST_FACTS},
    "start.__init__": set(),
    "start.signals": set(),
    **dict.fromkeys(SHARED_VALUES, PURE),
}
"""What of kvraft each room may import, beside itself. `room.file` is one file of a room, with rules of its own."""

FORBIDDEN_IN_PURE: Final = {
    "asyncio",
    "logging",
    "os",
    "pathlib",
    "secrets",
    "socket",
    "subprocess",
    "sys",
    "threading",
    "time",
}
"""Of the standard library, what would let time, threads or the world into a pure room."""
LIBRARIES: Final[dict[str, set[str]]] = {
    "kvraft/keyspace/command_codec.py": {"msgpack"},
    "kvraft/storage/": {"lmdb", "msgpack"},
    "kvraft/transport/call_server.py": {"grpc"},
    "kvraft/transport/": {"google", "grpc_tools"},
    "kvraft/api_v2/": {"aiohttp", "multidict", "yarl"},
    "kvraft/client/connection.py": {"aiohttp", "yarl"},
    "kvraft/migration/": {"google_crc32c"},
    "kvraft/commands/": {"click", "rich"},
    "kvraft/metrics.py": {"prometheus_client"},
    "kvraft/proxy/counts.py": {"prometheus_client"},
    "kvraft/testing/certificates.py": {"cryptography"},
    "kvraft/testing/plugin.py": {"pytest"},
    "kvraft/discovery/name_server.py": {"dns"},
    "kvraft/settings/config_file.py": {"yaml"},
    "kvraft/security/passwords.py": {"bcrypt"},
    "kvraft/security/": {"cryptography"},
    "kvraft/start/running.py": {"uvloop"},
    "kvraft/start/proxying.py": {"uvloop"},
}
"""Where each library may be imported. The first matching prefix counts."""
STANDARD: Final = sys.stdlib_module_names

RAFT_ORDER: Final = (
    {"entries", "quorum", "settings"},
    {"configuration"},
    {"messages"},
    {"inputs", "effects", "progress"},
    {"restored"},
    {"durability"},
    {"log"},
    {"state"},
    {"roles", "invariants"},
    {"rebuild", "snapshots"},
    {"replication"},
    {"reads"},
    {"membership"},
    {"election"},
    {"core"},
)
"""Inside raft/, left to right only."""

LINES_MAX: Final = 480
"""400 is the aim; what is much over it asks for a second look."""
LONG_FILES: Final[dict[str, str]] = {}
"""Files over LINES_MAX that were looked at a second time, with the reason why they stay whole."""
FUNCTION_LINES_MAX: Final = 70
LONG_FUNCTIONS: Final[dict[str, str]] = {
    "kvraft/member/member.py::__init__": "where the parts of a member are joined, one after another",
    "kvraft/metrics.py::__init__": "one declaration a figure, in the order of the page",
}
"""`file::function`, with the reason."""


def none_of(wrong: Iterable[str]) -> None:
    """Fail with the offending lines, if there are any."""
    lines = list(wrong)
    assert not lines, "\n".join(["", *lines])


def python_files(*rooms: str) -> Iterator[pathlib.Path]:
    """Every source below these directories that somebody wrote."""
    for room in rooms:
        for path in sorted((ROOT / room).rglob("*.py")):
            if GENERATED not in path.parents:
                yield path


@functools.cache
def parsed(path: pathlib.Path) -> ast.Module:
    """The syntax tree of a source."""
    return ast.parse(path.read_text())


@functools.cache
def tracked_files() -> list[pathlib.Path]:
    """What git knows and is still there."""
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    paths = [ROOT / name for name in names.decode().split("\0") if name]
    return [path for path in paths if path.is_file()]


def place(path: pathlib.Path, line: int) -> str:
    """`kvraft/raft/core.py:12`."""
    return f"{path.relative_to(ROOT)}:{line}"


def imports(path: pathlib.Path) -> Iterator[tuple[int, str]]:
    """Every module that a file imports, with its line; `from kvraft import x` counts as `kvraft.x`."""
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            for name in node.names:
                yield node.lineno, name.name
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{place(path, node.lineno)}: a relative import"
            assert node.module is not None
            parts = node.module.split(".")
            is_package = (ROOT.joinpath(*parts) / "__init__.py").exists()
            for name in node.names if parts[0] in {"kvraft", "tests"} and is_package else []:
                yield node.lineno, f"{node.module}.{name.name}"
            if not (parts[0] in {"kvraft", "tests"} and is_package):
                yield node.lineno, node.module


def file_of(path: pathlib.Path) -> str:
    """`room.file`."""
    return ".".join(path.relative_to(ROOT / "kvraft").with_suffix("").parts[:2])


def room_of(path: pathlib.Path) -> str:
    """The first name below kvraft/."""
    return path.relative_to(ROOT / "kvraft").with_suffix("").parts[0]


def matches(pattern: str, paths: Iterator[pathlib.Path] | list[pathlib.Path]) -> list[str]:
    """Every line that matches, as `file:line: text`."""
    compiled = re.compile(pattern)
    found = []
    for path in paths:
        try:
            lines = path.read_text().splitlines()
        except UnicodeDecodeError:
            continue
        found += [f"{place(path, n)}: {line.strip()[:120]}" for n, line in enumerate(lines, 1) if compiled.search(line)]
    return found


def test_rooms_import_only_what_the_design_allows() -> None:
    """The directions of import of docs/architecture.md."""
    wrong = []
    for path in python_files("kvraft"):
        room = room_of(path)
        if room == "__init__":
            continue
        assert room in ROOMS, f"{path}: a room without a rule: add it to ROOMS"
        file = file_of(path)
        allowed = ROOMS[file] if file in ROOMS else ROOMS[room] | {room}
        for line, module in imports(path):
            parts = module.split(".")
            if parts[0] == "kvraft" and len(parts) > 1 and not allowed & {parts[1], ".".join(parts[1:3])}:
                wrong.append(f"{place(path, line)}: {room} imports {module}")
    none_of(wrong)


def test_libraries_are_imported_where_they_belong() -> None:
    """The pure rooms have the standard library only, and of it nothing that reads clocks or touches the world."""
    wrong = []
    for path in python_files("kvraft"):
        name = str(path.relative_to(ROOT))
        allowed = next((libraries for prefix, libraries in LIBRARIES.items() if name.startswith(prefix)), set())
        for line, module in imports(path):
            top = module.split(".")[0]
            if top == "kvraft":
                continue
            if top not in STANDARD and top not in allowed:
                wrong.append(f"{place(path, line)}: imports {module}")
            if room_of(path) in PURE and top in FORBIDDEN_IN_PURE:
                wrong.append(f"{place(path, line)}: a pure room imports {module}")
    none_of(wrong)


def test_raft_modules_import_left_to_right() -> None:
    """A module of the core knows those before it in RAFT_ORDER, and not those beside or after it."""
    column = {module: number for number, modules in enumerate(RAFT_ORDER) for module in modules}
    wrong = []
    for path in python_files("kvraft/raft"):
        if path.stem == "__init__":
            continue
        assert path.stem in column, f"{path}: a module without a place: add it to RAFT_ORDER"
        for line, module in imports(path):
            parts = module.split(".")
            if parts[:2] == ["kvraft", "raft"] and column[parts[2]] >= column[path.stem]:
                wrong.append(f"{place(path, line)}: {path.stem} imports {parts[2]}")
    none_of(wrong)


def test_no_files_import_each_other_in_a_circle() -> None:
    """Also where only a type checker sees it: each file can be read with those below it alone."""
    below: dict[str, set[str]] = {}
    for path in python_files("kvraft"):
        if GENERATED not in path.parents and path.stem != "__init__":
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            below[name] = {module for _, module in imports(path)}
    ordered = graphlib.TopologicalSorter({name: modules & below.keys() for name, modules in below.items()})
    try:
        ordered.prepare()
    except graphlib.CycleError as error:
        none_of([" imports ".join(reversed(error.args[1]))])


def test_pure_rooms_draw_no_global_randomness() -> None:
    """A `random.Random` is passed in; the module's own functions would make a run unrepeatable."""
    wrong = []
    for path in python_files("kvraft/raft", "kvraft/keyspace"):
        tree = parsed(path)
        passed_in = {
            id(node)
            for function in ast.walk(tree)
            if isinstance(function, ast.FunctionDef) and "random" in {arg.arg for arg in function.args.args}
            for step in function.body
            for node in ast.walk(step)
        }
        attributes = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr != "Random"]
        wrong += [
            f"{place(path, node.lineno)}: random.{node.attr}"
            for node in attributes
            if isinstance(node.value, ast.Name) and node.value.id == "random" and id(node) not in passed_in
        ]
    none_of(wrong)


def test_nothing_that_comes_in_becomes_code_or_a_program() -> None:
    """No pickle, no eval, no YAML that makes objects; and only what is for tests starts programs."""
    makes_objects = {"pickle", "marshal", "shelve", "dill", "code", "codeop", "runpy"}
    starts_programs = {"subprocess", "multiprocessing", "pty"}
    calls = {"eval", "exec", "compile", "__import__"}
    of_os = r"system|popen|exec[lv]p?e?|spawn[lv]p?e?|posix_spawnp?|fork|forkpty"
    wrong = []
    for path in python_files("kvraft"):
        forbidden = (
            makes_objects if path.is_relative_to(ROOT / "kvraft" / "testing") else makes_objects | starts_programs
        )
        for node in ast.walk(ast.parse(path.read_text())):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            elif isinstance(node, ast.Call):
                said = ast.unparse(node.func)
                if said in calls or re.fullmatch(
                    rf"(os\.({of_os})|.*\.create_subprocess_\w+|yaml\.((full_|unsafe_)?load|load_all|(Full|Unsafe)?Loader))",
                    said,
                ):
                    wrong.append(f"{place(path, node.lineno)}: {said}")
            wrong += [f"{place(path, node.lineno)}: {name}" for name in names if name.partition(".")[0] in forbidden]  # type: ignore[attr-defined] # imports have lines
    none_of(wrong)


def test_clocks_are_read_in_clock_py_only() -> None:
    """Two clocks, one room; `datetime` may format what it is given, and an event loop's time is a clock too."""
    wrong = []
    for path in python_files("kvraft"):
        if path.name == "clock.py":
            continue
        wrong += [f"{place(path, line)}: imports time" for line, module in imports(path) if module == "time"]
    others = [path for path in python_files("kvraft") if path.name != "clock.py"]
    wrong += matches(r"\.(now|utcnow|today)\(|\bloop\(?\)?\.time\b|\bos\.times\(", others)
    none_of(wrong)


def test_nothing_sleeps() -> None:
    """Product and tests await events; a blocked loop or a guessed delay is neither."""
    files = [path for path in python_files("kvraft", "tests", "bench") if path != pathlib.Path(__file__)]
    none_of(matches(r"\btime\.sleep\(|from time import .*sleep", files))


def test_nothing_is_left_for_later_or_hidden() -> None:
    """No marker of unfinished work, no swallowed exception, no test that skips."""
    files = [path for path in python_files("kvraft", "tests", "bench") if path != pathlib.Path(__file__)]
    none_of(matches(r"\b(TODO|FIXME|XXX|HACK)\b", files))
    none_of(matches(r"pytest\.(skip|importorskip|xfail)|mark\.(skip|skipif|xfail)", files))
    wrong = []
    for path in files:
        handlers = (node for node in ast.walk(parsed(path)) if isinstance(node, ast.ExceptHandler))
        wrong += [
            f"{place(path, handler.lineno)}: except: pass"
            for handler in handlers
            if all(isinstance(step, ast.Pass) for step in handler.body)
        ]
    none_of(wrong)


def test_every_exception_to_a_rule_has_a_code_and_a_reason() -> None:
    """`# noqa: X -- why` and `# type: ignore[x] # why`."""
    files = [path for path in python_files("kvraft", "tests", "bench") if path != pathlib.Path(__file__)]
    none_of(matches(r"# noqa(?!: [A-Z]+[0-9]+(, ?[A-Z]+[0-9]+)* -- \S)", files))
    none_of(matches(r"# type: ignore(?!\[[a-z-]+(, ?[a-z-]+)*\] +# *\S)", files))


def test_files_and_functions_fit_on_screens() -> None:
    """A long one gets a second look; what stays long says why in LONG_FILES or LONG_FUNCTIONS."""
    wrong = []
    for path in python_files("kvraft"):
        name = str(path.relative_to(ROOT))
        lines = len(path.read_text().splitlines())
        if lines > LINES_MAX and name not in LONG_FILES:
            wrong.append(f"{name}: {lines} lines")
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > FUNCTION_LINES_MAX and f"{name}::{node.name}" not in LONG_FUNCTIONS:
                    wrong.append(f"{place(path, node.lineno)}: {node.name} has {length} lines")
    none_of(wrong)


def test_every_test_states_its_fact() -> None:
    """A test's docstring is the sentence that it proves."""
    wrong = []
    for path in python_files("tests"):
        for node in ast.walk(parsed(path)):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or not node.name.startswith("test_"):
                continue
            if ast.get_docstring(node) is None:
                wrong.append(f"{place(path, node.lineno)}: {node.name} has no docstring")
    none_of(wrong)


def test_folders_of_tests_are_packages() -> None:
    """Two files may have the same name in different folders, and helpers are imported as `tests.<room>.<file>`."""
    folders = {path.parent for path in python_files("tests")}
    data = ROOT / "tests" / "data"
    assert [
        str(folder) for folder in folders if data not in folder.parents and not (folder / "__init__.py").exists()
    ] == []


def test_packages_say_what_is_in_them() -> None:
    """A package docstring is a map."""
    wrong = [
        str(path.relative_to(ROOT))
        for path in python_files("kvraft")
        if path.name == "__init__.py" and ast.get_docstring(parsed(path)) is None
    ]
    none_of(wrong)


def test_nothing_depends_on_where_it_was_made() -> None:
    """No path outside the checkout, no address of a package registry, no file that pins addresses."""
    files = [path for path in tracked_files() if path != pathlib.Path(__file__)]
    none_of(matches(r"\.\./shared|/work/|/root/", files))
    none_of(matches(r"pypi\.org|pythonhosted|index-url|find-links|registry\.[a-z]+\.(com|org)/", files))
    assert [path.name for path in files if path.suffix == ".lock" or path.name.endswith("-lock.json")] == []


def test_constraints_pin_versions_and_nothing_else() -> None:
    """Every line is `name==version`; every dependency of pyproject.toml has one."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert [line for line in lines if not re.fullmatch(r"[A-Za-z0-9_.-]+==[0-9][A-Za-z0-9.+]*", line)] == []
    pinned = {line.partition("==")[0].lower().replace("_", "-") for line in lines}
    declared = re.findall(r'^ {4}"([A-Za-z0-9-]+)[>=]=', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert len(declared) > 10
    assert set(declared) - pinned == set()


def test_links_of_the_documents_lead_somewhere() -> None:
    """Every relative link names a file or folder of the checkout."""
    wrong = []
    for path in tracked_files():
        if path.suffix != ".md":
            continue
        for number, line in enumerate(path.read_text().splitlines(), 1):
            targets = [target for target in re.findall(r"\]\(([^)\s]+)\)", line) if "://" not in target]
            gone = [target for target in targets if not (path.parent / target.partition("#")[0]).exists()]
            wrong += [f"{place(path, number)}: {target}" for target in gone]
    none_of(wrong)


def test_documents_name_files_that_exist() -> None:
    """A path in backticks is one of the checkout's, so that the page is still true after a move."""
    wrong = []
    for name in ("README.md", "CONTRIBUTING.md", "docs/architecture.md", "docs/operations.md", "docs/testing.md"):
        path = ROOT / name
        for number, line in enumerate(path.read_text().splitlines(), 1):
            targets = re.findall(r"`((?:kvraft|tests|docs|proto|bench|tools)/[\w./-]+)`", line)
            wrong += [f"{place(path, number)}: {target}" for target in targets if not (ROOT / target).exists()]
    none_of(wrong)


def test_documents_have_one_sentence_a_line() -> None:
    """So that a change shows as the sentence that changed. Tables, code and lists of words aside."""
    wrong = []
    for path in tracked_files():
        if path.suffix != ".md":
            continue
        in_code = False
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if line.startswith("```"):
                in_code = not in_code
            prose = re.sub(r"`[^`]*`", "code", line)
            if not in_code and not line.startswith("|") and re.search(r"(?<!\b[a-z])[a-z)][.?!] [A-Z]", prose):
                wrong.append(f"{place(path, number)}: {line[:100]}")
    none_of(wrong)


def test_every_setting_is_explained_to_operators() -> None:
    """docs/operations.md names each flag that has an effect."""
    from kvraft.settings.flag_table import FLAGS, Use  # noqa: PLC0415 -- only this test looks at the product

    page = (ROOT / "docs" / "operations.md").read_text()
    settings = [flag.name for flag in FLAGS.values() if flag.use is Use.SETTING]
    assert [name for name in settings if f"`--{name}`" not in page] == []


def test_changes_for_users_are_told() -> None:
    """The changelog has a section for what is not released yet."""
    assert "## Unreleased" in (ROOT / "CHANGELOG.md").read_text()


def test_ports_are_bound_in_one_place() -> None:
    """What `0.0.0.0` means, and how many may wait, is the same for clients and for peers."""
    none_of(
        f"{path}: use kvraft/sockets.py"
        for path in python_files("kvraft")
        if "IPV6_V6ONLY" in path.read_text(encoding="utf-8") and path.name != "sockets.py"
    )
