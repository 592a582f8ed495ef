"""Adversarial losses: what a generator and its discriminator make small.

Each has two sides, ``generator(real, fake)`` and ``discriminator(real, fake)``, on the logits (no
sigmoid) of HR and SR images, in float32 at least. Training calls ``generator_loss`` and
``discriminator_loss``, which take the network and the images it looks at.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional

from edgekeeper.errors import InputError, check_choice
from edgekeeper.losses.check import as_float32_or_more

LogitsOf = Callable[[Tensor], Tensor]  # images (B, C, H, W) -> logits (B, 1)
Sum = Literal["half", "whole"]


class AdversarialLoss(ABC):
    """Both sides of one adversarial loss. ``relativistic``: the generator's looks at HR too.

    ``recordable``: chance decides tensors alone, so that a CUDA graph can hold an update.
    """

    relativistic: ClassVar[bool] = False
    recordable: ClassVar[bool] = True

    @abstractmethod
    def generator(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return the generator's loss of the logits of HR and SR, a scalar."""

    @abstractmethod
    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return the discriminator's loss of the logits of HR and SR, a scalar."""

    def generator_loss(self, network: LogitsOf, *, real: Tensor, fake: Tensor) -> Tensor:
        """Return the generator's loss of images (B, C, H, W); its graph goes through ``fake``."""
        fake_logits = real_logits = network(fake)
        if self.relativistic:
            with torch.no_grad():
                real_logits = network(real)
        return self.generator(real_logits, fake_logits)

    def discriminator_loss(
        self, network: LogitsOf, *, real: Tensor, fake: Tensor, rng: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the discriminator's loss of images without a graph, and scalars for the log.

        ``rng``, of the CPU or the images' device, gives what is drawn at random.
        """
        real_logits, fake_logits = network(real), network(fake)
        loss = self.discriminator(real_logits, fake_logits)
        return loss, {"discriminator": loss, "real": real_logits.mean(), "fake": fake_logits.mean()}


class RelativisticGAN(AdversarialLoss):
    """The relativistic average GAN: HR is to look more real than the mean SR, and SR less.

    With l binary cross-entropy on logits, R = real - mean(fake) and F = fake - mean(real):
    discriminator = w (mean l(R, 1) + mean l(F, 0)), generator = w (mean l(R, 0) + mean l(F, 1)).

    ``total`` "half": w = 1/2, the code of ESRGAN and SPSR, to which their weight 0.005 belongs;
    "whole": w = 1, as ESRGAN's paper prints it. InputError for others. The discriminator's gradient
    goes through the means, as in SPSR's code.

    Source: Jolicoeur-Martineau, ICLR 2019; Wang et al., "ESRGAN", ECCV workshops 2018, eqs. 1, 2.
    """

    relativistic = True

    def __init__(self, *, total: Sum = "half") -> None:
        check_choice("total of the relativistic loss", total, known=get_args(Sum))
        self.weight = 0.5 if total == "half" else 1.0  # code; paper

    def generator(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return the generator's loss (ESRGAN, eq. 2); its gradient goes to ``fake`` only."""
        real, fake = check_logits(real.detach(), fake)  # (B, 1) each
        return self.weight * (
            _entropy(real - fake.mean(), label=0.0) + _entropy(fake - real.mean(), label=1.0)
        )

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return the discriminator's loss (ESRGAN, eq. 1)."""
        real, fake = check_logits(real, fake)  # (B, 1) each
        return self.weight * (  # means over the batch
            _entropy(real - fake.mean(), label=1.0) + _entropy(fake - real.mean(), label=0.0)
        )


class VanillaGAN(AdversarialLoss):
    """The first GAN, with the generator's loss that does not saturate.

    discriminator = mean l(real, 1) + mean l(fake, 0), generator = mean l(fake, 1), l as above.
    Source: Goodfellow et al., "Generative Adversarial Nets", NeurIPS 2014; SRGAN; SPSR, eqs. 5, 6.
    """

    def generator(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return the generator's loss; ``real`` does not matter."""
        return _entropy(check_logits(real, fake)[1], label=1.0)  # -mean log D(fake)

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return the discriminator's loss."""
        real, fake = check_logits(real, fake)  # (B, 1) each
        return _entropy(real, label=1.0) + _entropy(fake, label=0.0)


def check_logits(real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    """Return both in float32 or more; InputError unless they are floats that are not empty."""
    for name, tensor in (("real", real), ("fake", fake)):
        if not tensor.is_floating_point() or tensor.numel() == 0:
            got = f"{tuple(tensor.shape)} of {tensor.dtype}"
            raise InputError(f"'{name}' must be a discriminator's logits, floats; got {got}.")
    return as_float32_or_more(real), as_float32_or_more(fake)


def _entropy(logits: Tensor, *, label: float) -> Tensor:
    """Return the mean binary cross-entropy of ``logits`` against one label."""
    return functional.binary_cross_entropy_with_logits(logits, torch.full_like(logits, label))
