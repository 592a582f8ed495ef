"""The image sets of the field: where they come from, under what licence, what they may be for.

Sizes and SHA-256 of single files lie in ``digests.txt`` (lines of: set, path, bytes, SHA-256),
which ``fetch`` reads. Where an address is given without a digest, none is published and none is
checked. The facts stand in ``sets.toml``.
"""

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from typing import Literal

from edgekeeper.errors import unknown_name


@dataclass(frozen=True)
class Remote:
    """One file of a set: its path in the set's folder, its address, and what it must be.

    ``size`` (bytes) and ``sha256`` are None when unknown. ``unpack``: a zip whose images go
    into the set's folder.
    """

    path: str
    address: str
    size: int | None = None
    sha256: str | None = None
    unpack: Literal["no", "zip"] = "no"


@dataclass(frozen=True)
class ImageSet:
    """A set of images and the facts about it.

    ``folder`` is where it lies below the data root. ``licence`` is what its source states.
    ``may_ship``: whether networks trained on it may be published with the project.
    ``bases``: (beginning of the path, address before the rest) for the files of ``digests.txt``.
    ``how``: what to do when it cannot be fetched. ``names``: the images' usual names, in order.
    ``hr_scale``: the scale whose HR images serve for all scales (None: each scale its own).
    ``caution``: what to know before using it.
    """

    name: str
    title: str
    kind: Literal["test", "train"]
    count: int
    origin: str
    folder: str
    licence: str = "none stated; research use only"
    may_ship: bool = False
    bases: tuple[tuple[str, str], ...] = ()
    archives: tuple[Remote, ...] = ()
    how: str = ""
    names: tuple[str, ...] = ()
    hr_scale: int | None = None
    caution: str = ""


def _read() -> Iterator[ImageSet]:
    text = files("edgekeeper.data").joinpath("sets.toml").read_text(encoding="utf-8")
    for name, facts in tomllib.loads(text).items():
        remote = facts.pop("remote", None)
        if remote is not None:
            many = range(1, facts["count"] + 1) if "{n" in remote["path"] else range(1)
            place = (remote.pop("path"), remote.pop("address"))
            facts["archives"] = tuple(
                Remote(*(text.format(n=n) for text in place), **remote) for n in many
            )
        bases = tuple(map(tuple, facts.pop("bases", ())))
        yield ImageSet(name, bases=bases, names=tuple(facts.pop("names", ())), **facts)


SETS: tuple[ImageSet, ...] = tuple(_read())


def names() -> tuple[str, ...]:
    """Return the names of all sets."""
    return tuple(entry.name for entry in SETS)


def find_set(name: str) -> ImageSet:
    """The set called ``name`` (upper or lower case); InputError with the nearest known name."""
    for entry in SETS:
        if entry.name == name.lower():
            return entry
    raise unknown_name("image set", name, known=names())
