"""The gradient variance loss against its plain form, in one run.

    python benchmarks/losses.py --threads 1
    python benchmarks/losses.py --threads 2

Forward and backward of one batch. The plain form is convolution, unfold and variance, as one
would write it from the paper. All forms take turns within each round, so that other work on the
machine meets all of them alike; one thread is timed in CPU seconds, several in wall seconds.
Several threads on a busy machine wait for each other at every step, so there the bests count: where
the floor's median lies far above its best, the machine was not quiet and the medians say little.
OMP_WAIT_POLICY=passive before the command lets waiting threads sleep instead of spin, which makes
the ratio steady there.

The floor: whatever the method, both images must be read and the derivative written, three
times the bytes of one batch. Its time is taken in the same rounds, by summing both batches and
filling a new one.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from edgekeeper.losses import GradientVariance
from edgekeeper.losses.gradient_variance import gradient_variances
from edgekeeper.ops.color import rgb_to_grey_gv

GREY = (0.2989, 0.5870, 0.1140)
SOBEL_X = ((-1.0, 0.0, 1.0), (-2.0, 0.0, 2.0), (-1.0, 0.0, 1.0))
SOBEL_Y = ((1.0, 2.0, 1.0), (0.0, 0.0, 0.0), (-1.0, -2.0, -1.0))
BARS = {1: 14.0, 2: 9.0}  # times the speed of the plain form that we hold to
WARM_UP_ROUNDS = 2
CALLS_PER_ROUND = 3  # of the quick forms, for one of the plain form


def plain(sr: Tensor, hr: Tensor, *, patch: int) -> Tensor:
    """The loss as written from the paper and its code's norm."""
    total = sr.new_zeros(())
    for rows in (SOBEL_X, SOBEL_Y):
        kernel = sr.new_tensor(rows)[None, None]
        maps = []
        for x in (sr, hr):
            grey = GREY[0] * x[:, 0:1] + GREY[1] * x[:, 1:2] + GREY[2] * x[:, 2:3]
            gradient = functional.conv2d(grey, kernel, padding=1)
            maps.append(functional.unfold(gradient, patch, stride=patch).var(1))
        total = total + functional.mse_loss(maps[0], maps[1])
    return total


def variances_of(x: Tensor, *, patch: int) -> Tensor:
    """The variances (2, B, patches) of the published loss."""
    grey = rgb_to_grey_gv(x)
    return gradient_variances(grey, patch=patch, stride=patch, operator="sobel", border="zero")


def target_at_hand(sr: Tensor, goal: Tensor, *, patch: int) -> Tensor:
    """Our loss when the variances of the target need not be computed any more."""
    difference = variances_of(sr, patch=patch) - goal
    return difference.square().mean((1, 2)).sum()


def floor(sr: Tensor, hr: Tensor) -> None:
    """Read both batches and write a third."""
    sr.detach().sum()
    hr.sum()
    torch.empty_like(hr).fill_(1.0)


def disagreement(size: int, *, patch: int) -> tuple[float, float]:
    """Largest relative difference of value and derivative from the plain form, in float64."""
    generator = torch.Generator().manual_seed(1)
    sr, hr = (
        torch.rand(2, 3, size, size, generator=generator, dtype=torch.float64) for _ in range(2)
    )
    sr.requires_grad_()
    values = [GradientVariance(patch=patch)(sr, hr), plain(sr, hr, patch=patch)]
    slopes = [torch.autograd.grad(value, sr)[0] for value in values]
    value_error = (values[0] - values[1]).abs() / values[1]
    slope_error = (slopes[0] - slopes[1]).abs().max() / slopes[1].abs().max()
    return value_error.item(), slope_error.item()


def kept_bytes(loss: Callable[[], Tensor]) -> int:
    """Bytes of the distinct memory that a forward pass keeps for its backward pass."""
    sizes: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        loss()
    return sum(sizes.values())


def time_in_turns(
    forms: dict[str, Callable[[], object]], *, rounds: int, clock: Callable[[], float]
) -> dict[str, list[float]]:
    """Seconds of each call, [form][call]; the first form is called once per round."""
    seconds: dict[str, list[float]] = {name: [] for name in forms}
    slow = next(iter(forms))
    for turn in range(rounds + WARM_UP_ROUNDS):
        for name, form in forms.items():
            for _ in range(1 if name == slow else CALLS_PER_ROUND):
                start = clock()
                form()
                stop = clock()
                if turn >= WARM_UP_ROUNDS:
                    seconds[name].append(stop - start)
    return seconds


