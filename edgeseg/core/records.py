"""Frozen dataclasses to JSON and back, strictly: an unknown field is refused, a missing one named.

Annotations use ``Optional[...]`` and ``Tuple[...]`` because the worker reads records on Python 3.9.
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar, Union

from edgeseg.core.errors import EdgesegError

T = TypeVar("T")


class RecordError(EdgesegError):
    """A JSON document does not hold the record that it should."""


def to_dict(record: object) -> dict[str, Any]:
    """A record as plain JSON types; tuples become lists."""
    assert dataclasses.is_dataclass(record)
    assert not isinstance(record, type)
    return {field.name: _plain(getattr(record, field.name)) for field in dataclasses.fields(record)}


def to_json(record: object, *, indent: int | None = None) -> str:
    """A record as one JSON document; NaN and infinities are refused, because JSON has none."""
    return json.dumps(to_dict(record), indent=indent, ensure_ascii=False, allow_nan=False)


def from_dict(kind: type[T], document: Mapping[str, Any], *, where: str = "") -> T:
    """Build a record from parsed JSON.

    Args:
        kind: The dataclass.
        document: The parsed JSON object.
        where: What the document is, for the error message.

    Raises:
        RecordError: A field is unknown, missing or of another type, or the schema version is another one.
    """
    name = where or kind.__name__
    if not isinstance(document, Mapping):
        raise RecordError(f"{name}: an object was expected, found {type(document).__name__}")
    hints = typing.get_type_hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]
    version = fields.get("schema_version")
    if version is not None and document.get("schema_version", version.default) != version.default:
        raise RecordError(
            f"{name}: schema version {document.get('schema_version')!r}, this edgeseg reads {version.default!r}",
            "make it again with this edgeseg, or install the edgeseg that wrote it",
        )
    unknown = sorted(set(document) - set(fields))
    if unknown:
        raise RecordError(f"{name}: unknown field {unknown[0]!r}", f"known fields: {', '.join(sorted(fields))}")
    values = {}
    for key, field in fields.items():
        if key in document:
            values[key] = _typed(hints[key], document[key], f"{name}.{key}")
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise RecordError(f"{name}: the field {key!r} is missing")
    return kind(**values)


def from_json(kind: type[T], text: str | bytes, *, where: str = "") -> T:
    """Parse one JSON document into a record; see `from_dict`."""
    try:
        document = json.loads(text)
    except ValueError as error:
        raise RecordError(f"{where or kind.__name__}: not JSON: {error}") from error
    return from_dict(kind, document, where=where)


def of_kind(kinds: Mapping[str, type], line: str | bytes) -> Any:
    """Parse one line of JSON whose `kind` names the record.

    Args:
        kinds: Value of `kind` to the record's class.
        line: The line.

    Raises:
        RecordError: It is no such record.
    """
    try:
        document = json.loads(line)
    except ValueError as error:
        raise RecordError(f"not a record: {error}") from error
    kind = document.get("kind") if isinstance(document, dict) else None
    if not isinstance(kind, str) or kind not in kinds:
        raise RecordError(f"not a record: kind {kind!r}")
    return from_dict(kinds[kind], document, where=kind)


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return to_dict(value)
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    return value


def _typed(hint: Any, value: Any, where: str) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Union or origin is getattr(types, "UnionType", Union):
        if value is None and type(None) in arguments:
            return None
        inner = [argument for argument in arguments if argument is not type(None)]
        return _typed(inner[0], value, where)
    if origin is typing.Literal:
        if value not in arguments:
            raise RecordError(f"{where}: {value!r} is none of {', '.join(map(repr, arguments))}")
        return value
    if origin is tuple:
        return _typed_tuple(arguments, value, where)
    if origin is dict:
        if not isinstance(value, Mapping):
            raise RecordError(f"{where}: an object was expected, found {type(value).__name__}")
        return {str(key): _typed(arguments[1], item, f"{where}.{key}") for key, item in value.items()}
    if dataclasses.is_dataclass(hint):
        return from_dict(typing.cast(type[Any], hint), value, where=where)
    if hint is Any:
        return value
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise RecordError(f"{where}: {hint.__name__} was expected, found {value!r}")
    return value


def _typed_tuple(arguments: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, (list, tuple)):
        raise RecordError(f"{where}: a list was expected, found {type(value).__name__}")
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        return tuple(_typed(arguments[0], item, f"{where}[{index}]") for index, item in enumerate(value))
    if len(arguments) != len(value):
        raise RecordError(f"{where}: {len(arguments)} values were expected, found {len(value)}")
    return tuple(_typed(hint, item, f"{where}[{index}]") for index, (hint, item) in enumerate(zip(arguments, value)))
