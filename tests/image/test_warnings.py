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


THREADS = """
import logging, os, sys, threading
import numpy as np
from edgekeeper.image import Image, read_image, write_image
logging.getLogger().setLevel(logging.DEBUG)
for _ in range(2):
    logging.getLogger().addHandler(logging.StreamHandler(open(os.devnull, "w")))
sys.setswitchinterval(1e-5)
image = Image(pixels=np.zeros((32, 32, 3), np.uint8))
def work(number):
    for _ in range(60):
        write_image(image, f"{number}.png", overwrite="replace")
        read_image(f"{number}.png")
threads = [threading.Thread(target=work, args=(n,), daemon=True) for n in range(4)]
[thread.start() for thread in threads]
[thread.join(60) for thread in threads]
print(sum(thread.is_alive() for thread in threads), flush=True)
os._exit(0)
"""


def test_threads_that_log_everything_twice_do_not_wait_for_each_other(tmp_path):
    ran = subprocess.run(
        [sys.executable, "-c", THREADS], cwd=tmp_path, capture_output=True, text=True, timeout=280
    )
    assert ran.stdout == "0\n", ran.stderr
