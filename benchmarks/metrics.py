"""PSNR, SSIM and NIQE against others, in one run: the same value, and how many times as fast.

    OMP_NUM_THREADS=1 python benchmarks/metrics.py [--image photo.jpg] [--rounds 3] [--json FILE]

PSNR and SSIM: ten pairs of luma of 481 x 321 pixels, the size of BSD100; scikit-image one by one,
and torchmetrics and piq as batches where they are installed, all in float64. Their definition is
computed by itself, window by window in full, and ours must be it to 1e-9. The others may count
windows at the border: their value is printed, not compared, but for scikit-image's.

NIQE: the plain form follows the method step by step, as the known implementations in Python do: a
two-dimensional 7 x 7 window over the whole image, then block after block and product after
product, and for every fit the table of all 9,801 shapes anew. Both forms are in float64 and take
turns; CPU seconds of one thread, the median of the rounds. The image is cut or tiled to
2040 x 1356, the size of DIV2K.
"""

import argparse
import importlib.util
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import convolve
from scipy.special import gamma
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torch import Tensor

from edgekeeper.image import read_image, to_rgb_tensor
from edgekeeper.metrics import niqe
from edgekeeper.metrics.matfile import read_mat
from edgekeeper.metrics.niqe import NIQE_BLOCK, NIQE_FILE, shaved_luma
from edgekeeper.metrics.psnr import mean_square_psnr
from edgekeeper.models.backbones import weights_file
from edgekeeper.ops.resize import imresize
from edgekeeper.ops.structure import gaussian_window, ssim_map

WIDTH, HEIGHT = 2040, 1356
BAR = 3.0  # times the speed of the plain form that we hold to
SAME, SAME_PIXELS = 1e-6, 1e-9
TORCHMETRICS = ("peak_signal_noise_ratio", "structural_similarity_index_measure")
IMAGE = Path(__file__).parents[1] / "examples" / "test" / "canyon-wren.png"

Floats = NDArray[np.float64]


def window() -> Floats:
    """The Gaussian of sigma 7/6 on 7 x 7 pixels."""
    y, x = np.mgrid[-3:4, -3:4]
    values: Floats = np.exp(-(x * x + y * y) / (2 * (7 / 6) ** 2))
    values /= values.sum()
    return values


def plain_fit(values: Floats) -> tuple[float, float, float]:
    """Shape, left and right spread of an asymmetric Gaussian, from a table made anew."""
    shapes = np.arange(200, 10001) / 1000
    table = gamma(2 / shapes) ** 2 / (gamma(1 / shapes) * gamma(3 / shapes))
    values = values.ravel()
    if not (values < 0).any() or not (values > 0).any():  # a flat block, left out later
        return 0.2, np.nan, np.nan
    left = np.sqrt(np.mean(values[values < 0] ** 2))
    right = np.sqrt(np.mean(values[values > 0] ** 2))
    skew = left / right
    ratio = np.mean(np.abs(values)) ** 2 / np.mean(values**2)
    wanted = ratio * (skew**3 + 1) * (skew + 1) / (skew**2 + 1) ** 2
    shape = shapes[np.argmin((table - wanted) ** 2)]
    spread = np.sqrt(gamma(1 / shape) / gamma(3 / shape))
    return shape, left * spread, right * spread


def plain_features(block: Floats) -> list[float]:
    """The 18 features of one block."""
    shape, left, right = plain_fit(block)
    found = [shape, (left + right) / 2]
    for shift in ((0, 1), (1, 0), (1, 1), (1, -1)):
        shape, left, right = plain_fit(block * np.roll(block, shift, axis=(0, 1)))
        mean = (right - left) * gamma(2 / shape) / gamma(1 / shape)
        found += [shape, mean, left, right]
    return found


