"""SOAP: Adam in the eigenbasis of Shampoo's preconditioner.

Vyas et al., "SOAP: Improving and Stabilizing Shampoo using Adam", ICLR 2025,
https://arxiv.org/abs/2409.11321 (algorithm 3).

The gradient of a weight is seen as a matrix G (m, n): output maps by everything else. L and R are
running means of G Gᵀ and Gᵀ G; Q_L and Q_R their eigenvectors, renewed every ``every`` updates by
one power iteration and a QR decomposition. Adam's second moment is kept in that basis:

    G' = Q_Lᵀ G Q_R     V ← β₂ V + (1 − β₂) G'²     W ← W − lr · Q_L (Q_Lᵀ M Q_R / (√V + ε)) Q_Rᵀ

with Adam's two bias corrections. The networks here are small and badly conditioned (an image is
mostly its mean), where Adam needs many times the updates (docs/diary.md). Differences from the
paper: a side longer than ``LONGEST`` is not rotated, vectors (biases) get plain Adam, and the basis
is renewed after each of the first ten updates, when it still turns fast.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

LONGEST = 1024
"""Longest side of a matrix whose eigenvectors are followed: the work grows with its cube."""

SETTLING = 10
"""So many updates at the start renew the basis each time."""


class SOAP(torch.optim.Optimizer):
    """SOAP for the weights of convolutions and linear layers; Adam for vectors.

    ``lr``, ``betas`` and ``epsilon`` as in Adam; ``weight_decay`` as in AdamW, apart from the
    gradient; ``every``: updates between renewals of the basis. All state is in tensors, so a
    restored optimizer goes on with the same bits.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        *,
        lr: float,
        betas: tuple[float, float] = (0.95, 0.95),
        epsilon: float = 1e-12,
        weight_decay: float = 0.0,
        every: int = 10,
    ) -> None:
        options = {"lr": lr, "betas": betas, "epsilon": epsilon}
        super().__init__(parameters, {**options, "weight_decay": weight_decay, "every": every})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update each parameter with a gradient (but the first time, which only measures).

        ``closure`` is not used.
        """
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, group)

    def _update(self, parameter: Tensor, group: dict[str, Any]) -> None:
        lr, (beta1, beta2) = group["lr"], group["betas"]
        state = self.state[parameter]
        gradient = parameter.grad.float()  # type: ignore[union-attr]
        matrix = gradient.reshape(len(gradient), -1) if gradient.ndim > 1 else gradient[:, None]
        if not state:
            _start(state, matrix)
        state["step"] += 1
        state["mean"].lerp_(matrix, 1 - beta1)
        for side, factor in (("left", matrix), ("right", matrix.T)):
            if side in state:
                state[side].lerp_(factor @ factor.T, 1 - beta2)
        rotated = _rotate(matrix, state)
        state["square"].lerp_(rotated * rotated, 1 - beta2)
        count = int(state["step"])
        correction = (1 - beta2**count) ** 0.5 / (1 - beta1**count)
        move = _rotate(state["mean"], state) / state["square"].sqrt().add_(group["epsilon"])
        if count > 1:  # the first gradient is its own eigenbasis: it would only give signs
            back = _rotate_back(move, state).reshape(parameter.shape)
            parameter.mul_(1 - lr * group["weight_decay"])
            parameter.sub_(back, alpha=lr * correction)
        if count <= SETTLING or count % group["every"] == 0:
            _renew(state)


def _start(state: dict[str, Tensor], matrix: Tensor) -> None:
    """The state before the first update: bases from the first gradient alone."""
    state["step"] = torch.zeros(())
    state["mean"] = torch.zeros_like(matrix)
    state["square"] = torch.zeros_like(matrix)
    rows, columns = matrix.shape
    if columns == 1:
        return
    if rows <= LONGEST:
        state["left"] = torch.zeros(rows, rows, device=matrix.device)
        state["left_basis"] = torch.linalg.eigh(matrix @ matrix.T).eigenvectors.contiguous()
    if columns <= LONGEST:
        state["right"] = torch.zeros(columns, columns, device=matrix.device)
        state["right_basis"] = torch.linalg.eigh(matrix.T @ matrix).eigenvectors.contiguous()


def _rotate(matrix: Tensor, state: dict[str, Tensor]) -> Tensor:
    """Q_Lᵀ · matrix · Q_R."""
    if "left_basis" in state:
        matrix = state["left_basis"].T @ matrix
    return matrix @ state["right_basis"] if "right_basis" in state else matrix


def _rotate_back(matrix: Tensor, state: dict[str, Tensor]) -> Tensor:
    """Q_L · matrix · Q_Rᵀ."""
    if "left_basis" in state:
        matrix = state["left_basis"] @ matrix
    return matrix @ state["right_basis"].T if "right_basis" in state else matrix


def _renew(state: dict[str, Tensor]) -> None:
    """One power iteration per basis, sorted by eigenvalue; the second moment is sorted along."""
    for side, axis in (("left", 0), ("right", 1)):
        basis = f"{side}_basis"
        if basis not in state:
            continue
        towards = state[side] @ state[basis]
        order = (state[basis] * towards).sum(0).argsort(descending=True)
        state["square"] = state["square"].index_select(axis, order)
        # Contiguous, as a restored state is: another layout would give other last bits.
        state[basis] = torch.linalg.qr(towards[:, order]).Q.contiguous()
