"""The YAML of `--config-file`: etcd's keys, which are its flags' names, with etcd's types (v3.4.23 embed/config.go).

Read as nodes, not as objects: so every value has its line, aliases cannot multiply (each is looked at once), and no
tag makes anything. As in etcd a key may be written in capitals, of a repeated one the last counts, null is as if the
line were not there, and an unknown key changes nothing; but here the log names each of these.
"""

from collections.abc import Iterator
from typing import Final, final

import yaml

from kvraft.settings.flag_table import Flag, Use
from kvraft.settings.flags import Given, SettingsError, Value, alike, checked, named, one_line, weighed

_SECTIONS: Final = {"client-transport-security": "", "peer-transport-security": "peer-"}
"""Keys that hold keys, and what the names of their flags begin with."""
_IN_SECTIONS: Final = ("auto-tls", "ca-file", "cert-file", "client-cert-auth", "key-file", "trusted-ca-file")
_BELOW: Final = {prefix + key: f"{section}, as {key}" for section, prefix in _SECTIONS.items() for key in _IN_SECTIONS}
"""Flags that a file has in a section, with their place there."""
_NEVER: Final = frozenset({"config-file", "help", "put-back", "version"})
"""Flags that make no sense in a file."""
_LISTS: Final = frozenset({"cipher-suites", "log-outputs"})
"""Flags that etcd's file has as lists."""
_TAG: Final = "tag:yaml.org,2002:"
_TEXTS: Final = frozenset({f"{_TAG}str", f"{_TAG}timestamp"})
_KINDS: Final = {"bool": "a truth value", "float": "a number", "int": "a number", "map": "a map", "seq": "a list"}


def read(path: str, data: bytes, beside: Given) -> Given:
    """The settings that a file has.

    Args:
        path: how it was named, for errors and notices.
        data: what is in it.
        beside: what counts beside it: the deeds that were asked for on the command line.

    Raises:
        SettingsError: it is no YAML, or a value is none of its key's. One line with file, line, key and remedy.
    """
    reading = _Reading(path)
    reading.take(_root(path, data))
    return weighed({**reading.values, **beside.values}, (*beside.notices, *reading.notices))


@final
class _Reading:
    def __init__(self, path: str) -> None:
        self._path = path
        self.values: dict[str, Value] = {}
        self.notices: list[str] = []

    def take(self, root: yaml.Node | None) -> None:
        """Everything that the top of the file holds."""
        for key, node in self._pairs(root):
            if key not in _SECTIONS:
                self._take_flag(key, key, node)
                continue
            for below, value in self._pairs(node):
                name = _SECTIONS[key] + below if below in _IN_SECTIONS else ""
                self._take_flag(f"{key}.{below}", name, value)

    def _pairs(self, node: yaml.Node | None) -> Iterator[tuple[str, yaml.Node]]:
        """The keys of a map, in small letters, each with its value."""
        if node is None or node.tag == f"{_TAG}null":
            return
        if not isinstance(node, yaml.MappingNode):
            raise self._error(node, "", f"{_kind(node)} where keys are expected: write name: value, one a line")
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise self._error(key, "", f"{_kind(key)} where a key is expected: write name: value, one a line")
            if key.tag == f"{_TAG}merge":
                raise self._error(key, "<<", "merged maps are not read here: write the settings out")
            yield key.value.lower(), value

    def _take_flag(self, key: str, name: str, node: yaml.Node) -> None:
        if name in _BELOW and "." not in key:
            raise self._error(node, key, f"etcd reads it in a section only: move it below {_BELOW[name]}")
        flag = None if name in _NEVER else named(name)
        if flag is None:
            meant = alike(key)
            hint = f": did you mean {meant}?" if meant and meant != key else ""
            self.notices.append(f"{self._place(node, key)} is not a key that kvraft reads{hint}")
            return
        if node.tag == f"{_TAG}null":
            return
        text = self._text(flag, key, node)
        if any("\ud800" <= character <= "\udfff" for character in text):  # which JSON's escapes can say
            raise self._error(node, key, "half of a character, which nothing can be called: write all of it")
        if flag.name in self.values:
            self.notices.append(f"{self.values[flag.name].shown} has no effect: {key} comes again below it")
        self.values[flag.name] = checked(flag, Value(text, f"{self._place(node, key)}: {text}"))

    def _text(self, flag: Flag, key: str, node: yaml.Node) -> str:
        """A value as a flag has it, if its type is the one that etcd wants."""
        if flag.name in _LISTS and isinstance(node, yaml.SequenceNode):
            for part in node.value:
                if part.tag not in _TEXTS or "," in part.value:
                    raise self._error(part, key, f"{_kind(part)} in the list: write each as text, without commas")
            return ",".join(part.value for part in node.value)
        if not isinstance(node, yaml.ScalarNode):
            raise self._error(node, key, f"{_kind(node)} where one value is expected")
        if flag.use is not Use.SETTING and not flag.is_switch:
            return str(node.value)
        if flag.is_switch:
            wanted, remedy = {f"{_TAG}bool"}, "write true or false, without quotes"
        elif flag.is_number:
            wanted, remedy = {f"{_TAG}int"}, "write a whole number, without quotes"
        else:
            wanted, remedy = set(_TEXTS), "write it in quotes"
        if node.tag not in wanted:
            raise self._error(node, key, f"{_kind(node)}: {remedy}")
        if flag.is_switch:
            return "true" if node.value.lower() in {"yes", "true", "on"} else "false"
        return str(node.value)

    def _place(self, node: yaml.Node, key: str) -> str:
        return one_line(f"{self._path}:{node.start_mark.line + 1}: {key}")

    def _error(self, node: yaml.Node, key: str, problem: str) -> SettingsError:
        value = f": {node.value}" if isinstance(node, yaml.ScalarNode) and key and key != "<<" else ""
        return SettingsError(one_line(f"{self._place(node, key).removesuffix(': ')}{value}: {problem}"))


def _root(path: str, data: bytes) -> yaml.Node | None:
    """The first document, as etcd reads it; None if there is none."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise SettingsError(one_line(f"{path}:{line}: it is not UTF-8: write it as UTF-8 text")) from None
    try:
        loader = yaml.SafeLoader(text)
        return loader.get_node() if loader.check_node() else None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark is not None else 1
        raise SettingsError(one_line(f"{path}:{line}: {error.problem or error.context}: it is no YAML")) from None
    except yaml.reader.ReaderError as error:
        line = text[: error.position].count("\n") + 1
        raise SettingsError(one_line(f"{path}:{line}: a control character: YAML has none, take it out")) from None
    except RecursionError:
        raise SettingsError(one_line(f"{path}: it is nested too deeply: write name: value, one a line")) from None


def _kind(node: yaml.Node) -> str:
    """What a node is, in words."""
    if node.tag in _TEXTS:
        return "text"
    return _KINDS.get(node.tag.removeprefix(_TAG), f"{node.tag} is a tag that means nothing here")
