"""The image sets of the field: where they come from, under what licence, what they may be for.

Sizes and SHA-256 of single files lie in ``digests.txt`` (lines of: set, path, bytes, SHA-256),
which ``fetch`` reads. Where an address is given without a digest, none is published and none is
checked. The facts stand in ``sets.toml``.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from edgekeeper.errors import unknown_name
from edgekeeper.files import read_facts


@dataclass(frozen=True)
class Remote:
    """One file of a set; what is None is not known, and not checked."""

    path: str  # in the set's folder
    address: str
    size: int | None = None  # bytes
    sha256: str | None = None
    unpack: Literal["no", "zip"] = "no"  # whose images go into the set's folder


@dataclass(frozen=True)
class ImageSet:
    """A set of images and the facts about it."""

    name: str
    title: str
    kind: Literal["test", "train"]
    count: int
    origin: str
    folder: str  # where it lies below the data root
    licence: str = "none stated; research use only"
    may_ship: bool = False  # whether networks trained on it may be published with the project
    # Beginning of the path, address before the rest, for the files of digests.txt.
    bases: tuple[tuple[str, str], ...] = ()
    archives: tuple[Remote, ...] = ()
    how: str = ""  # what to do when it cannot be fetched
    names: tuple[str, ...] = ()  # the images' usual ones, in order
    hr_scale: int | None = None  # whose HR images serve for all scales; None: each has its own
    caution: str = ""


def _read() -> Iterator[ImageSet]:
    for name, facts in read_facts("edgekeeper.data", "sets.toml").items():
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
