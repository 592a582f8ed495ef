"""One run on several processes, the ranks that ``torchrun`` starts, with the result of one.

Every rank draws the whole batch, enlarges its share of it, and is given the SR of the others, so
that each loss and each discriminator sees the whole batch everywhere: relativistic means, batch
normalisation and all that is drawn at random are those of one process. Gradients are averaged
before each step. What is saved does not depend on the number of ranks.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, distributed, nn

from edgekeeper.errors import InputError


@contextmanager
def joined(device: str) -> Iterator[None]:
    """Within the block this process is one of those that ``torchrun`` started, if it did."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or distributed.is_initialized():
        yield
        return
    distributed.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    try:
        yield
    finally:
        distributed.destroy_process_group()


def ranks() -> int:
    """Return how many processes there are."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def is_first() -> bool:
    """Return whether this process is the one that writes, says and scores."""
    return not distributed.is_initialized() or distributed.get_rank() == 0


def share(batch: Tensor) -> Tensor:
    """Return this rank's part of a batch (B, ...)."""
    return batch if ranks() == 1 else batch.tensor_split(ranks())[distributed.get_rank()]


def whole(part: Tensor, *, like: Tensor) -> Tensor:
    """Return the batch (B, ...) of which ``part`` is this rank's share of the size of ``like``.

    The graph goes through ``part`` alone; its gradient is taken ``ranks()`` times, as gradients are
    averaged afterwards and each rank has only its own share of the sum.
    """
    if ranks() == 1:
        return part
    own, count, found = distributed.get_rank(), ranks(), []  # in the order of the batch
    if part.requires_grad:
        part.register_hook(lambda gradient: gradient * count)  # type: ignore[no-untyped-call]
    for rank, piece in enumerate(like.tensor_split(count)):
        sent = part.detach().contiguous()  # (B / ranks, C, rH, rW)
        if rank != own:
            sent = sent.new_empty(len(piece), *part.shape[1:])
        distributed.broadcast(sent, rank)  # shares may differ by one image
        found.append(part if rank == own else sent)
    return torch.cat(found)  # (B, C, rH, rW)


def average_gradients(parameters: Iterable[Tensor]) -> None:
    """Replace the gradients of ``parameters`` by their means over the ranks."""
    if ranks() == 1:
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])  # one message, not hundreds
    distributed.all_reduce(flat)  # the sum
    flat /= ranks()
    for gradient, mean in zip(
        gradients, torch.split(flat, [g.numel() for g in gradients]), strict=True
    ):
        gradient.copy_(mean.view_as(gradient))  # in place: the optimizer holds it


def agreed(value: int, *, device: str = "cpu") -> int:
    """Return the largest ``value`` of all ranks, so that all do the same."""
    if ranks() == 1:
        return value
    shared = torch.tensor(value, device=device)
    distributed.all_reduce(shared, distributed.ReduceOp.MAX)  # whoever wants to stop stops all
    return int(shared)


def check_ranks(model: nn.Module, *, batch: int) -> None:
    """Raise InputError for what several ranks could not compute as one does."""
    if ranks() == 1:
        return
    if batch < ranks():
        raise InputError(
            f"A batch of {batch} cannot be shared by {ranks()} ranks; start {batch} or fewer."
        )
    for name, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            raise InputError(
                f"The network normalises over the batch ('{name}'), of which each rank would see "
                "its share alone; train it on one rank."
            )
