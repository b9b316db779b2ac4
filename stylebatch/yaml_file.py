"""YAML files that people write: plain fields and lists, read without any of YAML's powers.

Only what ``yaml.safe_load`` makes of plain lines is accepted. Anchors and aliases are refused because a few
lines of them expand to more than any memory holds; tags, because plain fields have no objects.
"""

from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from stylebatch.errors import StylebatchError
from stylebatch.objectstore import ObjectStore, resolve_uri
from stylebatch.quoting import quoted, reason


@dataclass(frozen=True)
class YamlKind:
    """What one kind of file may hold, and how to say that one holds something else."""

    most_bytes: int
    """Of the file."""
    most_depth: int
    """Levels: the fields, and the lists and fields within each other below them."""
    allowed: str
    """How such a file looks, as the end of a message."""
    error: type[StylebatchError]
    """What is raised."""


def read_yaml(store: ObjectStore, location: str, kind: YamlKind) -> dict[str, Any]:
    """The fields of a file, as YAML reads them.

    Args:
        store: Where the file is.
        location: A path or an ``s3://`` URI, as a user wrote it.
        kind: What is allowed.

    Raises:
        StylebatchError: ``kind.error``: the file is too large, not text, not YAML, or uses more of YAML than
            plain fields need.
        StorageError: The location is not allowed, or nothing is there.
    """
    uri = resolve_uri(location)
    data = store.get_range(uri, 0, kind.most_bytes + 1)
    try:
        return _fields(data, kind)
    except _UnusableError as problem:
        raise kind.error(f"{uri}: {problem}; {kind.allowed}") from None


class _UnusableError(Exception):
    """What is wrong with a file, as the middle of a sentence."""


def _fields(data: bytes, kind: YamlKind) -> dict[str, Any]:
    if len(data) > kind.most_bytes:
        raise _UnusableError(f"the file has more than {kind.most_bytes} bytes")
    try:
        text = data.decode("utf-8-sig")
        _check_events(text, kind.most_depth)
        fields = yaml.load(text, _PlainLoader)
    except UnicodeDecodeError as error:
        raise _UnusableError(f"the file is not UTF-8 text (byte {error.start})") from error
    except yaml.MarkedYAMLError as error:
        raise _UnusableError(f"the file is not YAML: {_place(error)}{reason(error.problem)}") from error
    except (ValueError, OverflowError) as error:
        raise _UnusableError("the file holds a number or date that cannot be read") from error
    except (yaml.YAMLError, RecursionError) as error:
        raise _UnusableError(f"the file is not YAML: {reason(error)}") from error
    if not isinstance(fields, dict):
        raise _UnusableError("the file holds no fields")
    return fields


def _place(error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark
    return f"line {mark.line + 1}: " if mark else ""


def _check_events(text: str, most_depth: int) -> None:
    """Refuse what fields do not need, before anything is built of it."""
    depth = documents = 0
    for event in yaml.parse(text, yaml.SafeLoader):
        line = event.start_mark.line + 1 if event.start_mark else 1
        documents += isinstance(event, yaml.DocumentStartEvent)
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if documents > 1:
            raise _UnusableError(f"line {line}: a second document begins")
        if depth > most_depth:
            raise _UnusableError(f"line {line}: lists or fields are nested too deep")
        for problem in _excesses(event):
            raise _UnusableError(f"line {line}: {problem}")


def _excesses(event: yaml.Event) -> Iterator[str]:
    if anchor := getattr(event, "anchor", None):
        yield f"there is an anchor or alias ({quoted(str(anchor))}), which is not allowed"
    if tag := getattr(event, "tag", None):
        yield f"there is a tag ({quoted(str(tag))}), which is not allowed"


class _PlainLoader(yaml.SafeLoader):
    """A SafeLoader that refuses a field that is there twice, and names that are not text."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        fields: dict[Hashable, Any] = {}
        for key_node, value_node in node.value:
            name = self.construct_object(key_node, deep=True)
            if not isinstance(name, str):
                raise yaml.constructor.ConstructorError(
                    None, None, "a field's name is not text", key_node.start_mark
                )
            if name in fields:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the field {quoted(name)} is there twice", key_node.start_mark
                )
            fields[name] = self.construct_object(value_node, deep=deep)
        return fields
