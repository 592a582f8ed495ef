"""The weighted terms and the adversaries of a stage at work."""

from collections.abc import Mapping

import torch
from torch import Generator, Tensor, nn

from edgekeeper.losses import VanillaGAN, WassersteinGP
from edgekeeper.ops.gradient import gradient_map
from edgekeeper.training.recipe import Adversary, Loss, Stage, Term


class Duel:
    """One adversary with its critic: both sides of the game.

    Attributes:
        critic: the network that learns.
        names: what ``judge`` measures: the critic's loss, the mean logits of HR and of what it is
            to tell from HR, and the gradient penalty where there is one.
    """

    def __init__(self, adversary: Adversary, critic: nn.Module) -> None:
        self.adversary, self.critic = adversary, critic
        self.loss = adversary.loss.build()
        self._negatives = adversary.negatives.build() if adversary.negatives else None
        measured = ["critic", "real", "fake"]
        if isinstance(self.loss, WassersteinGP):
            measured.append("penalty")
        self.names = tuple(f"{adversary.name}.{name}" for name in measured)

    def value(self, sr: Tensor, hr: Tensor) -> Tensor:
        """The generator's side, a scalar not weighted; its graph goes through ``sr`` alone."""
        fake = self.critic(self._seen(sr))
        if isinstance(self.loss, VanillaGAN | WassersteinGP):
            return self.loss.generator(fake, fake)  # which does not look at the first
        with torch.no_grad():
            real = self.critic(self._seen(hr))
        return self.loss.generator(real, fake)

    def opposed(self, sr: Tensor, hr: Tensor, *, numbers: Generator) -> Tensor:
        """What the critic is to tell from HR, without a graph: SR, or the adversary's negatives."""
        return sr.detach() if self._negatives is None else self._negatives(hr, generator=numbers)

    def judge(self, opposed: Tensor, hr: Tensor, *, numbers: Generator) -> tuple[Tensor, Tensor]:
        """The critic's loss (a scalar with a graph) and the values of ``names``, without one.

        ``numbers`` (of the CPU) give the shares that mix the pictures of the gradient penalty. It
        is part of the loss with a graph, and a value of its own beside the loss without it.
        """
        theirs, ours = self._seen(hr), self._seen(opposed)
        real, fake = self.critic(theirs), self.critic(ours)
        loss = self.loss.critic(real, fake)
        measured = [loss, real.mean(), fake.mean()]
        if isinstance(self.loss, WassersteinGP):
            shares = torch.rand(len(hr), generator=numbers)
            if hr.is_cuda:  # so that the copy does not wait
                shares = shares.pin_memory()
            shares = shares.to(hr.device, non_blocking=True)
            penalty = self.loss.penalty(self.critic, real=theirs, fake=ours, shares=shares)
            loss = loss + self.loss.penalty_weight * penalty
            measured.append(penalty)
        return loss, torch.stack([value.detach().float() for value in measured])

    def _seen(self, pictures: Tensor) -> Tensor:
        if self.adversary.sees == "picture":
            return pictures
        return gradient_map(pictures, padding=1 if self.adversary.sees == "gradient" else 2)


class Objective:
    """The terms and adversaries of one stage, built.

    Attributes:
        parts: the names of the terms and then of the adversaries.
        names: ``parts``, and what each critic measures.
        guided: whether a term looks at what the network's gradient branch predicts.
    """

    def __init__(
        self,
        stage: Stage,
        *,
        critics: Mapping[str, nn.Module] | None = None,
        device: torch.device | str = "cpu",
        half: bool = False,
    ) -> None:
        """``half``: networks inside the terms and critics compute in bfloat16 where they can."""
        self.stage = stage
        critics = critics or {}
        self.duels = tuple(
            Duel(adversary, critics[adversary.name]) for adversary in stage.adversaries
        )
        self.parts = stage.parts
        self.names = (*self.parts, *(name for duel in self.duels for name in duel.names))
        self.guided = any(term.on == "branch" for term in stage.terms)
        self._losses = tuple(_on_device(term.loss.build(), device) for term in stage.terms)
        self._half = half

    def values(self, sr: Tensor, hr: Tensor, *, gradient: Tensor | None = None) -> list[Tensor]:
        """The generator's values in the order of ``parts``, each a scalar with a graph.

        ``gradient`` is the map that the network's gradient branch predicts.
        """
        found = []
        for term, loss in zip(self.stage.terms, self._losses, strict=True):
            with self._autocast(sr, loss):
                found.append(loss(*_compared(term, sr, hr, gradient)))
        for duel in self.duels:
            heard = sr if duel.adversary.weight else sr.detach()
            with self._autocast(sr, duel.critic):
                found.append(duel.value(heard, hr))
        return found

    def weights(self, step: int) -> list[float]:
        """The weights of ``parts`` at update ``step`` of the stage."""
        terms = [term.weight_at(step) for term in self.stage.terms]
        return terms + [adversary.weight for adversary in self.stage.adversaries]

    def __call__(
        self, sr: Tensor, hr: Tensor, *, step: int, gradient: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The weighted sum (a scalar with a graph) and the values of ``parts``, without one."""
        values = self.values(sr, hr, gradient=gradient)
        return self.total(values, step=step), torch.stack([v.detach().float() for v in values])

    def total(self, values: list[Tensor], *, step: int) -> Tensor:
        """The weighted sum of the generator's values."""
        weighted = (w * value for w, value in zip(self.weights(step), values, strict=True))
        return sum(weighted, values[0].new_zeros(()))

    def judge(
        self, duel: Duel, *, sr: Tensor, hr: Tensor, numbers: Generator
    ) -> tuple[Tensor, Tensor]:
        """``duel.judge`` of SR or the adversary's negatives, in the objective's precision."""
        opposed = duel.opposed(sr, hr, numbers=numbers)
        with self._autocast(sr, duel.critic):
            return duel.judge(opposed, hr, numbers=numbers)

    def _autocast(self, sr: Tensor, network: object) -> torch.autocast:
        """bfloat16 for what holds a network, never for plain arithmetic."""
        holds = isinstance(network, nn.Module) and next(network.parameters(), None) is not None
        return torch.autocast(sr.device.type, torch.bfloat16, enabled=self._half and holds)


def _on_device(loss: Loss, device: torch.device | str) -> Loss:
    return loss.to(device) if isinstance(loss, nn.Module) else loss


def _compared(term: Term, sr: Tensor, hr: Tensor, gradient: Tensor | None) -> tuple[Tensor, Tensor]:
    """What the term compares."""
    if term.on == "picture":
        return sr, hr
    assert gradient is not None
    return gradient, gradient_map(hr)
