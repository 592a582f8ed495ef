"""Losses of generators and discriminators, on logits (one or more an image, no sigmoid).

All have the same two sides: ``generator(real, fake)`` and ``discriminator(real, fake)``, both
scalars to be made small. ``real`` and ``fake`` are the discriminator's logits of HR and SR images;
for the discriminator's side the SR images are detached from the generator. Half precision is
computed in float32.
"""

from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional

from edgekeeper.errors import InputError
from edgekeeper.losses.check import as_float32_or_more, check_choice, check_positive

Means = Literal["attached", "detached"]
Sum = Literal["half", "whole"]


class RelativisticGAN:
    """The relativistic average GAN: HR is to look more real than the mean SR, and SR less.

    With l binary cross-entropy on logits, R = real - mean(fake) and F = fake - mean(real):
    discriminator = w (mean l(R, 1) + mean l(F, 0)), generator = w (mean l(R, 0) + mean l(F, 1)).

    - ``total`` "half": w = 1/2, the code of ESRGAN and SPSR, to which their weight 0.005
      belongs; "whole": w = 1, as ESRGAN's paper prints it.
    - ``means`` on the discriminator's side: "attached" lets the gradient through them (SPSR's
      code), "detached" does not (BasicSR's). Same values.

    The generator's side detaches ``real``. Source: Jolicoeur-Martineau, "The relativistic
    discriminator", ICLR 2019; Wang et al., "ESRGAN", ECCV workshops 2018, eqs. 1, 2.
    """

    def __init__(self, *, total: Sum = "half", means: Means = "attached") -> None:
        check_choice("total of the relativistic loss", total, known=get_args(Sum))
        check_choice("treatment of the means", means, known=get_args(Means))
        self.total, self.means = total, means

    def generator(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return the generator's loss; its gradient goes to ``fake`` only."""
        real, fake = _logits(real.detach(), fake)  # (B, 1) each
        return self._weight * (
            # eq. 2
            _entropy(real - fake.mean(), label=0.0) + _entropy(fake - real.mean(), label=1.0)
        )

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return the discriminator's loss."""
        real, fake = _logits(real, fake)  # (B, 1) each
        mean_real, mean_fake = real.mean(), fake.mean()  # over the batch
        if self.means == "detached":
            mean_real, mean_fake = mean_real.detach(), mean_fake.detach()
        return self._weight * (
            _entropy(real - mean_fake, label=1.0) + _entropy(fake - mean_real, label=0.0)  # eq. 1
        )

    @property
    def _weight(self) -> float:
        return 0.5 if self.total == "half" else 1.0  # code; paper


class VanillaGAN:
    """The first GAN, with the generator's loss that does not saturate.

    discriminator = mean l(real, 1) + mean l(fake, 0), generator = mean l(fake, 1), l as above.
    Source: Goodfellow et al., "Generative Adversarial Nets", NeurIPS 2014; SRGAN; SPSR, eqs. 5, 6.
    """

    def generator(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return the generator's loss; ``real`` does not matter."""
        return _entropy(_logits(real, fake)[1], label=1.0)  # -mean log D(fake)

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return the discriminator's loss."""
        real, fake = _logits(real, fake)  # (B, 1) each
        return _entropy(real, label=1.0) + _entropy(fake, label=0.0)  # SPSR, eq. 6


class WassersteinGP:
    """The Wasserstein GAN: a critic held to a slope of 1 by a gradient penalty.

    discriminator = mean(fake) - mean(real), generator = -mean(fake). The discriminator's side also
    needs ``penalty``, times ``penalty_weight``. No normalisation across the batch in the
    discriminator: the penalty is about each image alone. Source: Gulrajani et al., "Improved
    Training of Wasserstein GANs", NeurIPS 2017, algorithm 1; DGGGAN, eq. 10, corrected (there the
    generated images stand in both means and the square is outside the penalty's mean).
    """

    def __init__(self, *, penalty_weight: float = 10.0) -> None:
        check_positive("penalty_weight", penalty_weight)
        self.penalty_weight = penalty_weight

    def generator(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return the generator's loss; ``real`` does not matter."""
        return -_logits(real, fake)[1].mean()  # scalar

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return the discriminator's loss without the penalty."""
        real, fake = _logits(real, fake)  # (B, 1) each
        return fake.mean() - real.mean()  # eq. 10 of DGGGAN

    def penalty(
        self,
        discriminator: Callable[[Tensor], Tensor],
        *,
        real: Tensor,
        fake: Tensor,
        shares: Tensor,
    ) -> Tensor:
        """Mean over images of (|slope| - 1)², not weighted; its graph reaches the discriminator.

        The slope is the derivative of the discriminator at share · real + (1 - share) · fake; its
        length is taken over all channels and pixels of an image.

        discriminator: images -> logits. real, fake: images (B, ...) of one shape; no gradient goes
        to them. shares: (B,) in [0, 1], uniform and one per image, drawn by the caller, so that
        a run can be repeated. Raises InputError.
        """
        if real.shape != fake.shape or real.ndim < 2:
            raise InputError(
                f"The penalty mixes images of one shape (B, ...); got {tuple(real.shape)} and "
                f"{tuple(fake.shape)}."
            )
        if shares.shape != real.shape[:1]:
            raise InputError(
                f"The penalty takes one share per image, ({real.shape[0]},); got "
                f"{tuple(shares.shape)}."
            )
        hr = as_float32_or_more(real.detach())  # (B, ...)
        sr = as_float32_or_more(fake.detach())
        share = shares.to(hr).view(-1, *[1] * (real.ndim - 1))  # (B, 1, 1, 1)
        mixed = (share * hr + (1 - share) * sr).requires_grad_()  # a point between, (B, ...)
        # A slope has too few digits in half precision to be held to 1.
        with torch.enable_grad(), torch.autocast(mixed.device.type, enabled=False):
            # (B, ...)
            (slope,) = torch.autograd.grad(discriminator(mixed).sum(), mixed, create_graph=True)
            length = torch.linalg.vector_norm(slope.flatten(1), dim=1)  # (B,)
            penalty: Tensor = (length - 1).square().mean()
            return penalty


def _logits(real: Tensor, fake: Tensor) -> tuple[Tensor, Tensor]:
    """Both in float32 or more; InputError unless they are floats that are not empty."""
    for name, tensor in (("real", real), ("fake", fake)):
        if not tensor.is_floating_point() or tensor.numel() == 0:
            raise InputError(
                f"'{name}' must be the discriminator's logits, at least one float; got "
                f"{tuple(tensor.shape)} of {tensor.dtype}."
            )
    return as_float32_or_more(real), as_float32_or_more(fake)


def _entropy(logits: Tensor, *, label: float) -> Tensor:
    """Mean binary cross-entropy of ``logits`` against one label."""
    return functional.binary_cross_entropy_with_logits(logits, torch.full_like(logits, label))
