"""The Wasserstein GAN with gradient penalty."""

import torch
from torch import Tensor

from edgekeeper.errors import InputError
from edgekeeper.losses.adversarial import AdversarialLoss, LogitsOf, check_logits
from edgekeeper.losses.check import as_float32_or_more, check_positive


class WassersteinGP(AdversarialLoss):
    """The Wasserstein GAN: a critic held to a slope of 1 by a gradient penalty.

    discriminator = mean(fake) - mean(real), generator = -mean(fake); ``discriminator_loss`` adds
    ``penalty_weight`` times ``penalty``. No normalisation across the batch in the discriminator:
    the penalty is about each image alone. Source: Gulrajani et al., "Improved Training of
    Wasserstein GANs", NeurIPS 2017, algorithm 1; DGGGAN, eq. 10, corrected (there the generated
    images stand in both means and the square is outside the penalty's mean).
    """

    def __init__(self, *, penalty_weight: float = 10.0) -> None:
        check_positive("penalty_weight", penalty_weight)
        self.penalty_weight = penalty_weight

    def generator(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return the generator's loss; ``real`` does not matter."""
        return -check_logits(real, fake)[1].mean()

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """Return the discriminator's loss without the penalty."""
        real, fake = check_logits(real, fake)  # (B, 1) each
        return fake.mean() - real.mean()  # DGGGAN, eq. 10

    def discriminator_loss(
        self, network: LogitsOf, *, real: Tensor, fake: Tensor, rng: torch.Generator
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss with the penalty, and scalars for the log: the loss without it first."""
        loss, logged = super().discriminator_loss(network, real=real, fake=fake, rng=rng)
        shares = torch.rand(len(real), generator=rng, device=rng.device)  # (B,)
        penalty = self.penalty(network, real=real, fake=fake, shares=shares)
        return loss + self.penalty_weight * penalty, {**logged, "penalty": penalty}  # lambda 10

    def penalty(self, network: LogitsOf, *, real: Tensor, fake: Tensor, shares: Tensor) -> Tensor:
        """Return the mean over images of (|slope| - 1)²; its graph reaches the network alone.

        The slope is the derivative of the network at share · real + (1 - share) · fake; its length
        is taken over all channels and pixels of an image.

        real, fake: images (B, ...) of one shape. shares: (B,) in [0, 1], uniform and one per image,
        drawn by the caller, so that a run can be repeated. Raises InputError.
        """
        if real.shape != fake.shape or real.ndim < 2:
            raise InputError(
                f"The penalty mixes images of one shape (B, ...); got {tuple(real.shape)} and "
                f"{tuple(fake.shape)}."
            )
        if shares.shape != real.shape[:1]:
            raise InputError(
                f"The penalty takes one share per image, ({len(real)},); got {tuple(shares.shape)}."
            )
        real, fake = as_float32_or_more(real.detach()), as_float32_or_more(fake.detach())
        share = shares.to(real).view(-1, *[1] * (real.ndim - 1))  # (B, 1, 1, 1)
        mixed = (share * real + (1 - share) * fake).requires_grad_()  # (B, C, H, W)
        # A slope has too few digits in half precision to be held to 1.
        with torch.enable_grad(), torch.autocast(mixed.device.type, enabled=False):
            (slope,) = torch.autograd.grad(network(mixed).sum(), mixed, create_graph=True)
            length = torch.linalg.vector_norm(slope.flatten(1), dim=1)  # (B,)
            return (length - 1).square().mean()
