"""What a person wants to know of a network file, in lines."""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgekeeper.files import sha256_of
from edgekeeper.pretrained.checkpoint import read_network
from edgekeeper.pretrained.zoo import DEFAULTS, WEIGHTS, Network, Style, is_own

LINES: dict[Style, str] = {
    "faithful": "least error",
    "sharp": "truer gradients (GV loss)",
    "texture": "most like a photo, invents detail",
    "restore": "for blurred, noisy, JPEG photos",
}
"""What each style is for."""

# Most parameters of each class; all layers work at LR size, so that time follows from them
SPEEDS = ((80_000, "fast"), (250_000, "medium"))
# What ``upscale --sharpness`` costs with each network (``benchmarks/sharpen.py --prices``)
PRICES, PRICED_ON = WEIGHTS / "sharpness.json", "mean of Set5 and Set14"


def style_of(name: str) -> Style:
    """Return the style of a network by its name."""
    marks: dict[str, Style] = {"texture": "texture", "_gv": "sharp", "restore": "restore"}
    return next((style for mark, style in marks.items() if mark in name), "faithful")


def speed_of(network: Network) -> str:
    """Return "fast", "medium" or "slow", or "" where the card has no number of parameters."""
    count = network.card.get("parameters")
    if not isinstance(count, int):
        return ""
    return next((word for most, word in SPEEDS if count <= most), "slow")


def line_of(network: Network) -> str:
    """Return in a few words what a network is for."""
    style = style_of(network.name)
    default = DEFAULTS[style].get(network.scale) == network.name
    return f"{'default: ' if default else ''}{LINES[style]}"


def quality_of(network: Network) -> dict[str, float]:
    """Return PSNR by set."""
    return {row["set"]: float(row["psnr"]) for row in _results(network.card)}


def prices_of(name: str) -> dict[float, list[float]]:
    """Return what each ``--sharpness`` changes PSNR by, in dB: the mean and its interval's ends."""
    table = json.loads(PRICES.read_text(encoding="utf-8")).get(name, {"change": {}})
    return {float(sharpness): row for sharpness, row in table["change"].items()}


def price_line(name: str, sharpness: float) -> str:
    """Return in a sentence what a sharpness costs with a network that ships."""
    rows = {0.0: [0.0], **prices_of(name)}
    change = np.interp(sharpness, list(rows), [row[0] for row in rows.values()])
    return f"Sharpness {sharpness:g} changes PSNR by {decibels(change)} ({name}, {PRICED_ON})."


def decibels(change: float) -> str:
    """Return a change with its sign and unit; of less than half a hundredth: ±0.00 dB."""
    text = f"{change:+.2f} dB"
    return text if float(text[:-3]) else "±0.00 dB"


