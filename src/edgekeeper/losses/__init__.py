"""Losses: each is called ``loss(sr, hr)`` and gives one scalar; none has weights inside.

Those of a generator and its discriminator have two sides instead, ``generator`` and
``discriminator``.
"""

from edgekeeper.losses.adversarial import AdversarialLoss, RelativisticGAN, VanillaGAN
from edgekeeper.losses.aligned_variance import AlignedVariance
from edgekeeper.losses.frequency import FocalFrequency, Wavelet
from edgekeeper.losses.gradient import Gradient
from edgekeeper.losses.gradient_variance import GradientVariance
from edgekeeper.losses.ldl import LDL
from edgekeeper.losses.natural import NaturalManifold, Naturalness, Unnatural
from edgekeeper.losses.perceptual import Perceptual
from edgekeeper.losses.pixel import L1, L2, AutoEncoded, Charbonnier, PhasePattern
from edgekeeper.losses.ssim import SSIM
from edgekeeper.losses.taught import AutoEncoding, NeuralStructure, StructureTasks
from edgekeeper.losses.total_variation import TV
from edgekeeper.losses.wasserstein import WassersteinGP

__all__ = ["L1", "L2", "LDL", "SSIM", "TV", "AdversarialLoss", "AlignedVariance", "AutoEncoded"]
__all__ += ["AutoEncoding", "Charbonnier", "FocalFrequency", "Gradient", "GradientVariance"]
__all__ += ["NaturalManifold", "Naturalness", "NeuralStructure", "Perceptual", "PhasePattern"]
__all__ += [
    "RelativisticGAN",
    "StructureTasks",
    "Unnatural",
    "VanillaGAN",
    "WassersteinGP",
    "Wavelet",
]
