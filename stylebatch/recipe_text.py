"""From text that people write, in a YAML file or after ``--set``, to what the fields of a recipe hold."""

from collections.abc import Mapping
from typing import Any

from stylebatch.errors import RecipeError
from stylebatch.quoting import shown
from stylebatch.recipe import FIELDS, check_field_names, field_rule


def parse_fields(texts: Mapping[str, Any]) -> dict[str, Any]:
    """Turn values that were read from text into what the fields hold, by each field's kind.

    YAML reads ``1e3`` as text and a command line has nothing but text: numbers are converted, and a
    comma-separated text becomes a list.

    Raises:
        RecipeError: A name is not a field, or a text is not a number where one is wanted.
    """
    check_field_names(texts)
    return {name: _parse(name, value) for name, value in texts.items()}


def _parse(name: str, value: Any) -> Any:
    rule = field_rule(name)
    if not isinstance(value, str | list):
        return value
    if value in ("none", "null", "") and FIELDS[name].default is None:
        return None
    try:
        match rule.kind:
            case "number" if isinstance(value, str):
                return float(value)
            case "integer" if isinstance(value, str):
                return float(value) if "e" in value.lower() else int(value)
            case "numbers":
                return [float(item) if isinstance(item, str) else item for item in _items(value)]
            case "texts":
                return _items(value)
    except (ValueError, OverflowError, TypeError):
        raise RecipeError(f"recipe: {name} is {shown(value)}; it must be {rule.allowed}") from None
    return value


def _items(value: str | list[Any]) -> list[Any]:
    return [item.strip() for item in value.strip("[]").split(",")] if isinstance(value, str) else value