def images_of(card: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return what a network was trained on: name, SHA-256 and licence of each image."""
    return card.get("images") or card.get("pictures") or []  # as earlier versions call it


def gather_images(card: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``card`` with the images of all networks that it came from said once, at its top."""
    found: dict[tuple[tuple[str, str], ...], dict[str, str]] = {}

    def without(value: Any) -> Any:
        if isinstance(value, list):
            return [without(part) for part in value]
        if not isinstance(value, Mapping):
            return value
        lists = [key for key in ("images", "pictures") if isinstance(value.get(key), list)]
        for image in (image for key in lists for image in value[key]):
            found.setdefault(tuple(sorted(image.items())), image)
        return {key: without(part) for key, part in value.items() if key not in lists}

    rest = without(card)
    return rest | ({"images": list(found.values())} if found else {})


def ancestor(path: Path) -> dict[str, object]:
    """Return what a card says of a network that had a part in another: name, SHA-256, own card."""
    card = {"card": read_network(path).card} if is_own(path) else {}
    return {"name": path.stem, "file": path.name, "sha256": sha256_of(path), **card}


def card_lines(network: Network) -> Iterator[str]:
    """Yield the card of a network for reading; everything that it says is in its JSON."""
    card, name = network.card, network.name
    size = network.path.stat().st_size / 1e6
    count = card.get("parameters")
    parameters = f"{count:,} parameters" if isinstance(count, int) else "parameters not counted"
    yield f"{name}: ×{network.scale}, {network.model}, {parameters}, {size:.2f} MB"
    yield f"  {line_of(network)}"
    rows = list(_results(card))
    if rows:
        yield f"Quality under protocol {rows[0].get('protocol')}, mean with 95 % interval"
    for row in rows:
        low, high = row.get("psnr_interval", (row["psnr"], row["psnr"]))
        more = [
            f"{title} {row[key]:.{digits}f}"
            for key, title, digits in (("ssim", "SSIM", 4), ("lpips", "LPIPS", 3))
            if key in row
        ]
        yield f"  {row['set']:8} {row['psnr']:.2f} dB [{low:.2f}, {high:.2f}]  {'  '.join(more)}"
    if prices := prices_of(name) if network.path.parent == WEIGHTS else {}:
        yield f"Change of PSNR by --sharpness, {PRICED_ON}"
    for sharpness, (change, low, high) in prices.items():
        yield f"  {sharpness:<8g} {decibels(change)} [{low:+.2f}, {high:+.2f}]"
    yield "Training"
    yield from training_lines(card)


def training_lines(card: Mapping[str, object]) -> Iterator[str]:
    """Yield what a card says of how and on what a network was trained."""
    recipe: Any = card.get("recipe")
    title = recipe.get("name") if isinstance(recipe, dict) else "unknown"
    minutes = float(str(card.get("seconds") or 0)) / 60
    blend: Any = card.get("blend")
    if isinstance(blend, dict):
        mean = f"{1 - blend['alpha']:.2g} {blend['a']['name']} + {blend['alpha']:.2g}"
        yield f"  a blend of weights: {mean} {blend['b']['name']}"
    else:
        yield f"  recipe {title}: {card.get('steps', '?')} updates, {minutes:.0f} minutes"
    if "unfinished" in card:
        yield f"  unfinished: {card['unfinished']}"
    if before := " <- ".join(_origins(card)):
        yield f"  begins from {before}"
    told: set[str] = set()
    for own, teacher in _teachers(card):
        which = f" (SHA-256 {str(teacher['sha256'])[:8]}…)" if "sha256" in teacher else ""
        by = f"by {teacher['name']}{which}: {teacher['share']:g} of its result in HR"
        if by not in told:
            yield f"  {'taught' if own else 'an ancestor was taught'} {by}"
        told.add(by)
    images = images_of(card)
    # A kind, which may have a comma in brackets, and who is to be named.
    licences = [re.split(r", (?![^(]*\))", image["licence"], maxsplit=1) for image in images]
    kinds = Counter(kind for kind, *_ in licences)
    yield f"  {len(images)} images: " + ", ".join(f"{n} {kind}" for kind, n in kinds.most_common())
    if credit := {name for kind, *names in licences for name in names if "public" not in kind}:
        yield f"  with thanks to {'; '.join(sorted(credit))}"
    code: Any = card.get("code") or {}
    yield "  " + ", ".join(f"{key} {value}" for key, value in code.items())


def _results(card: Mapping[str, object]) -> Iterator[dict[str, Any]]:
    results = card.get("results")
    yield from results if isinstance(results, list) else ()


def _teachers(card: Any, *, own: bool = True) -> Iterator[tuple[bool, dict[str, Any]]]:
    """Yield the teachers of a network and then of all that it came from, and whether its own."""
    if isinstance(card, dict):
        if isinstance(teacher := card.get("teacher"), dict):  # or several, each of some images
            for one in teacher.get("of", [teacher]):
                yield own, {"share": teacher["share"], **one}
        for key, part in card.items():
            if key != "teacher":
                yield from _teachers(part, own=False)


def _origins(card: Mapping[str, object]) -> Iterator[str]:
    """Yield the recipes that a network came through, the last one first."""
    origin: Any = card.get("origin")
    while isinstance(origin, dict) and "recipe" in origin:
        yield str(origin["recipe"])
        origin = (origin.get("card") or {}).get("origin")
