"""What libvips warns of: neither printed nor logged, so that no log is written within a log."""

import subprocess
import sys

import numpy as np

from edgekeeper.image import Image, write_image


def test_a_damaged_file_makes_no_noise_and_no_log(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype="uint8")
    whole = tmp_path / "whole.jpg"
    write_image(Image(pixels=noise), whole)
    (tmp_path / "cut.jpg").write_bytes(whole.read_bytes()[:-40])
    code = (
        "import logging, sys; logging.basicConfig(level='DEBUG')\n"
        "import edgekeeper, pyvips\n"
        "edgekeeper.read_image\n"
        "assert pyvips._log_handler_id is None\n"
        "logging.getLogger('pyvips').setLevel('WARNING')\n"
        "pyvips.Image.new_from_file(sys.argv[1], fail_on='none').avg()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "cut.jpg"],
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert (done.returncode, done.stderr.count("VIPS")) == (0, 0)
