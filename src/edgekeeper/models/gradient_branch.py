"""A gradient branch for any network: it predicts where the edges are and tells the network.

The idea is SPSR's (Ma et al., "Structure-Preserving Super Resolution with Gradient Guidance",
CVPR 2020, https://arxiv.org/abs/2003.13081): a second branch turns the gradient map of the LR
image into that of the HR image, and its features are joined with those of the first. SPSR
itself is in ``spsr.py``; here the first branch is whatever has ``features`` and ``reconstruct``:

    g = head(M(lr));  for each tap t, then for the features f:  g = g + step(g, t)
    sr = reconstruct(f + fusion(f, g), lr);  gradient = last(enlarge(g))

M is the length of the central differences. A network that interpolates first (VDSR) gets M of the
interpolated image. Differences from SPSR: a step is two convolutions and not a dense block; the
fusion is at the features' size, before ``reconstruct``, and not at HR size; its last convolution
starts at zero, so that a trained network is not disturbed by the branch put on it.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from math import ceil

import torch
import torch.nn.functional as F  # noqa: N812 - the name everyone knows
from torch import Tensor, nn

from edgekeeper.errors import InputError, check_choice
from edgekeeper.models.base import COLOUR_COUNT, GradientGuided, SRModel, lr_radius
from edgekeeper.models.enlarge import SLOPE, Enlarger
from edgekeeper.ops.gradient import gradient_map
from edgekeeper.ops.resize import imresize
from edgekeeper.spec import Spec


class _Step(nn.Module):
    """g + conv(lrelu(conv(g and tap)))."""

    def __init__(self, width: int, *, tap: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width + tap, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, g: Tensor, tap: Tensor) -> Tensor:
        maps = F.leaky_relu(self.conv1(torch.cat([g, tap], dim=1)), SLOPE)  # (B, F, h, w)
        return g + self.conv2(maps)


class _ReachedError(Exception):
    """The module that enlarges is about to run."""


class PlainBackbone(SRModel):
    """A network on RGB of any class, cut in two in front of its module ``enlarge``.

    It takes LR images and gives images ``scale`` times as large; ``enlarge`` runs once, on the
    deep features. The two halves are found by hooks, so ``reconstruct`` runs the first anew. Its
    receptive field is what its layers (``Conv2d``, pooling) can reach at most. Raises InputError.
    """

    def __init__(self, *, network: nn.Module, scale: int, enlarge: str) -> None:
        super().__init__()
        known = [name for name, _ in network.named_modules() if name]
        check_choice("module of the network", enlarge, known=known)
        self.network, self.enlarge = network, enlarge
        self.scale, self.channels = scale, "rgb"
        self.receptive_field = self._layers_reach()

    def features(self, lr: Tensor) -> Tensor:
        found: list[Tensor] = []

        def keep(maps: Tensor) -> Tensor:
            found.append(maps)
            raise _ReachedError

        with suppress(_ReachedError):
            self.changed(lr, keep)
        return found[0]

    def reconstruct(self, features: Tensor, lr: Tensor) -> Tensor:
        return self.changed(lr, lambda _: features)

    def forward(self, lr: Tensor) -> Tensor:
        sr: Tensor = self.network(lr)
        return sr  # (B, C, rH, rW)

    def changed(self, lr: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
        """Return the SR batch that ``change`` of the features gives; the network runs once."""
        thread = threading.get_ident()

        def hook(_module: nn.Module, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            return (change(given[0]), *given[1:]) if threading.get_ident() == thread else given

        handle = self.network.get_submodule(self.enlarge).register_forward_pre_hook(hook)
        try:
            return self.forward(lr)
        finally:
            handle.remove()

    def _layers_reach(self, side: int = 24) -> int:
        """Run the network once; return how many LR pixels its layers look away, added up."""
        pixels, runs = 0.0, 0

        def count(module: nn.Module, given: tuple[Tensor, ...], _: object) -> None:
            nonlocal pixels, runs
            runs += module is self.network.get_submodule(self.enlarge)
            kernel = getattr(module, "kernel_size", 0)
            kernel = max(kernel) if isinstance(kernel, tuple) else kernel
            dilation = getattr(module, "dilation", 1)
            dilation = max(dilation) if isinstance(dilation, tuple) else dilation
            pixels += dilation * (kernel // 2) * side / given[0].shape[-1] if kernel else 0

        some = next(self.network.parameters())
        lr = torch.zeros(1, 3, side, side, dtype=some.dtype, device=some.device)
        training = self.network.training
        self.network.eval()  # so that no running average changes
        with torch.no_grad(), ExitStack() as stack:
            for module in self.network.modules():
                stack.callback(module.register_forward_hook(count).remove)
            size = self.forward(lr).shape[-1]
        self.network.train(training)
        title = type(self.network).__name__
        if size != side * self.scale:
            raise InputError(
                f"{title} makes {size} of {side} pixels, not {self.scale} times as many: give its "
                "scale. (Interpolate before the network? Then derive it from SRModel.)"
            )
        if runs != 1:
            raise InputError(
                f"{title} runs '{self.enlarge}' {runs} times for an image; name the module that "
                "enlarges, which runs once."
            )
        return ceil(pixels)


class GradientBranch(SRModel):
    """``backbone`` with a gradient branch of ``width`` maps, which reads its ``taps``.

    Args:
        backbone: a network, or the Spec of one; any ``nn.Module`` on RGB with ``scale`` and
            ``enlarge``: its factor, and the name of its module that enlarges the features.
        width: feature maps of the branch.
        taps: modules of the backbone by name (``"blocks.3"``), in the order they run, whose
            results the branch reads; each has the size of the features. The features themselves
            are always read, last.

    Raises InputError.
    """

    def __init__(
        self,
        *,
        backbone: nn.Module | Spec[nn.Module],
        width: int = 32,
        taps: Sequence[str] = (),
        scale: int = 0,
        enlarge: str = "",
    ) -> None:
        super().__init__()
        network = backbone.build() if isinstance(backbone, Spec) else backbone
        if scale and enlarge:
            network = PlainBackbone(network=network, scale=scale, enlarge=enlarge)
            taps = [f"network.{tap}" for tap in taps]
        needed = ("scale", "channels", "receptive_field", "features", "reconstruct")
        missing = [name for name in needed if not hasattr(network, name)]
        if missing:
            raise InputError(
                f"A gradient branch needs {', '.join(missing)} of its backbone, which "
                f"{type(network).__name__} does not have: give scale= and enlarge=, the name of "
                "its module that enlarges; or derive it from SRModel, and split its forward into "
                "features(lr) and reconstruct(features, lr)."
            )
        self.backbone: SRModel = network  # type: ignore[assignment]
        self.taps = tuple(taps)
        self.scale, self.channels = self.backbone.scale, self.backbone.channels
        colours = COLOUR_COUNT[self.channels]
        self.enlarged_first, widths = self._probe(colours)
        self.head = nn.Conv2d(colours, width, 3, padding=1)  # C -> F
        self.steps = nn.ModuleList(_Step(width, tap=tap) for tap in widths)
        self.fusion = nn.Sequential(
            nn.Conv2d(width + widths[-1], width, 3, padding=1),
            nn.LeakyReLU(SLOPE),
            nn.Conv2d(width, widths[-1], 3, padding=1),
        )
        larger = nn.Identity() if self.enlarged_first else Enlarger(width, factor=self.scale)
        self.gradient_tail = nn.Sequential(larger, nn.Conv2d(width, colours, 3, padding=1))
        for parameter in self.fusion[-1].parameters():
            nn.init.zeros_(parameter)
        pixels = 2 * len(self.steps) + 2  # of the features, that the branch looks further
        unit = self.scale if self.enlarged_first else 1
        self.receptive_field = self.backbone.receptive_field + lr_radius(pixels, scale=unit)

    @property
    def overlap(self) -> int:
        """The context of a tile: the backbone's, and as much as the branch looks further."""
        return self.backbone.overlap + self.receptive_field - self.backbone.receptive_field

    def features(self, lr: Tensor) -> Tensor:
        return self._guided(lr)[0]

    def reconstruct(self, features: Tensor, lr: Tensor) -> Tensor:
        return self.backbone.reconstruct(features, lr)  # (B, C, rH, rW)

    def forward(self, lr: Tensor) -> Tensor:
        return self._run(lr)[0]

    def with_gradient(self, lr: Tensor) -> GradientGuided:
        """Return the SR batch and the predicted gradient map of the HR batch."""
        sr, g = self._run(lr)  # (B, C, rH, rW), (B, F, h, w)
        return GradientGuided(sr, self.gradient_tail(g))

    def sr_branch_only(self, lr: Tensor) -> Tensor:
        """The SR batch of the backbone alone: nothing from the branch is added to its features."""
        return self.backbone(lr)

    def _run(self, lr: Tensor) -> tuple[Tensor, Tensor]:
        if not isinstance(self.backbone, PlainBackbone):
            features, g = self._guided(lr)  # (B, *, h, w), (B, F, h, w)
            return self.reconstruct(features, lr), g
        kept: list[Tensor] = []
        with self._tapped() as seen:

            def fuse(features: Tensor) -> Tensor:
                fused, g = self._fused(features, self._ordered(seen), lr=lr)
                kept.append(g)
                return fused

            sr = self.backbone.changed(lr, fuse)
        return sr, kept[0]

    def _guided(self, lr: Tensor) -> tuple[Tensor, Tensor]:
        features, taps = self._run_backbone(lr)  # (B, *, h, w), h = H or rH
        return self._fused(features, taps, lr=lr)

    def _fused(
        self, features: Tensor, taps: Sequence[Tensor], *, lr: Tensor
    ) -> tuple[Tensor, Tensor]:
        image = imresize(lr, scale=self.scale) if self.enlarged_first else lr  # (B, C, h, w)
        g = self.head(gradient_map(image))  # (B, F, h, w)
        for step, tap in zip(self.steps, [*taps, features], strict=True):
            g = step(g, tap)
        return features + self.fusion(torch.cat([features, g], dim=1)), g

    def _run_backbone(self, lr: Tensor) -> tuple[Tensor, list[Tensor]]:
        with self._tapped() as seen:
            features = self.backbone.features(lr)
        return features, self._ordered(seen)

    @contextmanager
    def _tapped(self) -> Iterator[dict[str, Tensor]]:
        """What the tapped modules give meanwhile, by name."""
        seen: dict[str, Tensor] = {}
        thread = threading.get_ident()  # two threads may run one network at the same time

        def keep(name: str, result: Tensor) -> None:
            if threading.get_ident() == thread:
                seen[name] = result

        with ExitStack() as stack:
            for name in self.taps:
                handle = self.backbone.get_submodule(name).register_forward_hook(
                    lambda _module, _given, result, name=name: keep(name, result)
                )
                stack.callback(handle.remove)
            yield seen

    def _ordered(self, seen: Mapping[str, Tensor]) -> list[Tensor]:
        for name in self.taps:
            if not isinstance(seen.get(name), Tensor):
                raise InputError(
                    f"{type(self.backbone).__name__} does not run '{name}' on the way to its "
                    "features, or it gives no maps; choose another tap."
                )
        return [seen[name] for name in self.taps]

    def _probe(self, colours: int) -> tuple[bool, list[int]]:
        """Whether the backbone works at HR size, and how many maps taps and features are."""
        known = [name for name, _ in self.backbone.named_modules() if name]
        for name in self.taps:
            check_choice("module of the backbone", name, known=known)
        some = next(self.backbone.parameters())
        side = 6
        lr = torch.zeros(1, colours, side, side, dtype=some.dtype, device=some.device)
        training = self.backbone.training
        self.backbone.eval()  # so that no running average changes
        with torch.no_grad():
            features, taps = self._run_backbone(lr)  # (B, *, h, w), h = H or rH
        self.backbone.train(training)
        maps = [*taps, features]
        sizes = {tuple(found.shape[-2:]) for found in maps}
        if sizes not in ({(side, side)}, {(self.scale * side, self.scale * side)}):
            raise InputError(
                f"The taps and features of {type(self.backbone).__name__} have the sizes "
                f"{sorted(sizes)} for an image of {side} x {side}; a gradient branch needs all "
                f"of them as large as the image, or all {self.scale} times as large."
            )
        return sizes != {(side, side)}, [found.shape[1] for found in maps]
