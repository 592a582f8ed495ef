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

``StackedSOAP`` is the same for a device on which many small operations are slow: weights of one
shape move together, and what differs between updates is in tensors, so that a CUDA graph can hold
an update.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

# Longest side of a matrix whose eigenvectors are followed: the work grows with its cube
LONGEST = 1024
SETTLING = 10  # so many updates at the start renew the basis each time


class SOAP(torch.optim.Optimizer):
    """SOAP for the weights of convolutions and linear layers; Adam for vectors.

    ``weight_decay`` as in AdamW, apart from the gradient; ``every``: updates between renewals of
    the basis. All state is in tensors, so a restored optimizer goes on with the same bits.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        *,
        lr: float,
        betas: tuple[float, float] = (0.95, 0.95),  # the paper's
        epsilon: float = 1e-12,
        weight_decay: float = 0.0,
        every: int = 10,  # the paper's frequency
    ) -> None:
        options = {"lr": lr, "betas": betas, "epsilon": epsilon}
        super().__init__(parameters, {**options, "weight_decay": weight_decay, "every": every})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update each parameter with a gradient (but the first time, which only measures)."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, group)

    def _update(self, parameter: Tensor, group: dict[str, Any]) -> None:
        lr, state = group["lr"], self.state[parameter]
        gradient = parameter.grad.float()  # type: ignore[union-attr]  # float32 also after autocast
        # (out, in, k, k) -> G (m, n) with m = out and n = in·k·k; a vector is (m, 1)
        matrix = gradient.reshape(len(gradient), -1) if gradient.ndim > 1 else gradient[:, None]
        if not state:
            _start(state, matrix)
        state["step"] += 1
        move = _move(matrix, state, group=group).reshape(parameter.shape)
        count = int(state["step"])
        if count > 1:  # the first gradient is its own eigenbasis: it would only give signs
            parameter.mul_(1 - lr * group["weight_decay"])  # as AdamW's, not through V
            parameter.sub_(move, alpha=lr * _correction(count, group["betas"]))
        if count <= SETTLING or count % group["every"] == 0:
            _renew(state)


def _start(state: dict[str, Tensor], matrix: Tensor) -> None:
    """The state before the first update: bases from the first gradient alone."""
    state["step"] = torch.zeros(())
    state["mean"] = torch.zeros_like(matrix)
    state["square"] = torch.zeros_like(matrix)
    rows, columns = matrix.shape  # m, n
    if columns == 1:
        return
    if rows <= LONGEST:
        # the mean of G Gᵀ begins at zero, its basis at the eigenvectors of the first one
        state["left"] = torch.zeros(rows, rows, device=matrix.device)
        state["left_basis"] = torch.linalg.eigh(matrix @ matrix.T).eigenvectors.contiguous()
    if columns <= LONGEST:
        state["right"] = torch.zeros(columns, columns, device=matrix.device)
        state["right_basis"] = torch.linalg.eigh(matrix.T @ matrix).eigenvectors.contiguous()


def _move(gradient: Tensor, state: dict[str, Tensor], *, group: dict[str, Any]) -> Tensor:
    """Take a gradient G (m, n), or a stack (N, m, n), into ``state``; return where to move.

    That is Q_L (Q_Lᵀ M Q_R / (√V + ε)) Q_Rᵀ, of the size of ``gradient``.
    """
    beta1, beta2 = group["betas"]
    state["mean"].lerp_(gradient, 1 - beta1)  # M, not rotated: the basis turns under it
    # L (m, m) and R (n, n), Shampoo's two factors, with the second decay
    for side, factor in (("left", gradient), ("right", gradient.mT)):
        if side in state:
            state[side].lerp_(factor @ factor.mT, 1 - beta2)
    state["square"].lerp_(_rotate(gradient, state).square(), 1 - beta2)  # V, of G'
    # epsilon after the root: with 1e-12 a direction that is hardly seen still moves
    move = _rotate(state["mean"], state) / state["square"].sqrt().add_(group["epsilon"])
    return _rotate_back(move, state)


def _correction(count: int, betas: tuple[float, float]) -> float:
    """Return Adam's two bias corrections in one factor: both means began at zero."""
    return float((1 - betas[1] ** count) ** 0.5 / (1 - betas[0] ** count))


def _rotate(matrix: Tensor, state: dict[str, Tensor]) -> Tensor:
    """Q_Lᵀ · matrix · Q_R, of one matrix or of a stack of them."""
    if "left_basis" in state:
        matrix = state["left_basis"].mT @ matrix
    return matrix @ state["right_basis"] if "right_basis" in state else matrix


