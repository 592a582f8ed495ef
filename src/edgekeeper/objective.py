"""The weighted terms of a stage at work."""

import torch
from torch import Tensor

from edgekeeper.recipe import Loss, Stage


class Objective:
    """The terms of one stage, built: ``total`` and the value of each term."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.names = tuple(term.name for term in stage.terms)
        self._losses: tuple[Loss, ...] = tuple(term.loss.build() for term in stage.terms)

    def __call__(self, sr: Tensor, hr: Tensor, *, step: int) -> tuple[Tensor, Tensor]:
        """The weighted sum (a scalar with a graph) and the terms' values (T,), without one.

        ``step`` counts within the stage. Values are unweighted, in the order of ``names``.
        """
        values = [loss(sr, hr) for loss in self._losses]
        weights = [term.weight_at(step) for term in self.stage.terms]
        total = sum((w * value for w, value in zip(weights, values, strict=True)), sr.new_zeros(()))
        return total, torch.stack([value.detach().float() for value in values])
