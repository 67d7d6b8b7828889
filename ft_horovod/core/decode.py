"""Text to typed values, with errors that name file, key and line.

YAML is parsed once into values and once into a map from key paths to lines; msgspec checks the types and names the
path of what it rejects. This module knows text, not files: reading them is the caller's business.
"""

from __future__ import annotations

import re
from typing import TypeVar

import msgspec
import yaml

from ft_horovod.core.errors import ConfigError

T = TypeVar("T")

_PATH_PART = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]")


def decode_yaml(text: str, kind: type[T], *, source: str) -> T:
    """Decode a YAML document into `kind`; an empty document is an empty mapping.

    Raises ConfigError with `source`, the key's path and its line.
    """
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        _refuse_duplicates(root, source)
        value = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        raise ConfigError(
            f"not valid YAML: {error.problem}", source=source, line=mark.line + 1 if mark else None
        ) from error
    except yaml.YAMLError as error:
        raise ConfigError(f"not valid YAML: {error}", source=source) from error
    return convert({} if value is None else value, kind, source=source, root=root)


def convert(value: object, kind: type[T], *, source: str, root: yaml.Node | None = None) -> T:
    """Check plain values against `kind`. Raises ConfigError; `root` is the parsed YAML that gives the line."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        problem, _, where = str(error).partition(" - at `$")
        path = [key or int(index) for key, index in _PATH_PART.findall(where.rstrip("`"))]
        unknown = re.search(r"unknown field `(.+)`", problem)
        if unknown:
            path.append(unknown[1])
            problem = f"unknown key{_suggest(unknown[1], path, kind)}"
        key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")
        raise ConfigError(_plain(problem), source=source, key=key or None, line=line_of(root, path)) from error


def line_of(root: yaml.Node | None, path: list[str | int]) -> int | None:
    """The line, from 1, of the deepest part of `path` that the document has."""
    node, line = root, None
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
    return line if line is not None or root is None else root.start_mark.line + 1


def _refuse_duplicates(node: yaml.Node | None, source: str, visited: frozenset[int] = frozenset()) -> None:
    """YAML lets the last of two equal keys win in silence; a config must not."""
    if id(node) in visited:
        raise ConfigError("an alias inside what it stands for", source=source, line=node.start_mark.line + 1)
    visited |= {id(node)}
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if key.value in seen:
                raise ConfigError("key given twice", source=source, key=key.value, line=key.start_mark.line + 1)
            seen.add(key.value)
            _refuse_duplicates(value, source, visited)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _refuse_duplicates(item, source, visited)


def _suggest(key: str, path: list[str | int], kind: object) -> str:
    """The keys allowed where `key` stood, to be put into the message."""
    info = msgspec.inspect.type_info(kind)
    for part in path[:-1]:
        if isinstance(info, msgspec.inspect.StructType):
            info = next((f.type for f in info.fields if f.encode_name == part), info)
        elif isinstance(info, (msgspec.inspect.ListType, msgspec.inspect.VarTupleType)):
            info = info.item_type
        if isinstance(info, msgspec.inspect.UnionType):
            info = next((t for t in info.types if isinstance(t, msgspec.inspect.StructType)), info)
    if isinstance(info, msgspec.inspect.StructType):
        return "; known here: " + ", ".join(field.encode_name for field in info.fields)
    return ""


def _plain(problem: str) -> str:
    """msgspec's wording without its back-ticks, starting in lower case."""
    problem = problem.replace("`", "")
    return problem[:1].lower() + problem[1:]
