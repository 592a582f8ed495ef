"""The errors a user can meet: one base class, each message a sentence.

A message says what was given, what is allowed and what to do. The command line prints
that one line and exits with status 2.
"""

from collections.abc import Iterable
from difflib import get_close_matches
from importlib import import_module
from typing import Any


class EdgekeeperError(Exception):
    """Base of all errors that edgekeeper raises on purpose."""


class InputError(EdgekeeperError, ValueError):
    """An argument has a value that is not allowed."""


class ImageError(EdgekeeperError):
    """An image file cannot be read or written."""


class DataError(EdgekeeperError):
    """An image set or a packed store is missing, incomplete or wrongly made."""


class CheckpointError(EdgekeeperError):
    """A file of weights or training state is missing, damaged or does not fit."""


class TrainingError(EdgekeeperError):
    """A training run cannot go on, for example because a loss is not finite."""


class NotFiniteError(TrainingError):
    """A loss or a weight of a training run became infinite or NaN."""


class UnavailableError(EdgekeeperError):
    """Something optional is needed and not installed or not downloaded."""


def import_extra(package: str, *, extra: str, what: str) -> Any:
    """Return an optional package; UnavailableError that says how to install it for ``what``."""
    try:
        return import_module(package)
    except ImportError as error:
        raise UnavailableError(
            f"{what} needs {package}, which is not installed; "
            f"run: pip install 'edgekeeper[{extra}]'"
        ) from error


def nearest_name(name: str, known: Iterable[str]) -> str | None:
    """Return the known name most like ``name``, or None when nothing comes close."""
    by_lower = {candidate.lower(): candidate for candidate in known}
    matches = get_close_matches(name.lower(), by_lower, n=1, cutoff=0.5)
    return by_lower[matches[0]] if matches else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return " Did you mean '...'?" with the nearest name, or nothing."""
    nearest = nearest_name(name, known)
    return f" Did you mean '{nearest}'?" if nearest else ""


def unknown_name(kind: str, name: str, *, known: Iterable[str]) -> InputError:
    """Return an error that names the unknown ``name``, the nearest known one and all known ones."""
    names = list(known)
    hint = did_you_mean(name, names)
    return InputError(f"There is no {kind} '{name}'.{hint} Known: {', '.join(names)}.")


def check_choice(kind: str, choice: object, *, known: Iterable[object]) -> None:
    """Raise InputError, with the nearest name, unless ``choice`` is one of ``known``."""
    names = list(known)
    if choice not in names:
        raise unknown_name(kind, str(choice), known=map(str, names))