def _rotate_back(matrix: Tensor, state: dict[str, Tensor]) -> Tensor:
    """Q_L · matrix · Q_Rᵀ, of one matrix or of a stack of them."""
    if "left_basis" in state:
        matrix = state["left_basis"] @ matrix
    return matrix @ state["right_basis"].mT if "right_basis" in state else matrix


def _renew(state: dict[str, Tensor]) -> None:
    """One power iteration per basis, sorted by eigenvalue; the second moment is sorted along.

    Of one matrix or of a stack of them, all in place: a CUDA graph knows where they lie.
    """
    for side in ("left", "right"):
        basis = f"{side}_basis"
        if basis not in state:
            continue
        # one step of the power iteration stands for a whole eigh (algorithm 3)
        towards = state[side] @ state[basis]  # (..., k, k)
        order = (state[basis] * towards).sum(-2).argsort(descending=True)  # (..., k)
        lines, columns = order[..., :, None], order[..., None, :]
        axis, places = (-2, lines) if side == "left" else (-1, columns)
        square = state["square"]  # (..., m, n)
        square.copy_(square.gather(axis, places.expand_as(square)))
        towards = towards.gather(-1, columns.expand_as(towards))
        state[basis].copy_(torch.linalg.qr(towards).Q)


@dataclass
class _Stack:
    """Parameters whose matrices have one shape (m, n), and their states one above another."""

    parameters: list[Tensor]
    state: dict[str, Tensor] = field(default_factory=dict)  # (N, m, n), (N, m, m), (N, n, n)


class StackedSOAP(SOAP):
    """SOAP that goes on from ``optimizer``, whose first updates have been made.

    Before each update ``advance`` says which it is; ``step`` then only computes, and ``renew``
    after it turns the bases when it is time. The states stay those of the parameters.
    """

    def __init__(self, optimizer: SOAP) -> None:
        (group,) = optimizer.param_groups
        if any(p not in optimizer.state for p in group["params"]):
            raise ValueError("StackedSOAP goes on from updates that SOAP has made.")
        super().__init__(group["params"], lr=group["lr"])
        self.param_groups, self.state = optimizer.param_groups, optimizer.state
        shapes: dict[tuple[int, int], _Stack] = {}  # one batched product for all of a shape
        for p in group["params"]:
            m, n = self.state[p]["mean"].shape
            shapes.setdefault((m, n), _Stack([])).parameters.append(p)
        self.stacks = list(shapes.values())
        for stack in self.stacks:
            for key in self.state[stack.parameters[0]].keys() - {"step"}:
                stack.state[key] = torch.stack([self.state[p][key] for p in stack.parameters])
                for p, own in zip(stack.parameters, stack.state[key], strict=True):
                    self.state[p][key] = own  # a view
        device = group["params"][0].device
        self.rate, self.decay = torch.zeros((), device=device), torch.zeros((), device=device)

    @property
    def count(self) -> int:
        """How many updates have been made."""
        return int(self.state[self.param_groups[0]["params"][0]]["step"])

    def advance(self, *, learning_rate: float) -> None:
        """Count an update and note its rate where ``step`` finds it."""
        (group,) = self.param_groups
        torch._foreach_add_([self.state[p]["step"] for p in group["params"]], 1.0)
        group["lr"] = learning_rate
        self.rate.fill_(learning_rate * _correction(self.count, group["betas"]))
        self.decay.fill_(1 - learning_rate * group["weight_decay"])

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update all parameters; ``closure`` is not used."""
        (group,) = self.param_groups
        for stack in self.stacks:
            m, n = stack.state["mean"].shape[1:]
            g = torch.stack([p.grad.float().reshape(m, n) for p in stack.parameters])  # type: ignore[union-attr]
            move = _move(g, stack.state, group=group).mul_(self.rate)  # (N, m, n)
            if group["weight_decay"]:
                torch._foreach_mul_(stack.parameters, self.decay)  # as AdamW's
            moves = [one.view(p.shape) for one, p in zip(move, stack.parameters, strict=True)]
            torch._foreach_sub_(stack.parameters, moves)  # W, in place: the graph holds them

    @torch.no_grad()
    def renew(self) -> None:
        """Turn the bases if the update just made is one after which they turn."""
        if self.count > SETTLING and self.count % self.param_groups[0]["every"]:
            return
        for stack in self.stacks:
            _renew(stack.state)
