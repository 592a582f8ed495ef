"""How far the shipped networks look is what is measured."""

import pytest
from tests.reach import measure_reach

from edgekeeper.image import read_image, to_rgb_tensor
from edgekeeper.ops.color import rgb_to_y
from edgekeeper.pretrained.zoo import load

# LR pixels of context that a tile is given, and to which the network looks.
REACH = {"espcn": (4, 4), "edsr_light": (23, 11)}
TABLE = [
    (f"{name}_x{scale}{loss}", *numbers)
    for name, numbers in REACH.items()
    for scale in (2, 3, 4)
    for loss in ("", "_gv")
]


def test_networks_are_given_the_context_of_the_table():
    assert all(load(name).overlap == overlap for name, overlap, _ in TABLE)


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize(("name", "overlap", "seen"), TABLE)
def test_the_table_is_what_is_measured(name, overlap, seen, data_root):
    model, found = load(name), 0
    for number in (1, 2, 3, 4):
        folder = data_root / "benchmarks" / "Set14" / "image_SRF_2"
        lr = to_rgb_tensor(read_image(folder / f"img_{number:03d}_SRF_2_HR.png"))
        row, column = lr.shape[-2] // 2, lr.shape[-1] // 2
        lr = lr[..., row - 40 : row + 40, column - 40 : column + 40]
        if model.channels == "y":
            lr = rgb_to_y(lr)
        found = max(found, measure_reach(model, lr, scale=model.scale).radius)
    assert found == seen <= overlap
