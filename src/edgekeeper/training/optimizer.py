"""Optimizers: what a recipe says of one, and one step of it."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from edgekeeper.errors import InputError
from edgekeeper.spec import Allowed, AtLeastOne, Checked
from edgekeeper.training.distributed import average_gradients
from edgekeeper.training.soap import SOAP

_FROM_ZERO = Allowed("a finite number from 0 on", lambda v: 0.0 <= v < math.inf)
_SHARES = Allowed("two numbers in [0, 1)", lambda betas: all(0.0 <= v < 1.0 for v in betas))


@dataclass(frozen=True)
class Optim(Checked):
    """The optimizer and its learning rate over the steps of one stage.

    ``kind``: Adam, plain gradient descent with momentum, or SOAP (`edgekeeper.training.soap`; with
    ``betas=(0.95, 0.95)``), which for small networks needs far fewer updates than Adam.
    ``schedule``: "constant"; "cosine" falls from ``learning_rate`` to ``final_learning_rate`` over
    the stage (a longer stage differs from its first update on); "steps" multiplies by ``gamma``
    after each of ``milestones`` (counted within the stage). ``warmup`` steps rise linearly from 0.
    ``clip``: "norm" limits the global gradient norm to ``clip_limit``; "value_over_rate" limits
    every value to ±clip_limit / learning_rate (VDSR, section 3.2).
    ``renew_every``: updates of SOAP between renewals of its bases. Raises InputError.
    """

    learning_rate: Annotated[float, Allowed("a positive, finite one", lambda v: 0.0 < v < math.inf)]
    kind: Literal["adam", "sgd", "soap"] = "adam"
    betas: Annotated[tuple[float, float], _SHARES] = (0.9, 0.999)  # of mean and square
    epsilon: Annotated[float, _FROM_ZERO] = 1e-8  # Adam's; SOAP is given 1e-12
    momentum: Annotated[float, Allowed("a number in [0, 1)", lambda v: 0.0 <= v < 1.0)] = 0.9
    weight_decay: Annotated[float, _FROM_ZERO] = 0.0  # SOAP: apart from the gradient
    schedule: Literal["constant", "cosine", "steps"] = "constant"
    final_learning_rate: Annotated[float, _FROM_ZERO] = 0.0
    milestones: tuple[int, ...] = ()
    gamma: Annotated[float, _FROM_ZERO] = 0.5  # EDSR and SPSR halve
    warmup: Annotated[int, _FROM_ZERO] = 0
    clip: Literal["none", "norm", "value_over_rate"] = "none"
    clip_limit: float = 0.0
    renew_every: AtLeastOne = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.clip != "none" and not self.clip_limit > 0.0:
            raise InputError(
                f"clip is '{self.clip}' but clip_limit is {self.clip_limit}; give a positive limit."
            )

    def learning_rate_at(self, step: int, *, steps: int) -> float:
        """Return the rate of update ``step`` (counted from 0) in a stage of ``steps`` updates."""
        if step < self.warmup:
            return self.learning_rate * (step + 1) / self.warmup  # never 0: the first update counts
        if self.schedule == "cosine":
            done = (step - self.warmup) / max(1, steps - self.warmup)
            fall = 0.5 * (1 + math.cos(math.pi * done))  # 1 to 0
            return self.final_learning_rate + (self.learning_rate - self.final_learning_rate) * fall
        if self.schedule == "steps":
            return self.learning_rate * self.gamma ** sum(step >= m for m in self.milestones)
        return self.learning_rate


def make_optimizer(optim: Optim, parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
    """Return a new optimizer for ``parameters``."""
    lr, decay = optim.learning_rate, optim.weight_decay
    if optim.kind == "sgd":
        return torch.optim.SGD(parameters, lr=lr, momentum=optim.momentum, weight_decay=decay)
    if optim.kind == "soap":
        return SOAP(
            parameters,
            lr=lr,
            betas=optim.betas,
            epsilon=optim.epsilon,
            weight_decay=decay,
            every=optim.renew_every,
        )
    return torch.optim.Adam(
        parameters, lr=lr, betas=optim.betas, eps=optim.epsilon, weight_decay=decay
    )


def optimizer_step(
    optimizer: torch.optim.Optimizer, loss: Tensor, *, optim: Optim, learning_rate: float
) -> None:
    """Move what ``optimizer`` holds once against the gradient of ``loss``, clipped."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    optimizer.zero_grad(set_to_none=True)  # None: what no loss reaches is not moved at all
    loss.backward()  # type: ignore[no-untyped-call]  # adds up in .grad
    average_gradients(parameters)  # over the ranks
    if optim.clip == "norm":
        nn.utils.clip_grad_norm_(parameters, optim.clip_limit)  # over all parameters together
    elif optim.clip == "value_over_rate":
        # VDSR, section 3.2: the step, rate times gradient, is what is limited
        nn.utils.clip_grad_value_(parameters, optim.clip_limit / learning_rate)
    for group in optimizer.param_groups:
        if not isinstance(group["lr"], Tensor):  # filled before a graph is replayed
            group["lr"] = learning_rate  # of (seed, step) alone, so no scheduler has a state
    optimizer.step()
