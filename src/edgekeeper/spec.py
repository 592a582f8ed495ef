"""A class and its arguments, not yet built: typed, comparable, writable as JSON."""

import dataclasses
import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from types import UnionType
from typing import (
    Annotated,
    Any,
    Generic,
    Literal,
    ParamSpec,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from edgekeeper.errors import InputError, did_you_mean, unknown_name

P = ParamSpec("P")
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True)
class Spec(Generic[T_co]):
    """What to build, and with which keyword arguments, sorted so that equal specs are equal."""

    target: Callable[..., T_co]
    arguments: tuple[tuple[str, object], ...]

    def build(self) -> T_co:
        """Return a new object: ``target`` called with the arguments."""
        return self.target(**dict(self.arguments))

    @property
    def name(self) -> str:
        """The name of the class or function."""
        return self.target.__name__

    def to_json(self) -> dict[str, object]:
        """The spec as plain values, with the specs among its arguments; ``from_json`` reads it.

        Raises InputError: an argument is a dictionary that would be read back as a spec.
        """
        arguments = {name: to_plain(value) for name, value in self.arguments}
        return {"name": self.name, "arguments": arguments}


@dataclass(frozen=True)
class Allowed:
    """What a field may hold, in words and as a test, as ``Annotated[int, Allowed(...)]``."""

    words: str
    holds: Callable[[Any], object]


class Checked:
    """Base of dataclasses whose fields' types and ``Allowed`` are checked. Raises InputError."""

    def __post_init__(self) -> None:
        for name, hint in _hints(type(self)).items():  # type: ignore[arg-type]
            value, label = getattr(self, name), f"{type(self).__name__}.{name}"
            if get_origin(hint) is Literal and value not in get_args(hint):
                raise unknown_name(label, str(value), known=map(str, get_args(hint)))
            if not _fits(value, hint):
                kind = getattr(hint, "__origin__", hint) if get_origin(hint) is Annotated else hint
                words = kind.__name__ if isinstance(kind, type) else str(kind)
                raise InputError(f"{label} is {value!r}; its type must be {words}.")
            for allowed in getattr(hint, "__metadata__", ()):
                if not allowed.holds(value):
                    raise InputError(f"{label} is {value}; give {allowed.words}.")


def _fits(value: object, hint: Any) -> bool:
    """Return whether ``value`` is of the type ``hint``; whole numbers are floats too."""
    origin, arguments = get_origin(hint) or hint, get_args(hint)
    if origin is Annotated:
        return _fits(value, arguments[0])
    if origin in (Union, UnionType):
        return any(_fits(value, one) for one in arguments)
    if origin in (int, float):
        return isinstance(value, (int, origin)) and not isinstance(value, bool)
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        kinds = arguments[:1] * len(value) if arguments[-1] is Ellipsis else arguments
        return len(value) == len(kinds) and all(map(_fits, value, kinds))
    return not isinstance(origin, type) or isinstance(value, origin)


AtLeastOne = Annotated[int, Allowed("1 or more", lambda value: value >= 1)]
AtLeastZero = Annotated[int, Allowed("0 or more", lambda value: value >= 0)]
Finite = Annotated[float, Allowed("a finite number", math.isfinite)]


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)


def spec(target: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Spec[T]:
    """A Spec of ``target`` with the given keyword arguments, checked against its signature now.

    Raises InputError: an argument that ``target`` does not have, or one without a keyword.
    """
    if args:
        raise InputError(f"Give the arguments of {target.__name__} by keyword, not by position.")
    _check_arguments(target, kwargs)
    return Spec(target, tuple(sorted(kwargs.items())))


def from_json(
    data: Mapping[str, object],
    *,
    known: Mapping[str, Callable[..., T]],
    unknown: Callable[[str], Callable[..., T]] | None = None,
) -> Spec[T]:
    """Return the Spec that ``to_json`` wrote, with its class looked up in ``known`` by name.

    So are the classes of specs among the arguments. Lists come back as tuples. ``unknown`` is
    asked for a class that is not among ``known``.
    Raises InputError: an unknown class or argument; and what ``unknown`` raises.
    """
    name, arguments = data.get("name"), data.get("arguments")
    if not isinstance(name, str) or not isinstance(arguments, dict):
        raise InputError(f"Expected an object with 'name' and 'arguments', got {dict(data)!r}.")
    if name in known:
        target = known[name]
    elif unknown is not None:
        target = unknown(name)
    else:
        raise unknown_name("class", name, known=known)
    _check_arguments(target, arguments)
    built = {k: _from_plain(v, known=known, unknown=unknown) for k, v in arguments.items()}
    return Spec(target, tuple(sorted(built.items())))


def to_plain(value: object) -> object:
    """Return a value as JSON: specs, dataclasses as objects, tuples as lists. Raises InputError."""
    if isinstance(value, Spec):
        return value.to_json()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, tuple | list):
        return [to_plain(item) for item in value]
    if isinstance(value, dict):
        if _is_spec(value):
            raise InputError(f"The argument {value!r} would be read as a class; name it otherwise.")
        return {key: to_plain(item) for key, item in value.items()}
    return value


def _from_plain(
    value: object,
    *,
    known: Mapping[str, Callable[..., object]],
    unknown: Callable[[str], Callable[..., object]] | None,
) -> object:
    if isinstance(value, list):
        return tuple(_from_plain(item, known=known, unknown=unknown) for item in value)
    if isinstance(value, dict):
        if _is_spec(value):
            return from_json(value, known=known, unknown=unknown)
        return {k: _from_plain(v, known=known, unknown=unknown) for k, v in value.items()}
    return value


def _is_spec(value: Mapping[str, object]) -> bool:
    return (
        value.keys() == {"name", "arguments"}
        and isinstance(value["name"], str)
        and isinstance(value["arguments"], dict)
    )


def _check_arguments(target: Callable[..., object], arguments: Mapping[str, object]) -> None:
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    parameters = {  # nn.Module's own *args and **kwargs would swallow a typo
        name: parameter
        for name, parameter in inspect.signature(target).parameters.items()
        if parameter.kind in named
    }
    for argument in arguments:
        if argument not in parameters:
            hint = did_you_mean(argument, parameters)
            allowed = ", ".join(parameters) or "none"
            raise InputError(
                f"{target.__name__} has no argument '{argument}'.{hint} It takes: {allowed}."
            )
    required = [
        name
        for name, parameter in parameters.items()
        if parameter.default is parameter.empty and name not in arguments
    ]
    if required:
        raise InputError(f"{target.__name__} needs the argument '{required[0]}'.")