def plain_niqe(x: Tensor, *, mean: Floats, covariance: Floats) -> float:
    """NIQE of one image, step by step."""
    luma = shaved_luma(x, shave=4)[0].numpy()
    rows, columns = luma.shape[0] // NIQE_BLOCK, luma.shape[1] // NIQE_BLOCK
    luma = luma[: rows * NIQE_BLOCK, : columns * NIQE_BLOCK]
    blur = window()
    scales = []
    for side in (NIQE_BLOCK, NIQE_BLOCK // 2):
        average = convolve(luma, blur, mode="nearest")
        deviation = np.sqrt(np.abs(convolve(luma**2, blur, mode="nearest") - average**2))
        centred = luma - average
        centred[np.abs(centred) < 1e-9] = 0.0
        normalised = centred / (deviation + 1)
        scales.append(
            [
                plain_features(normalised[r * side : (r + 1) * side, c * side : (c + 1) * side])
                for r in range(rows)
                for c in range(columns)
            ]
        )
        luma = imresize(torch.from_numpy(luma)[None], scale=0.5)[0].numpy()
    features = np.concatenate([np.array(scale) for scale in scales], axis=1)
    complete = features[~np.isnan(features).any(axis=1)]
    difference = mean - np.nanmean(features, axis=0)
    together = (covariance + np.cov(complete, rowvar=False)) / 2
    return float(np.sqrt(difference @ np.linalg.pinv(together) @ difference))


def image(path: Path) -> Tensor:
    """The image (1, 3, 1356, 2040), cut from the top left, repeated where it is too small."""
    found = to_rgb_tensor(read_image(path))
    across, down = -(-WIDTH // found.shape[-1]), -(-HEIGHT // found.shape[-2])
    return found.repeat(1, 1, down, across)[..., :HEIGHT, :WIDTH].contiguous()


def seconds(forms: dict[str, Callable[[], float]], *, rounds: int) -> dict[str, float]:
    """The median CPU time of each form, after one round to warm up; they take turns."""
    times: dict[str, list[float]] = {name: [] for name in forms}
    for turn in range(rounds + 1):
        for name, form in forms.items():
            start = time.process_time()
            form()
            if turn:
                times[name].append(time.process_time() - start)
    return {name: statistics.median(values) for name, values in times.items()}


def plain_ssim(x: Floats, y: Floats) -> float:
    """SSIM by its definition: every window of 11 x 11 weighted as a whole."""
    window = gaussian_window().numpy()
    weights = np.outer(window, window)
    x_windows, y_windows = (np.lib.stride_tricks.sliding_window_view(i, (11, 11)) for i in (x, y))

    def mean(values: Floats) -> Floats:
        found: Floats = np.einsum("ijkl,kl->ij", values, weights)
        return found

    mx, my = mean(x_windows), mean(y_windows)
    dx, dy = x_windows - mx[..., None, None], y_windows - my[..., None, None]
    covariance, c1, c2 = mean(dx * dy), 0.01**2, 0.03**2
    upper = (2 * mx * my + c1) * (2 * covariance + c2)
    lower = (mx**2 + my**2 + c1) * (mean(dx * dx) + mean(dy * dy) + c2)
    return float((upper / lower).mean())


def pixel_forms(x: Tensor) -> tuple[Tensor, Tensor, dict[str, Callable[[], float]]]:
    """Ten pairs (10, 1, 321, 481), and PSNR with SSIM of them by each library that is installed."""
    places = [(17 * k, 40 * k) for k in range(10)]
    hr = torch.cat([x[:, 1:2, t : t + 321, s : s + 481] for t, s in places]).double()
    noise = torch.randn(hr.shape, generator=torch.Generator().manual_seed(0), dtype=hr.dtype)
    sr = (hr + 0.05 * noise).clamp(0, 1)
    pairs = list(zip(sr[:, 0].numpy(), hr[:, 0].numpy(), strict=True))

    def ours() -> float:
        mean_square_psnr(sr, hr)
        return ssim_map(sr, hr).mean(dim=(1, 2, 3)).mean().item()

    def theirs() -> float:
        exact = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
        for a, b in pairs:
            peak_signal_noise_ratio(b, a, data_range=1)
        found = [structural_similarity(a, b, data_range=1, **exact) for a, b in pairs]
        return float(np.mean(found))

    forms: dict[str, Callable[[], float]] = {"edgekeeper": ours, "scikit-image": theirs}
    for name, module, psnr_name, ssim_name in (
        ("torchmetrics", "torchmetrics.functional.image", *TORCHMETRICS),
        ("piq", "piq", "psnr", "ssim"),
    ):
        if importlib.util.find_spec(name) is None:
            print(f"{name} is not installed")
            continue
        library = importlib.import_module(module)
        by = (getattr(library, psnr_name), getattr(library, ssim_name))

        def batched(by: tuple[Callable[..., Tensor], ...] = by) -> float:
            by[0](sr, hr, data_range=1.0)
            return float(by[1](sr, hr, data_range=1.0))

        forms[name] = batched
    return sr, hr, forms


def compare_pixels(x: Tensor, *, rounds: int) -> dict[str, list[float]]:
    """Print PSNR and SSIM of ten pairs by each library; return ours and theirs in seconds."""
    sr, hr, forms = pixel_forms(x)
    values = {name: form() for name, form in forms.items()}
    pairs = list(zip(sr[:, 0].numpy(), hr[:, 0].numpy(), strict=True))
    definition = float(np.mean([plain_ssim(a, b) for a, b in pairs]))
    psnr_of = -10 * np.log10([np.mean((a - b) ** 2) for a, b in pairs])
    apart = max(
        abs(values["edgekeeper"] - definition),
        float(np.abs(mean_square_psnr(sr, hr).numpy() - psnr_of).max()),
    )
    times = seconds(forms, rounds=rounds)
    print(f"PSNR and SSIM, ours from the definition: {apart:.1e}")
    for name in forms:
        ratio = times[name] / times["edgekeeper"]
        print(f"{name:14} SSIM {values[name]:.9f} {times[name]:8.3f} s   x{ratio:.2f} of our time")
    if apart > SAME_PIXELS or abs(values["scikit-image"] - definition) > SAME_PIXELS:
        raise SystemExit("Another value than the definition's.")
    ours_s = times.pop("edgekeeper")
    return {f"PSNR and SSIM, {name}": [ours_s, taken] for name, taken in times.items()}


def main() -> None:
    """Print values, times and the ratio; exit status 1 below the bar or with another value."""
    parser = argparse.ArgumentParser(description="Times NIQE against its plain form.")
    parser.add_argument("--image", type=Path, default=IMAGE)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    x = image(options.image)
    pixels = compare_pixels(x, rounds=options.rounds)
    model = read_mat(weights_file(NIQE_FILE, purpose="NIQE"))
    mean = np.asarray(model["mu_prisparam"], dtype=np.float64).ravel()
    covariance = np.asarray(model["cov_prisparam"], dtype=np.float64)
    forms: dict[str, Callable[[], float]] = {
        "edgekeeper": lambda: niqe(x).item(),
        "plain": lambda: plain_niqe(x, mean=mean, covariance=covariance),
    }
    values = {name: form() for name, form in forms.items()}
    times = seconds(forms, rounds=options.rounds)
    for name in forms:
        print(f"{name:12}{values[name]:14.9f}{times[name]:9.3f} s")
    ratio = times["plain"] / times["edgekeeper"]
    apart = abs(values["plain"] - values["edgekeeper"])
    print(f"{WIDTH} x {HEIGHT}: {ratio:.1f} times as fast (bar {BAR:g}), values {apart:.1e} apart")
    if options.json is not None:
        rows = {**pixels, "NIQE, plain form": [times["edgekeeper"], times["plain"]]}
        options.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    raise SystemExit(ratio < BAR or apart > SAME)


if __name__ == "__main__":
    main()
