"""``data degrade``: examples of what training and measuring do to images."""

import numpy as np

from edgekeeper.image import Image, read_image, write_image


def test_examples_are_written_and_said(command, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (70, 98, 3), dtype=np.uint8)
    write_image(Image(pixels=pixels), tmp_path / "a.png")
    asked = ("data", "degrade", tmp_path / "a.png", "--count", "2")
    ran = command(*asked, "-o", tmp_path / "out", "--mixture", "twice")
    assert ran.status == 0 and len(ran.out.splitlines()) == 3
    assert "; then " in ran.out and "JPEG" in ran.out
    original = read_image(tmp_path / "out" / "a_original.png").pixels
    np.testing.assert_array_equal(original, pixels[1:69, 1:97])  # the middle, multiples of 4
    made = [read_image(tmp_path / "out" / f"a_twice_{n}.png").pixels for n in (0, 1)]
    assert {one.shape for one in made} == {(17, 24, 3)}
    assert not np.array_equal(*made)
    again = command(*asked, "-o", tmp_path / "again", "--mixture", "twice")
    assert again.out.replace("again", "out") == ran.out
    for n, one in enumerate(made):
        np.testing.assert_array_equal(
            read_image(tmp_path / "again" / f"a_twice_{n}.png").pixels, one
        )
    assert command(*asked, "-o", tmp_path / "out").status == 2  # what exists stays
    known = command(*asked, "-o", tmp_path / "out", "--mixture", "known", "--force")
    assert "a_strong.png  blur 2, noise 10, JPEG 40" in known.out
