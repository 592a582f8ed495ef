"""Naturalness: its images that are not natural, both sides, the discriminator frozen."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from edgekeeper.errors import CheckpointError, InputError, UnavailableError
from edgekeeper.losses import NaturalManifold, Naturalness, Unnatural
from edgekeeper.models import NaturalManifoldDiscriminator
from edgekeeper.ops.resize import imresize
from edgekeeper.spec import spec


def seeded(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def cosines() -> np.ndarray:
    """The transform of eight values from its definition, in float64."""
    basis = np.zeros((8, 8))
    for k in range(8):
        for n in range(8):
            norm = math.sqrt(1 / 8) if k == 0 else math.sqrt(2 / 8)
            basis[k, n] = norm * math.cos(math.pi * k * (2 * n + 1) / 16)
    return basis


class TestNaturalManifold:
    def test_both_sides(self) -> None:
        natural = torch.tensor([1.5, -0.5], dtype=torch.float64)
        unnatural = torch.tensor([-1.0, 0.25, 0.5], dtype=torch.float64)

        def p(logit: Tensor) -> float:
            return 1 / (1 + math.exp(-logit.item()))

        right = sum(-math.log(p(x)) for x in natural) / 2
        wrong = sum(-math.log(1 - p(x)) for x in unnatural) / 3
        both = NaturalManifold()
        assert both.discriminator(natural, unnatural).item() == pytest.approx(
            right + wrong, abs=1e-12
        )
        asked = sum(-math.log(p(x)) for x in unnatural) / 3
        assert both.generator(natural, unnatural).item() == pytest.approx(asked, abs=1e-12)


class TestUnnatural:
    def test_the_first_half_is_blurred(self) -> None:
        hr = torch.rand(2, 3, 32, 24, generator=seeded())
        made = Unnatural(share=0.3)(hr, generator=seeded())
        assert made.shape == (4, 3, 32, 24)
        soft = imresize(imresize(hr, scale=0.25), scale=4)
        torch.testing.assert_close(made[:2], 0.3 * hr + 0.7 * soft)

    def test_a_share_of_zero_is_the_enlarged_image(self) -> None:
        hr = torch.rand(1, 3, 12, 12, generator=seeded())
        expected = imresize(imresize(hr, scale=1 / 3), scale=3)
        torch.testing.assert_close(Unnatural(scale=3, share=0).blurred(hr), expected)

    def test_the_noise_has_the_highest_frequencies_alone(self) -> None:
        hr = torch.full((1, 3, 64, 96), 0.5, dtype=torch.float64)
        noisy = Unnatural(deviation=0.2).noisy(hr, generator=seeded())
        field = (noisy - hr).numpy().reshape(3, 8, 8, 12, 8).transpose(0, 1, 3, 2, 4)
        basis = cosines()
        found = basis @ field @ basis.T
        assert np.abs(found[..., :7, :7]).max() < 1e-6
        for part in (found[..., 7, :], found[..., :7, 7]):  # 288 blocks each
            assert abs(part.std() / 0.2 - 1) < 4 / math.sqrt(2 * part.size)
            assert abs(part.mean()) < 4 * 0.2 / math.sqrt(part.size)

    @pytest.mark.parametrize("size", [(1, 1), (5, 17), (20, 8)])
    def test_any_size(self, size: tuple[int, int]) -> None:
        hr = torch.rand(2, 1, *size, generator=seeded())
        made = Unnatural()(hr, generator=seeded())
        assert made.shape == (4, 1, *size) and made.dtype == hr.dtype
        assert (made[2:] != hr).any()

    def test_it_can_be_repeated(self) -> None:
        hr = torch.rand(1, 3, 16, 16, generator=seeded())
        first, again = (Unnatural()(hr, generator=seeded(7)) for _ in range(2))
        assert torch.equal(first, again)
        assert not torch.equal(first, Unnatural()(hr, generator=seeded(8)))

    def test_harder_is_nearer_to_the_image(self) -> None:
        hr = torch.rand(1, 3, 32, 32, generator=seeded())
        easy, hard = Unnatural(), Unnatural().harder()
        assert (hard.share, hard.deviation) == (0.6, pytest.approx(0.08))
        for which in (0, 1):
            far, near = (u(hr, generator=seeded())[which : which + 1] - hr for u in (easy, hard))
            assert near.norm() < 0.9 * far.norm()

    def test_it_never_reaches_the_image(self) -> None:
        hardest = Unnatural()
        for _ in range(20):
            hardest = hardest.harder()
        assert hardest.share == 0.9 and 0 < hardest.deviation < 0.002
        assert Unnatural(share=0.95).harder().share == 0.95

    @pytest.mark.parametrize(
        ("arguments", "sentence"),
        [
            ({"share": 1.0}, "'share' is 1.0; it must be 0 or more and below 1"),
            ({"share": -0.1}, "'share' is -0.1"),
            ({"deviation": 0.0}, "'deviation' is 0.0; it must be a finite number above 0"),
            ({"scale": 0}, "'scale' is 0"),
        ],
    )
    def test_what_makes_no_sense_is_refused(
        self, arguments: dict[str, float], sentence: str
    ) -> None:
        with pytest.raises(InputError, match=sentence):
            Unnatural(**arguments)  # type: ignore[arg-type]

    def test_it_takes_floats(self) -> None:
        with pytest.raises(InputError, match=r"of torch\.uint8"):
            Unnatural()(torch.zeros(1, 3, 8, 8, dtype=torch.uint8), generator=seeded())


def discriminator() -> NaturalManifoldDiscriminator:
    torch.manual_seed(4)
    return NaturalManifoldDiscriminator(width=2)


class TestNaturalness:
    def test_it_is_the_entropy_of_the_logits(self) -> None:
        network = discriminator().double()
        sr = torch.rand(2, 3, 24, 20, generator=seeded(), dtype=torch.float64)
        loss = Naturalness(discriminator=network)(sr, torch.zeros_like(sr))
        expected = (1 + (-network(sr)).exp()).log().mean()
        torch.testing.assert_close(loss, expected)

    def test_the_discriminator_is_held_still(self) -> None:
        network = nn.Sequential(discriminator(), nn.Dropout(0.9))
        loss = Naturalness(discriminator=network)
        assert not any(p.requires_grad for p in loss.parameters())
        assert loss.train() is loss and not network.training and not network[1].training
        sr = torch.rand(1, 3, 16, 16, generator=seeded(), requires_grad=True)
        loss(sr, sr.detach()).backward()
        assert sr.grad is not None and sr.grad.abs().max() > 0
        assert all(p.grad is None for p in loss.parameters())

    def test_a_step_against_the_gradient_is_more_natural(self) -> None:
        network = discriminator()
        loss = Naturalness(discriminator=network)
        sr = torch.rand(1, 3, 16, 16, generator=seeded(), requires_grad=True)
        value = loss(sr, sr.detach())
        (slope,) = torch.autograd.grad(value, sr)
        moved = (sr - 0.01 * slope / slope.norm()).detach()
        assert loss(moved, moved) < value
        assert network(moved) > network(sr)

    def test_from_a_spec_and_a_file(self, tmp_path: Path) -> None:
        network, path = discriminator(), tmp_path / "natural.safetensors"
        save_file(network.state_dict(), path)
        described = spec(
            Naturalness, discriminator=spec(NaturalManifoldDiscriminator, width=2), weights=path
        )
        sr = torch.rand(1, 3, 16, 16, generator=seeded())
        torch.testing.assert_close(
            described.build()(sr, sr), Naturalness(discriminator=network)(sr, sr)
        )

    def test_a_spec_needs_weights(self) -> None:
        with pytest.raises(InputError, match="needs 'weights', the file of a trained one"):
            Naturalness(discriminator=spec(NaturalManifoldDiscriminator, width=2))

    def test_files_that_are_not_there_or_do_not_fit(self, tmp_path: Path) -> None:
        path = tmp_path / "natural.safetensors"
        with pytest.raises(UnavailableError, match=r"natural\.safetensors' with a trained"):
            Naturalness(discriminator=discriminator(), weights=path)
        save_file({"last.bias": torch.zeros(1)}, path)
        with pytest.raises(CheckpointError, match=r"weights of this NaturalManifoldD.*Missing key"):
            Naturalness(discriminator=discriminator(), weights=path)
        path.write_bytes(b"no weights")
        with pytest.raises(CheckpointError, match="does not hold the weights"):
            Naturalness(discriminator=discriminator(), weights=path)

    def test_images_that_do_not_fit(self) -> None:
        loss = Naturalness(discriminator=discriminator())
        with pytest.raises(InputError, match="both must be equal"):
            loss(torch.rand(1, 3, 16, 16), torch.rand(1, 3, 16, 20))
        with pytest.raises(InputError, match="16 pixels a side or more"):
            loss(torch.rand(1, 3, 8, 8), torch.rand(1, 3, 8, 8))


def squares(generator: torch.Generator, *, batch: int = 8) -> Tensor:
    """Images with sharp edges and no noise: squares on flat ground."""
    images = torch.rand(batch, 3, 1, 1, generator=generator).expand(-1, -1, 32, 32).clone()
    for image in images:
        for _ in range(6):
            top, left = torch.randint(0, 24, (2,), generator=generator).tolist()
            side = int(torch.randint(4, 12, (1,), generator=generator))
            colour = torch.rand(3, 1, 1, generator=generator)
            image[:, top : top + side, left : left + side] = colour
    return images


def test_a_discriminator_learns_to_tell_and_then_guides() -> None:
    torch.manual_seed(0)
    network, generator = NaturalManifoldDiscriminator(width=4), seeded(0)
    both, unnatural = NaturalManifold(), Unnatural(share=0.2, deviation=0.3)
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    for _ in range(50):
        hr = squares(generator)
        loss = both.discriminator(network(hr), network(unnatural(hr, generator=generator)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    hr = squares(generator, batch=32)
    asks = Naturalness(discriminator=network)
    with torch.no_grad():
        blurred, noisy = unnatural(hr, generator=generator).chunk(2)
        natural, soft, rough = (asks(x, x).item() for x in (hr, blurred, noisy))
    assert natural < 0.5 * min(soft, rough)
