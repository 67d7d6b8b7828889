"""Text to typed values and back, with errors that name file, key and line.

YAML is read once, into nodes that know their lines; the nodes become plain values, msgspec checks their types and names
the path of what it rejects. Of YAML's ways to surprise, none is let in: see `_Loader` and `_refuse`. This module knows
text, not files: reading them is the caller's business.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TypeVar

import msgspec
import yaml
from msgspec import inspect

from ft_horovod.core.errors import ConfigError

T = TypeVar("T")
Path = tuple[str | int, ...]

_DEPTH = 40
_TAG = "tag:yaml.org,2002:"
_INT, _FLOAT, _STR = _TAG + "int", _TAG + "float", _TAG + "str"
_PATH_PART = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]")
_LINE_ENDS = re.compile("[\x85\u2028\u2029]")  # YAML ends lines at these too, which PyYAML forgets in plain text
_NOT_TEXT = re.compile("[\x00\ud800-\udfff]")


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, less what surprises in a config.

    `1e-3` is a number, though YAML 1.1 wants a dot and a sign. `010` and `1:30` are not (8 and 90 in YAML 1.1), nor is
    `2024-01-01` a date, `=` a value, `<<` a merge: all are text, which the types then refuse where a number is wanted.
    Tags (`!!int`) and depths that no config has are errors, so that no document can exhaust the stack.
    """

    _depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if getattr(event, "tag", None) is not None:
            raise yaml.composer.ComposerError(None, None, "tags are not understood here", event.start_mark)
        self._depth += 1
        if self._depth > _DEPTH:
            raise yaml.composer.ComposerError(None, None, f"nested deeper than {_DEPTH}", event.start_mark)
        node: yaml.Node | None = super().compose_node(parent, index)
        self._depth -= 1
        return node


class _Dumper(yaml.SafeDumper):
    """Quotes text that `_Loader`, or any reader of YAML 1.1, would take for something else; writes no aliases."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    style = '"' if _LINE_ENDS.search(text) else None
    return dumper.represent_scalar(_STR, text, style=style)


_Dumper.add_representer(str, _represent_text)
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag in (_TAG + "bool", _TAG + "null")]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _class in (_Loader, _Dumper):
    _class.add_implicit_resolver(_INT, re.compile(r"[-+]?(?:0|[1-9][0-9_]*|0x[0-9a-fA-F]+)$"), list("-+0123456789"))
    _class.add_implicit_resolver(
        _FLOAT,
        re.compile(
            r"[-+]?(?:(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)?|[0-9][0-9_]*[eE][-+]?[0-9]+"
            r"|\.(?:inf|Inf|INF))$|\.(?:nan|NaN|NAN)$"
        ),
        list("-+0123456789."),
    )


def encode_yaml(value: object) -> str:
    """Write a struct, or plain values, as the YAML that `decode_yaml` reads back to the same."""
    return yaml.dump(msgspec.to_builtins(value), Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def decode_yaml(text: str, kind: type[T], *, source: str) -> T:
    """Decode a YAML document into `kind`; an empty document is an empty mapping.

    Raises ConfigError with `source`, the key's path and its line, and nothing else, whatever the text.
    """
    try:
        loader = _Loader(text)
        root = loader.get_single_node()
        if root is not None:
            _refuse(root, (), source, frozenset(), set())
        value = None if root is None else loader.construct_document(root)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line = mark.line + 1 if mark else None
        raise ConfigError(f"not valid YAML: {error.problem}", source=source, line=line) from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        problem = f"character {error.character:#06x}: {error.reason}"
        raise ConfigError(f"not valid YAML: {problem}", source=source, line=line) from error
    except ValueError as error:  # PyYAML lets one through: an escape beyond Unicode, "\U00110000"
        raise ConfigError(f"not valid YAML: {error}", source=source, line=loader.line + 1) from error
    return convert({} if value is None else value, kind, source=source, root=root)


def convert(value: object, kind: type[T], *, source: str, root: yaml.Node | None = None) -> T:
    """Check plain values against `kind`. Raises ConfigError; `root` is the parsed YAML that gives the line."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        problem, _, where = str(error).partition(" - at `$")
        path = _path_of(where.rstrip("`"))
        unknown = re.fullmatch("Object contains unknown field `(.*)`", problem, re.DOTALL)
        missing = re.fullmatch("Object missing required field `(.*)`", problem, re.DOTALL)
        if unknown:
            problem = "unknown key" + _known_keys(_types_at(kind, path))
            path += (unknown[1],)
        elif missing:
            problem = "required key is missing"
            path += (missing[1],)
        elif problem.startswith("Invalid enum value"):
            problem += _known_values(_types_at(kind, path))
        raise ConfigError(_plain(problem), source=source, key=_dotted(path), line=line_of(root, path)) from error
    except UnicodeEncodeError as error:
        raise ConfigError(f"not text: {error.object!r}", source=source) from error


