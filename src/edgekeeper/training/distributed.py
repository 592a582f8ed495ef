"""One run on several processes, the ranks that ``torchrun`` starts, with the result of one.

Every rank draws the whole batch (of a streamed store its shard, and gathers the others'), enlarges
its shard of it, and gathers the SR of the others, so that each loss and each discriminator sees the
whole batch everywhere: relativistic means, batch normalisation and all that is drawn at random are
those of one process. A generator that normalises over the batch does so over all shards together.
Gradients are averaged before each step. What is saved does not depend on the number of ranks.
"""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, distributed, nn
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous
from torch.nn.modules.batchnorm import _BatchNorm

from edgekeeper.errors import InputError


@contextmanager
def process_group(device: str) -> Iterator[None]:
    """Within the block this process is one of those that ``torchrun`` started, if it did."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or distributed.is_initialized():
        yield
        return
    store, rank, size = next(rendezvous("env://"))
    # torchrun keeps the addresses of killed ranks over a restart, and new ranks may find those; on
    # several machines a variable of its own prevents it (docs/cluster.md)
    if os.environ.get("GROUP_WORLD_SIZE") == "1":
        store = PrefixStore(os.environ["TORCHELASTIC_RESTART_COUNT"], store)
    backend = "nccl" if device.startswith("cuda") else "gloo"
    distributed.init_process_group(backend, store=store, rank=rank, world_size=size)
    try:
        yield
    finally:
        distributed.destroy_process_group()


def world_size() -> int:
    """Return how many processes there are."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def get_rank() -> int:
    """Return the number of this process, from 0 on."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def is_rank_zero() -> bool:
    """Return whether this process is the one that writes, logs and scores."""
    return get_rank() == 0


def shard(batch: Tensor) -> Tensor:
    """Return this rank's shard of a batch (B, ...)."""
    return batch if world_size() == 1 else batch.tensor_split(world_size())[get_rank()]


def all_gather(part: Tensor, *, like: Tensor) -> Tensor:
    """Return the batch (B, ...) of the size of ``like`` of which ``part`` is this rank's shard.

    The graph goes through ``part`` alone; its gradient is multiplied by ``world_size()``, of which
    ``average_gradients`` takes the mean.
    """
    if world_size() == 1:
        return part
    own, count, shards = get_rank(), world_size(), []  # in the order of the batch
    if part.requires_grad:
        part.register_hook(lambda gradient: gradient * count)  # type: ignore[no-untyped-call]
    for rank, piece in enumerate(like.tensor_split(count)):
        sent = part.detach().contiguous()  # (B / ranks, C, rH, rW)
        if rank != own:
            sent = sent.new_empty(len(piece), *part.shape[1:])
        distributed.broadcast(sent, rank)  # shards may differ by one image
        shards.append(part if rank == own else sent)
    return torch.cat(shards)  # (B, C, rH, rW)


def average_gradients(parameters: Iterable[Tensor]) -> None:
    """Replace the gradients of ``parameters`` by their means over the ranks."""
    if world_size() == 1:
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])  # one message, not hundreds
    distributed.all_reduce(flat)  # the sum
    flat /= world_size()
    for gradient, mean in zip(
        gradients, torch.split(flat, [g.numel() for g in gradients]), strict=True
    ):
        gradient.copy_(mean.view_as(gradient))  # in place: the optimizer holds it


def all_reduce_max(value: int, *, device: str = "cpu") -> int:
    """Return the largest ``value`` of all ranks, so that all do the same."""
    if world_size() == 1:
        return value
    largest = torch.tensor(value, device=device)
    distributed.all_reduce(largest, distributed.ReduceOp.MAX)  # whoever wants to stop stops all
    return int(largest)


class _AllReduceSum(torch.autograd.Function):
    """The sum of a tensor over the ranks; its gradient is the sum of their gradients."""

    @staticmethod
    def forward(ctx: object, part: Tensor) -> Tensor:
        total = part.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: object, *gradients: Tensor) -> Tensor:
        return _AllReduceSum.forward(ctx, gradients[0].contiguous())


class SyncBatchNorm(_BatchNorm):
    """Batch normalisation by the mean and the variance of all ranks' shards together.

    As ``nn.SyncBatchNorm``, which does not run on processors; shards may differ in size.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return x (B, C, ...) normalised; in evaluation mode as one process does."""
        if not self.training:
            return super().forward(x)
        axes = [axis for axis in range(x.dim()) if axis != 1]
        shape = [-1 if axis == 1 else 1 for axis in range(x.dim())]  # (1, C, 1, 1)
        values = x.float()  # sums of bfloat16 are no sums
        total: Callable[[Tensor], Tensor] = _AllReduceSum.apply
        count = total(values.new_tensor(values.numel() / values.shape[1]))
        mean = total(values.sum(axes)) / count  # (C,); the gradient goes through all ranks
        centred = values - mean.view(shape)
        variance = total(centred.square().sum(axes)) / count  # (C,)
        if self.running_mean is not None and self.running_var is not None:
            assert self.num_batches_tracked is not None
            self.num_batches_tracked += 1
            momentum = self.momentum
            if momentum is None:
                momentum = 1 / int(self.num_batches_tracked)
            with torch.no_grad():
                self.running_mean.lerp_(mean, momentum)
                self.running_var.lerp_(variance * (count / (count - 1)), momentum)  # unbiased
        normalised = centred * (variance + self.eps).rsqrt().view(shape)
        if self.affine:
            normalised = normalised * self.weight.view(shape) + self.bias.view(shape)
        return normalised.to(x.dtype)

    def _check_input_dim(self, input: Tensor) -> None:
        """Take images, sequences and volumes."""


def convert_sync_batchnorm(network: nn.Module) -> None:
    """Let all batch normalisations of ``network`` see the shards of all ranks."""
    for module in network.modules() if world_size() > 1 else ():
        if isinstance(module, _BatchNorm):
            module.__class__ = SyncBatchNorm  # same parameters, another forward


def check_shards(model: nn.Module, *, batch: int, accumulate: int) -> None:
    """Raise InputError for what shards of a batch could not compute as the whole does."""
    ranks = world_size()
    if batch < ranks * accumulate:
        raise InputError(
            f"A batch of {batch} cannot be shared by {ranks} ranks in {accumulate} parts each; "
            f"choose {batch} or fewer in all."
        )
    if accumulate > 1:
        for name, module in model.named_modules():
            if isinstance(module, _BatchNorm):
                raise InputError(
                    f"The network normalises over the batch ('{name}'), of which each part would "
                    "see itself alone; leave --accumulate away, or start more ranks."
                )
