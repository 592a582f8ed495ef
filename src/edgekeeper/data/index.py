"""What a packed store holds: the typed form of its ``index.json``."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgekeeper.data.patches import Region
from edgekeeper.errors import DataError
from edgekeeper.files import write_text

FORMAT = "edgekeeper packed store"
VERSION = 1
PIXELS, INDEX = "pixels.bin", "index.json"


@dataclass(frozen=True)
class Entry:
    """One HR image of a store with its LR images and where it came from.

    ``lr`` maps the scale to the LR image; ``shrink`` is the factor by which the source was
    shrunk before it became this HR image (1: not at all; no whole number where the long side
    was asked for).
    """

    name: str
    source: str
    source_sha256: str
    licence: str
    shrink: float
    hr: Region
    lr: dict[int, Region]


@dataclass(frozen=True)
class Index:
    """The whole index: how LR was made, the digest of the pixels and all images."""

    scales: tuple[int, ...]
    lr_kernel: str
    pixels_bytes: int
    pixels_sha256: str
    images: tuple[Entry, ...]


def write_index(index: Index, path: Path) -> None:
    """Write ``index`` as JSON, one image per line group, to the new file ``path``."""
    content = {"format": FORMAT, "version": VERSION, **asdict(index)}
    write_text(path, json.dumps(content, indent=1) + "\n", error=DataError)


def read_index(path: Path) -> Index:
    """The index in the file ``path``, checked; raises DataError when it is not a sound one."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(
            f"'{path.parent}' is not a packed store: it has no {path.name}. "
            "Prepare one with prepare_store."
        ) from None
    except (OSError, ValueError) as error:
        raise DataError(
            f"The index '{path}' cannot be read ({error}). Prepare the store anew."
        ) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise DataError(f"'{path}' is not the index of a packed store.")
    if content.get("version") != VERSION:
        raise DataError(
            f"'{path}' has version {content.get('version')} of the store format; this program "
            f"reads version {VERSION}. Prepare the store anew."
        )
    try:
        index = index_from(content)
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"The index '{path}' is damaged ({type(error).__name__}: {error}). "
            "Prepare the store anew."
        ) from error
    check_index(index, path)
    return index


def index_from(content: dict[str, Any]) -> Index:
    """The typed index of parsed JSON; KeyError, TypeError or ValueError when a part is wrong."""
    images = []
    stored = content["images" if "images" in content else "pictures"]  # as earlier versions call it
    for item in stored:
        lr = {int(scale): Region(**region) for scale, region in item["lr"].items()}
        images.append(Entry(**{**item, "hr": Region(**item["hr"]), "lr": lr}))
    return Index(
        scales=tuple(int(scale) for scale in content["scales"]),
        lr_kernel=str(content["lr_kernel"]),
        pixels_bytes=int(content["pixels_bytes"]),
        pixels_sha256=str(content["pixels_sha256"]),
        images=tuple(images),
    )


def check_index(index: Index, path: Path) -> None:
    """Raise DataError when the regions of ``index`` cannot be right."""
    end = 0
    for entry in index.images:
        if set(entry.lr) != set(index.scales):
            raise DataError(f"'{path}': '{entry.name}' lacks LR images. Prepare the store anew.")
        for scale, region in [(1, entry.hr), *sorted(entry.lr.items())]:
            fits = (entry.hr.height, entry.hr.width) == (
                scale * region.height,
                scale * region.width,
            )
            if not fits or region.offset != end or region.nbytes <= 0:
                raise DataError(
                    f"'{path}': the place or size of '{entry.name}' at scale {scale} is wrong. "
                    "Prepare the store anew."
                )
            end += region.nbytes
    if end != index.pixels_bytes or not index.images:
        raise DataError(
            f"'{path}' describes {end} of {index.pixels_bytes} bytes. Prepare the store anew."
        )