def line_of(root: yaml.Node | None, path: Sequence[str | int]) -> int | None:
    """The line, from 1, of the deepest part of `path` that the document has; None without a document."""
    if root is None:
        return None
    node, line = root, root.start_mark.line + 1
    for part in path:
        if isinstance(node, yaml.MappingNode):
            found = next(((k, v) for k, v in node.value if k.value == str(part)), None)
            if found is None:
                break
            line, node = found[0].start_mark.line + 1, found[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
        else:
            break
    return line


def with_line(error: ConfigError, text: str) -> ConfigError:
    """The same error with the line of its key in `text`, a document that has been decoded without an error."""
    root = _Loader(text).get_single_node()
    line = line_of(root, _path_of(f".{error.key}")) if error.key else None
    return ConfigError(error.problem, source=error.source, key=error.key, line=line)


def _path_of(dotted: str) -> Path:
    """The parts of `.faults[0].at`."""
    return tuple(key or int(index) for key, index in _PATH_PART.findall(dotted))


def _refuse(node: yaml.Node, path: Path, source: str, above: frozenset[int], done: set[int]) -> None:
    """Refuse what YAML allows and a config must not have.

    An alias inside what it stands for; two equal keys, of which YAML lets the last win in silence; keys that are no
    text; numbers beyond 64 bits, infinite or none at all; characters that no file name or encoder takes. `above` holds
    the nodes that this one is in, `done` those already found good: an alias is not followed twice.
    """

    def refused(problem: str, at: yaml.Node, key: Path = path) -> ConfigError:
        return ConfigError(problem, source=source, key=_dotted(key), line=at.start_mark.line + 1)

    if id(node) in above:
        raise refused("an alias inside what it stands for", node)
    if id(node) in done:
        return
    done.add(id(node))
    above |= {id(node)}
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if key.tag != _STR or _NOT_TEXT.search(key.value):
                raise refused("a key here is not plain text", key)
            if key.value in seen:
                raise refused("key given twice", key, (*path, key.value))
            seen.add(key.value)
            _refuse(value, (*path, key.value), source, above, done)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            _refuse(item, (*path, index), source, above, done)
    elif node.tag in (_INT, _FLOAT) and not _in_range(node.value):
        raise refused("expected a finite number of at most 64 bits", node)
    elif _NOT_TEXT.search(node.value):
        raise refused("expected text without NUL and surrogate characters", node)


def _in_range(number: str) -> bool:
    text = number.replace("_", "").lower()
    if len(text) > 100 or text.lstrip("+-") in (".inf", ".nan"):
        return False
    return abs(int(text, 16) if "0x" in text else float(text)) < 2**63


def _types_at(kind: object, path: Path) -> list[inspect.Type]:
    """The types allowed at `path` inside `kind`."""
    found = _alternatives(inspect.type_info(kind))
    for part in path:
        inside: list[inspect.Type] = []
        for info in found:
            if isinstance(info, inspect.StructType):
                inside += [field.type for field in info.fields if field.encode_name == part]
            elif isinstance(info, (inspect.ListType, inspect.VarTupleType)):
                inside.append(info.item_type)
        found = [alternative for info in inside for alternative in _alternatives(info)]
    return found


def _alternatives(info: inspect.Type) -> list[inspect.Type]:
    return list(info.types) if isinstance(info, inspect.UnionType) else [info]


def _known_keys(types: list[inspect.Type]) -> str:
    keys = [field.encode_name for info in types if isinstance(info, inspect.StructType) for field in info.fields]
    return "; known here: " + ", ".join(keys) if keys else ""


def _known_values(types: list[inspect.Type]) -> str:
    values = [str(value) for info in types if isinstance(info, inspect.LiteralType) for value in info.values]
    return "; expected " + ("one of " if len(values) > 1 else "") + ", ".join(values) if values else ""


def _dotted(path: Path) -> str | None:
    parts = (f"[{part}]" if isinstance(part, int) else "." + (part or "''") for part in path)
    return "".join(parts).removeprefix(".") or None


def _plain(problem: str) -> str:
    """msgspec's wording without its back-ticks, in YAML's terms, starting in lower case."""
    if problem.startswith("Expected"):
        problem = re.sub(r"\barray\b", "list", re.sub(r"\bobject\b", "mapping", problem))
    problem = problem.replace("`", "")
    return problem[:1].lower() + problem[1:]
