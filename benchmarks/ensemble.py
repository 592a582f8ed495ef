"""Several small networks trained at once: as one by torch.func, or one after the other.

    python benchmarks/ensemble.py [--cells 6] [--threads 1] [--rounds 7] [--device cuda]

A step of ``--cells`` ESPCN ×3 with Adam, each on its own batch: the cells one after the other;
stacked, their forward and backward pass one call of ``vmap``; on a GPU each on its own stream too.
The ways take turns; the clock is the processor time where there is one thread.
"""

import argparse
import copy
import statistics
from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812 - the name everyone knows
from torch import Tensor
from torch.func import functional_call, grad_and_value, stack_module_state, vmap

from edgekeeper.models import ESPCN
from train import interval, now

PATCH, IMAGES = 24, 32


def one_by_one(
    models: list[ESPCN], batches: list[tuple[Tensor, Tensor]], streams: list[torch.cuda.Stream]
) -> Callable[[], Tensor]:
    optimizers = [torch.optim.Adam(model.parameters(), lr=1e-3) for model in models]

    def cell(k: int) -> Tensor:
        lr, hr = batches[k]
        loss = F.l1_loss(models[k](lr), hr)
        optimizers[k].zero_grad()
        loss.backward()
        optimizers[k].step()
        return loss.detach()

    def step() -> Tensor:
        if not streams:
            return torch.stack([cell(k) for k in range(len(models))])
        losses = []
        for k, stream in enumerate(streams):
            with torch.cuda.stream(stream):
                losses.append(cell(k))
        torch.cuda.synchronize()
        return torch.stack(losses)

    return step


def stacked(models: list[ESPCN], batches: list[tuple[Tensor, Tensor]]) -> Callable[[], Tensor]:
    weights, buffers = stack_module_state(models)
    base = copy.deepcopy(models[0]).to("meta")
    lr, hr = (torch.stack(part) for part in zip(*batches, strict=True))  # (cells, B, C, H, W)
    optimizer = torch.optim.Adam(weights.values(), lr=1e-3)

    def loss_of(
        weights: dict[str, Tensor], buffers: dict[str, Tensor], lr: Tensor, hr: Tensor
    ) -> Tensor:
        return F.l1_loss(functional_call(base, (weights, buffers), (lr,)), hr)

    both = vmap(grad_and_value(loss_of))

    def step() -> Tensor:
        gradients, losses = both(weights, buffers, lr, hr)
        for name, weight in weights.items():
            weight.grad = gradients[name]
        optimizer.step()
        return losses.detach()

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, default=6)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    cells, device = range(given.cells), given.device
    models = [ESPCN(scale=3).to(device) for _ in cells]
    sizes = ((IMAGES, 1, PATCH, PATCH), (IMAGES, 1, 3 * PATCH, 3 * PATCH))
    batches = [tuple(torch.rand(size, device=device) for size in sizes) for _ in cells]
    ways = {
        "one by one": one_by_one(copy.deepcopy(models), batches, []),  # type: ignore[arg-type]
        "torch.func": stacked(copy.deepcopy(models), batches),  # type: ignore[arg-type]
    }
    if device.startswith("cuda"):
        streams = [torch.cuda.Stream(device) for _ in cells]  # type: ignore[no-untyped-call]
        ways["streams"] = one_by_one(copy.deepcopy(models), batches, streams)  # type: ignore[arg-type]
    first = [way() for way in ways.values()]
    later = [way() for way in ways.values()]  # after an update
    for losses in (first, later):
        for other in losses[1:]:
            torch.testing.assert_close(other, losses[0], rtol=1e-4, atol=1e-6)
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(given.rounds):
        for name, way in ways.items():
            started = now(device)
            way()
            times[name].append(now(device) - started)
    plain = times["one by one"]
    for name, taken in times.items():
        ratio, low, high = interval([a / b for a, b in zip(plain, taken, strict=True)])
        print(
            f"{name:12} {statistics.median(taken) * 1e3:8.1f} ms a step of {given.cells} cells, "
            f"speed {ratio:.2f} [{low:.2f}, {high:.2f}]"
        )


if __name__ == "__main__":
    main()
