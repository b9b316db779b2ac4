"""Recipes in YAML files: one short list of fields, read without any of YAML's powers.

Only what ``yaml.safe_load`` makes of plain lines is accepted. Anchors and aliases are refused because a few
lines of them expand to more than any memory holds; tags, because a recipe has no objects.
"""

from collections.abc import Hashable, Iterator
from typing import Any

import yaml

from stylebatch.errors import RecipeError
from stylebatch.objectstore import ObjectStore, resolve_uri
from stylebatch.quoting import quoted, reason

MAX_RECIPE_BYTES = 16 * 1024
"""Of a recipe file; the longest recipe with every field takes 2 KB."""
MAX_DEPTH = 3
"""Levels: the fields, a list, and one more for the message about a value that is too deep."""

ALLOWED = "a recipe file is YAML text with lines of the form field: value, where a value may be a list"


def read_recipe_fields(store: ObjectStore, location: str) -> dict[str, Any]:
    """The fields of a recipe file, as they are written; :func:`stylebatch.recipe.parse_fields` reads them.

    Args:
        store: Where the file is.
        location: A path or an ``s3://`` URI, as a user wrote it.

    Raises:
        RecipeError: The file is too large, not text, not YAML, or uses more of YAML than fields need.
        StorageError: The location is not allowed, or nothing is there.
    """
    uri = resolve_uri(location)
    data = store.get_range(uri, 0, MAX_RECIPE_BYTES + 1)
    try:
        return _fields(data)
    except _UnusableError as problem:
        raise RecipeError(f"{uri}: {problem}; {ALLOWED}") from None


class _UnusableError(Exception):
    """What is wrong with a file, as the middle of a sentence."""


def _fields(data: bytes) -> dict[str, Any]:
    if len(data) > MAX_RECIPE_BYTES:
        raise _UnusableError(f"the file has more than {MAX_RECIPE_BYTES} bytes")
    try:
        text = data.decode("utf-8-sig")
        _check_events(text)
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


def _check_events(text: str) -> None:
    """Refuse what fields do not need, before anything is built of it."""
    depth = documents = 0
    for event in yaml.parse(text, yaml.SafeLoader):
        line = event.start_mark.line + 1 if event.start_mark else 1
        documents += isinstance(event, yaml.DocumentStartEvent)
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if documents > 1:
            raise _UnusableError(f"line {line}: a second document begins")
        if depth > MAX_DEPTH:
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
