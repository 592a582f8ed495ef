"""The weighted terms and the adversaries of a stage at work."""

from collections.abc import Mapping

import torch
from torch import Generator, Tensor, nn

from edgekeeper.losses import VanillaGAN, WassersteinGP
from edgekeeper.ops.gradient import gradient_map
from edgekeeper.training.recipe import Adversary, Loss, Stage, Term


class AdversarialTerm:
    """One adversary with its discriminator: both sides of the game.

    Attributes:
        discriminator: the network that learns.
        names: what ``judge`` measures: the discriminator's loss, the mean logits of HR and of what
            it is to tell from HR, and the gradient penalty where there is one.
    """

    def __init__(self, adversary: Adversary, discriminator: nn.Module) -> None:
        self.adversary, self.discriminator = adversary, discriminator
        self.loss = adversary.loss.build()
        self._negatives = adversary.negatives.build() if adversary.negatives else None
        measured = ["discriminator", "real", "fake"]
        if isinstance(self.loss, WassersteinGP):
            measured.append("penalty")
        self.names = tuple(f"{adversary.name}.{name}" for name in measured)

    def value(self, sr: Tensor, hr: Tensor) -> Tensor:
        """The generator's side, a scalar not weighted; its graph goes through ``sr`` alone."""
        fake = self.discriminator(self._seen(sr))
        if isinstance(self.loss, VanillaGAN | WassersteinGP):
            return self.loss.generator(fake, fake)  # which does not look at the first
        with torch.no_grad():
            real = self.discriminator(self._seen(hr))
        return self.loss.generator(real, fake)

    def opposed(self, sr: Tensor, hr: Tensor, *, numbers: Generator) -> Tensor:
        """Return what is to be told from HR, without a graph: SR, or the adversary's negatives."""
        return sr.detach() if self._negatives is None else self._negatives(hr, generator=numbers)

    def judge(self, opposed: Tensor, hr: Tensor, *, numbers: Generator) -> tuple[Tensor, Tensor]:
        """Return the discriminator's loss, with a graph, and the values of ``names``, without one.

        ``numbers`` (of the CPU) give the shares that mix the images of the gradient penalty. It
        is part of the loss with a graph, and a value of its own beside the loss without it.
        """
        seen_hr, seen_fake = self._seen(hr), self._seen(opposed)
        real, fake = self.discriminator(seen_hr), self.discriminator(seen_fake)
        loss = self.loss.discriminator(real, fake)
        measured = [loss, real.mean(), fake.mean()]
        if isinstance(self.loss, WassersteinGP):
            shares = torch.rand(len(hr), generator=numbers)
            if hr.is_cuda:  # so that the copy does not wait
                shares = shares.pin_memory()
            shares = shares.to(hr.device, non_blocking=True)
            penalty = self.loss.penalty(
                self.discriminator, real=seen_hr, fake=seen_fake, shares=shares
            )
            loss = loss + self.loss.penalty_weight * penalty
            measured.append(penalty)
        return loss, torch.stack([value.detach().float() for value in measured])

    def _seen(self, images: Tensor) -> Tensor:
        if self.adversary.sees == "image":
            return images
        return gradient_map(images, padding=1 if self.adversary.sees == "gradient" else 2)


class Objective:
    """The terms and adversaries of one stage, built.

    Attributes:
        parts: the names of the terms and then of the adversaries.
        names: ``parts``, and what each discriminator measures.
        guided: whether a term looks at what the network's gradient branch predicts.
    """

    def __init__(
        self,
        stage: Stage,
        *,
        discriminators: Mapping[str, nn.Module] | None = None,
        device: torch.device | str = "cpu",
        bfloat16: bool = False,
    ) -> None:
        """``bfloat16``: networks inside terms, and discriminators, compute in it where they can."""
        self.stage = stage
        discriminators = discriminators or {}
        self.adversarial_terms = tuple(
            AdversarialTerm(adversary, discriminators[adversary.name])
            for adversary in stage.adversaries
        )
        self.parts = stage.parts
        self.names = (
            *self.parts,
            *(name for adversarial in self.adversarial_terms for name in adversarial.names),
        )
        self.guided = any(term.on == "branch" for term in stage.terms)
        self._losses = tuple(_on_device(term.loss.build(), device) for term in stage.terms)
        self._bfloat16 = bfloat16

    def values(self, sr: Tensor, hr: Tensor, *, gradient: Tensor | None = None) -> list[Tensor]:
        """Return the generator's values in the order of ``parts``, each a scalar with a graph.

        ``gradient`` is the map that the network's gradient branch predicts.
        """
        found = []
        for term, loss in zip(self.stage.terms, self._losses, strict=True):
            with self._autocast(sr, loss):
                found.append(loss(*_compared(term, sr, hr, gradient)))
        for adversarial in self.adversarial_terms:
            seen = sr if adversarial.adversary.weight else sr.detach()
            with self._autocast(sr, adversarial.discriminator):
                found.append(adversarial.value(seen, hr))
        return found

    def weights(self, step: int) -> list[float]:
        """Return the weights of ``parts`` at update ``step`` of the stage."""
        terms = [term.weight_at(step) for term in self.stage.terms]
        return terms + [adversary.weight for adversary in self.stage.adversaries]

    def __call__(
        self, sr: Tensor, hr: Tensor, *, step: int, gradient: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The weighted sum (a scalar with a graph) and the values of ``parts``, without one."""
        values = self.values(sr, hr, gradient=gradient)
        return self.total(values, step=step), torch.stack([v.detach().float() for v in values])

    def total(self, values: list[Tensor], *, step: int) -> Tensor:
        """Return the weighted sum of the generator's values."""
        weighted = (w * value for w, value in zip(self.weights(step), values, strict=True))
        return sum(weighted, values[0].new_zeros(()))

    def judge(
        self, adversarial: AdversarialTerm, *, sr: Tensor, hr: Tensor, numbers: Generator
    ) -> tuple[Tensor, Tensor]:
        """Return ``adversarial.judge`` of SR or the negatives, in the objective's precision."""
        opposed = adversarial.opposed(sr, hr, numbers=numbers)
        with self._autocast(sr, adversarial.discriminator):
            return adversarial.judge(opposed, hr, numbers=numbers)

    def _autocast(self, sr: Tensor, network: object) -> torch.autocast:
        """bfloat16 for what holds a network, never for plain arithmetic."""
        holds = isinstance(network, nn.Module) and next(network.parameters(), None) is not None
        return torch.autocast(sr.device.type, torch.bfloat16, enabled=self._bfloat16 and holds)


def _on_device(loss: Loss, device: torch.device | str) -> Loss:
    return loss.to(device) if isinstance(loss, nn.Module) else loss


def _compared(term: Term, sr: Tensor, hr: Tensor, gradient: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return what the term compares."""
    if term.on == "image":
        return sr, hr
    assert gradient is not None
    return gradient, gradient_map(hr)
