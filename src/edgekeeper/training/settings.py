"""Recipes as plain values: single fields set by name, and TOML files with the same fields.

A field is named by its way through the recipe, ``stages.0.optim.learning_rate``; a stage, term or
discriminator by number or by name (``stages.adversarial.terms.gradient.weight``); an argument of a
network or a loss by its own name (``model.width``).
"""

import json
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, fields, is_dataclass
from functools import partial
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from edgekeeper import losses, models
from edgekeeper.errors import InputError, check_choice, unknown_name
from edgekeeper.files import read_text, reason
from edgekeeper.models import MODELS
from edgekeeper.models.own import load_entry_point
from edgekeeper.pretrained.auto_encoded import auto_encoded, auto_encoder
from edgekeeper.spec import Spec, from_json, to_plain
from edgekeeper.training.recipe import Recipe

Classes = dict[str, Callable[..., Any]]
_ALSO = {"optimizer": "optim"}  # what a field is called too
_NUMBERS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}


def with_settings(recipe: Recipe, settings: Iterable[str]) -> Recipe:
    """Return ``recipe`` with each of ``settings``, ``"data.batch=8"``, in turn.

    Values are as in TOML; a text needs no quotes, ``none`` is nothing. Raises InputError.
    """
    for setting in settings:
        path, equals, text = setting.partition("=")  # the value may hold an =
        if not equals:
            raise InputError(f"--set is '{setting}'; give a field and its value: data.batch=8.")
        # plain, changed, typed again: so the same checks hold as for a recipe in Python
        plain: Any = to_plain(recipe)
        _put(plain, path.strip().split("."), value=_value(text.strip()), where="recipe")
        recipe = _typed(plain, Recipe, where="recipe", known=known_classes() | _classes(recipe))
    return recipe


def recipe_from_plain(data: Mapping[str, object]) -> Recipe:
    """Return the recipe that ``spec.to_plain`` made plain; fields with defaults may be missing."""
    return _typed(data, Recipe, where="recipe", known=known_classes())


def read_toml(path: Path) -> Recipe:
    """Return the recipe of a TOML file; it runs no code. InputError says what is wrong where."""
    try:
        data = tomllib.loads(read_text(path))
    except OSError as error:
        raise InputError(f"The recipe file '{path}' cannot be read: {reason(error)}.") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"The recipe file '{path}' is not TOML: {error}.") from error
    return recipe_from_plain({"name": path.stem, **data})


def to_toml(recipe: Recipe) -> str:
    """Return ``recipe`` as TOML with all its fields, which ``read_toml`` reads again."""
    plain: Any = to_plain(recipe)
    stages = plain.pop("stages")  # last, as tables of their own: readable
    lines = _table(plain)
    for stage in stages:
        lines += ["", "[[stages]]", *_table(stage)]
    return "\n".join(lines) + "\n"


def known_classes() -> Classes:
    """Return the networks, discriminators and losses that a recipe may name, by name."""
    found = {
        name: value
        for package in (losses, models)
        for name, value in vars(package).items()
        if name[0].isupper() and callable(value)  # classes, by the way they are spelled
    }
    found |= {made.__name__: made for made in (auto_encoded, auto_encoder)}
    return found | {model.__name__: model for model in MODELS.values()}


def _classes(value: object) -> Classes:
    """Return the classes that a recipe itself names, which may be of its own file."""
    if isinstance(value, Spec):
        found = [item for _, item in value.arguments]
        return {value.name: value.target} | _classes(tuple(found))
    if is_dataclass(value) and not isinstance(value, type):
        return _classes(tuple(getattr(value, field.name) for field in fields(value)))
    if isinstance(value, tuple):
        return {name: kind for item in value for name, kind in _classes(item).items()}
    return {}


def _value(text: str) -> object:
    """Return a value as TOML has it, or else the text itself."""
    if text.lower() in ("none", "null"):
        return None
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text  # a word needs no quotes on the command line


