"""Collages of drawings: the same from the same seed, drawings in view, bad files left out."""

import pytest
import pyvips

import edgekeeper.image  # noqa: F401 - which blocks the loader of SVG in the process
from edgekeeper.data.synthetic import collage, find_drawings
from edgekeeper.errors import InputError

SQUARE = """<svg xmlns="http://www.w3.org/2000/svg" width="20" height="20">
<rect width="20" height="20" fill="{}"/></svg>"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawings")
    for name, colour in (("a/red", "#f00"), ("a/blue", "#00f"), ("b/green", "#0f0")):
        path = folder / f"{name}.svg"
        path.parent.mkdir(exist_ok=True)
        path.write_text(SQUARE.format(colour))
    (folder / "b" / "broken.svg").write_text("<svg")
    return folder


def test_one_image_by_seed_and_number(folder):
    drawings = find_drawings(folder)
    first, again = (collage(drawings=drawings, size=96, seed=3, number=1) for _ in range(2))
    other = collage(drawings=drawings, size=96, seed=3, number=2)
    assert first.shape == (1, 3, 96, 96)
    assert first.min() >= 0 and first.max() <= 1
    assert first.equal(again) and not first.equal(other)


def test_drawings_are_seen(folder):
    image = collage(drawings=find_drawings(folder), size=128, seed=0, number=0)
    red, green, blue = image[0]
    shares = [
        (c > 0.99).logical_and(image[0].sum(0) < 1.01).float().mean() for c in (red, green, blue)
    ]
    assert all(share > 0.02 for share in shares), shares


def test_empty_folder_is_said(tmp_path):
    with pytest.raises(InputError, match="no SVG file"):
        find_drawings(tmp_path)


def test_svg_is_blocked_again_afterwards(folder):
    collage(drawings=find_drawings(folder), size=96, seed=3, number=1)
    with pytest.raises(pyvips.Error):
        pyvips.Image.svgload(str(folder / "a" / "red.svg"))
