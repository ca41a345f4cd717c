"""The arguments of a canned function call: one value for each parameter, of the type that its schema names."""

import json
from collections.abc import Mapping
from typing import Any

_DEEPEST = 8  # levels of objects in objects


def make_arguments(schema: Any, noise: bytes) -> str:
    """JSON text of an object that fits *schema*, as far as its types and enums say."""
    value = _value(schema, noise, 0)
    return json.dumps(value if isinstance(value, dict) else {}, ensure_ascii=False)


def _value(schema: Any, noise: bytes, depth: int) -> Any:
    if not isinstance(schema, Mapping) or depth > _DEEPEST:
        return None
    options, byte = schema.get("enum"), noise[depth]
    if isinstance(options, list) and options:
        return options[byte % len(options)]
    match schema.get("type"):
        case "object":
            properties = schema.get("properties")
            named = properties.items() if isinstance(properties, Mapping) else ()
            return {name: _value(inner, noise[1:] + noise[:1], depth + 1) for name, inner in named}
        case "array":
            return [_value(schema.get("items"), noise, depth + 1)]
        case "integer":
            return byte
        case "number":
            return byte / 8
        case "boolean":
            return bool(byte % 2)
        case "string":
            return f"simulated {byte}"
        case _:
            return None