def _put(plain: Any, path: list[str], *, value: object, where: str) -> None:
    part, *rest = path
    if isinstance(plain, list):
        names = [item.get("name") if isinstance(item, dict) else None for item in plain]
        known = [*map(str, range(len(plain))), *filter(None, names)]
        check_choice(f"part of {where}", part, known=known)
        key: Any = int(part) if part.isdecimal() else names.index(part)
    elif isinstance(plain, dict):
        key = part if part in plain else _ALSO.get(part, part)
        if plain.keys() == {"name", "arguments"} and part not in plain:
            plain = plain["arguments"]  # of a class; it says itself which it has
            plain.setdefault(key, None)
        elif key not in plain:
            raise unknown_name(f"field of {where}", part, known=plain)
    else:
        raise InputError(f"{where} is {plain!r} and has no part '{part}'.")
    if rest:
        plain[key] = {} if plain[key] is None else plain[key]
        if plain[key] == {}:
            plain[key] = dict.fromkeys(["recipe", "fresh", "into"]) if key == "start" else {}
        _put(plain[key], rest, value=value, where=f"{where}.{part}")
    else:
        plain[key] = value


def _own_class(name: str, *, known: Classes) -> Callable[..., Any]:
    """Return a class of an imported file or of an installed package."""
    try:
        return load_entry_point(name)
    except InputError:
        told = unknown_name("class", name, known=known)
        raise InputError(f"{told} A class of your own: name its file, --import FILE.") from None


def _typed(value: Any, hint: Any, *, where: str, known: Classes) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _typed(value, arguments[0], where=where, known=known)
    if origin in (Union, UnionType):  # X | None
        inner = next(kind for kind in arguments if kind is not NoneType)
        return None if value is None else _typed(value, inner, where=where, known=known)
    if origin is Spec:
        description = {"name": value, "arguments": {}} if isinstance(value, str) else value
        if not isinstance(description, dict):
            raise InputError(f"{where} is {value!r}; give a class: {{ name = ..., arguments = }}.")
        unknown = partial(_own_class, known=known)
        return from_json({"arguments": {}, **description}, known=known, unknown=unknown)
    if origin is tuple:
        items = value if isinstance(value, list) else [value]
        kinds = arguments[:1] * len(items) if arguments[-1] is ... else arguments
        if len(kinds) != len(items):
            raise InputError(f"{where} is {value!r}; give {len(kinds)} values.")
        return tuple(
            _typed(item, kind, where=f"{where}.{number}", known=known)
            for number, (item, kind) in enumerate(zip(items, kinds, strict=True))
        )
    if is_dataclass(hint):
        return _dataclass(value, hint, where=where, known=known)
    return _scalar(value, hint, where=where)


def _dataclass(value: Any, kind: Any, *, where: str, known: Classes) -> Any:
    if not isinstance(value, dict):
        raise InputError(f"{where} is {value!r}; give the fields of {kind.__name__}.")
    own = {field.name: field for field in fields(kind) if field.init}
    given = {str(_ALSO.get(str(name), name)): item for name, item in value.items()}
    for name in given:
        check_choice(f"field of {where}", name, known=own)
    for name, field in own.items():
        if name not in given and field.default is MISSING and field.default_factory is MISSING:
            raise InputError(f"{where} needs the field '{name}'.")
    hints = get_type_hints(kind, include_extras=True)
    typed = {
        name: _typed(item, hints[name], where=f"{where}.{name}", known=known)
        for name, item in given.items()
        if item is not None or NoneType in get_args(hints[name])
    }
    return kind(**typed)


def _scalar(value: Any, kind: Any, *, where: str) -> Any:
    if kind is float and type(value) is int:
        return float(value)  # learning_rate = 1
    if kind is int and type(value) is float and value.is_integer():
        return int(value)  # 1e5 updates
    if kind in _NUMBERS and type(value) is not kind:
        raise InputError(f"{where} is {value!r}; give {_NUMBERS[kind]}.")
    return value  # one of several names checks itself


def _table(plain: Mapping[str, object]) -> list[str]:
    lines = []
    for name, value in plain.items():
        if isinstance(value, list) and value and isinstance(value[0], dict):
            lines += [f"{name} = [", *(f"  {_inline(item)}," for item in value), "]"]
        elif value is not None:  # TOML has no null
            lines.append(f"{name} = {_inline(value)}")
    return lines


def _inline(value: Any) -> str:
    if isinstance(value, dict):
        pairs = [f"{_key(k)} = {_inline(v)}" for k, v in value.items() if v is not None]
        return f"{{ {', '.join(pairs)} }}" if pairs else "{}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_inline, value))}]"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    return str(value).lower() if isinstance(value, bool) else repr(value)


def _key(name: str) -> str:
    return name if re.fullmatch(r"[\w-]+", name, re.ASCII) else json.dumps(name)