def ratios(seconds: dict[str, list[float]], name: str) -> tuple[float, float]:
    """How many times as fast as the first form: by medians, by bests."""
    first = next(iter(seconds.values()))
    return (
        statistics.median(first) / statistics.median(seconds[name]),
        min(first) / min(seconds[name]),
    )


def print_table(seconds: dict[str, list[float]]) -> None:
    """Print one line per form."""
    print(f"{'form':<36} {'median ms':>10} {'best ms':>9} {'median':>8} {'best':>8}")
    for name, calls in seconds.items():
        median, best = ratios(seconds, name)
        print(
            f"{name:<36} {statistics.median(calls) * 1e3:>10.2f} {min(calls) * 1e3:>9.2f} "
            f"{'x' + format(median, '.1f'):>8} {'x' + format(best, '.1f'):>8}"
        )


def arguments(command_line: Sequence[str] | None) -> argparse.Namespace:
    """The run options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--size", type=int, default=192, help="pixels a side")
    parser.add_argument("--patch", type=int, default=8, help="pixels a side of a variance patch")
    return parser.parse_args(command_line)


def main(command_line: Sequence[str] | None = None) -> int:
    """0 when our form agrees with the plain one and holds the bar, else 1.

    The bar is judged by medians on one thread, by bests on several.
    """
    options = arguments(command_line)
    torch.set_num_threads(options.threads)
    patch = options.patch
    value_error, slope_error = disagreement(min(options.size, 64), patch=patch)
    print(f"torch {torch.__version__}, {options.threads} threads, patch {patch}")
    print(f"relative difference from the plain form in float64: value {value_error:.1e}, ", end="")
    print(f"derivative {slope_error:.1e}")

    generator = torch.Generator().manual_seed(0)
    shape = (options.batch, 3, options.size, options.size)
    hr = torch.rand(shape, generator=generator)
    sr = (hr + 0.05 * torch.randn(shape, generator=generator)).requires_grad_()
    loss = GradientVariance(patch=patch)
    goal = variances_of(hr, patch=patch)
    losses: dict[str, Callable[[], Tensor]] = {
        "plain form": lambda: plain(sr, hr, patch=patch),
        "GradientVariance": lambda: loss(sr, hr),
        "the same, target's variances at hand": lambda: target_at_hand(sr, goal, patch=patch),
        "mean absolute difference (for scale)": lambda: functional.l1_loss(sr, hr),
    }
    forms: dict[str, Callable[[], object]] = {
        name: lambda form=form: torch.autograd.grad(form(), sr)  # type: ignore[misc]
        for name, form in losses.items()
    }
    forms["floor (read both, write one)"] = lambda: floor(sr, hr)

    clock = time.process_time if options.threads == 1 else time.perf_counter
    seconds = time_in_turns(forms, rounds=options.rounds, clock=clock)
    unit = "CPU seconds" if options.threads == 1 else "wall seconds"
    print(f"{shape}, forward and backward, {unit}, {options.rounds} rounds in turns")
    print_table(seconds)

    one = hr.numel() * hr.element_size()
    print(f"floor: {3 * one / 1e6:.1f} MB moved; ", end="")
    kept = [kept_bytes(losses[name]) / 1e6 for name in ("plain form", "GradientVariance")]
    print(f"kept for the backward pass: plain {kept[0]:.1f} MB, sr {kept[1]:.1f} MB")
    bar = BARS.get(options.threads, 1.0)
    by_medians, by_bests = ratios(seconds, "GradientVariance")
    for name, ratio in (("medians", by_medians), ("bests", by_bests)):
        print(
            f"bar of {bar:g} times the plain form by {name}: {'held' if ratio >= bar else 'MISSED'}"
        )
    judged = by_medians if options.threads == 1 else by_bests
    return 0 if judged >= bar and max(value_error, slope_error) < 1e-10 else 1


if __name__ == "__main__":
    sys.exit(main())
