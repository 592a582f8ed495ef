import math

import pytest
import torch
from torch import Tensor, nn

from edgekeeper.errors import InputError
from edgekeeper.losses import RelativisticGAN, WassersteinGP
from edgekeeper.losses.adversarial import VanillaGAN

# Logits and losses: an independent numpy script; the relativistic ones equal those of SPSR's loss
# modules (commit 881e781) to 1e-16, the penalty that of its GradientPenaltyLoss exactly.
REAL = torch.tensor([1.5, -0.5, 2.0], dtype=torch.float64)
FAKE = torch.tensor([-1.0, 0.25, 0.5], dtype=torch.float64)


class TestRelativisticGAN:
    def test_published_values(self) -> None:
        half = RelativisticGAN()
        assert half.discriminator(REAL, FAKE).item() == pytest.approx(
            0.36916233222900785, abs=1e-12
        )
        assert half.generator(REAL, FAKE).item() == pytest.approx(1.452495665562341, abs=1e-12)
        whole = RelativisticGAN(total="whole")
        assert whole.discriminator(REAL, FAKE).item() == pytest.approx(
            0.7383246644580157, abs=1e-12
        )
        assert whole.generator(REAL, FAKE).item() == pytest.approx(2.904991331124682, abs=1e-12)

    def test_equal_constant_logits_give_log_two(self) -> None:
        logits = torch.full((4, 1), 0.7, dtype=torch.float64)
        gan = RelativisticGAN()
        assert gan.discriminator(logits, logits).item() == pytest.approx(math.log(2), abs=1e-15)
        assert gan.generator(logits, logits).item() == pytest.approx(math.log(2), abs=1e-15)

    def test_the_generator_s_gradient_goes_to_the_fake_only(self) -> None:
        real, fake = REAL.clone().requires_grad_(), FAKE.clone().requires_grad_()
        RelativisticGAN().generator(real, fake).backward()
        assert real.grad is None
        assert fake.grad is not None
        assert fake.grad.max().item() < 0  # higher logits of SR are better

    def test_the_discriminator_s_gradient_goes_through_the_means(self) -> None:
        real = REAL.clone().requires_grad_()
        RelativisticGAN().discriminator(real, FAKE).backward()
        # 1/2 d/dr of mean l(r - mean f, 1), and of mean l(f - mean r, 0) through the mean
        alone = (torch.sigmoid(REAL - FAKE.mean()) - 1) / 6
        through = torch.sigmoid(FAKE - REAL.mean()).mean() / 6
        assert real.grad is not None and torch.allclose(real.grad, alone - through, atol=1e-15)

    def test_gradient_in_float64(self) -> None:
        inputs = REAL.clone().requires_grad_(), FAKE.clone().requires_grad_()
        assert torch.autograd.gradcheck(RelativisticGAN().discriminator, inputs)
        assert torch.autograd.gradcheck(lambda f: RelativisticGAN().generator(REAL, f), inputs[1:])

    def test_large_logits_stay_finite(self) -> None:
        logits = torch.tensor([3e4], dtype=torch.float32)
        assert RelativisticGAN().generator(logits, -logits).item() == pytest.approx(6e4)

    def test_unknown_options(self) -> None:
        with pytest.raises(InputError, match="half"):
            RelativisticGAN(total="double")  # type: ignore[arg-type]


def test_vanilla_values() -> None:
    gan = VanillaGAN()
    assert gan.discriminator(REAL, FAKE).item() == pytest.approx(1.1385654549276683, abs=1e-12)
    assert gan.generator(REAL, FAKE).item() == pytest.approx(0.7877593638590575, abs=1e-12)


@pytest.mark.parametrize("gan", [RelativisticGAN(), VanillaGAN(), WassersteinGP()])
class TestAnyGAN:
    def test_half_precision_is_computed_in_float32(
        self, gan: RelativisticGAN | VanillaGAN | WassersteinGP
    ) -> None:
        real, fake = REAL.bfloat16(), FAKE.bfloat16()
        for side in (gan.discriminator, gan.generator):
            found = side(real, fake)
            assert found.dtype == torch.float32
            assert found.item() == side(real.float(), fake.float()).item()

    def test_refused_logits(self, gan: RelativisticGAN | VanillaGAN | WassersteinGP) -> None:
        with pytest.raises(InputError, match="'fake'"):
            gan.discriminator(REAL, FAKE[:0])
        with pytest.raises(InputError, match="int64"):
            gan.generator(REAL, FAKE.long())


THEIRS = torch.tensor([[1.0, 0, 2, 1], [0, 1, 1, -1]], dtype=torch.float64)
OURS = torch.tensor([[0.0, 0, 1, 1], [2, 1, 0, 0]], dtype=torch.float64)
SHARES = torch.tensor([0.25, 0.75], dtype=torch.float64)
WEIGHTS = torch.tensor([0.6, -0.3, 0.2, 0.7], dtype=torch.float64)


def linear(x: Tensor) -> Tensor:
    return x @ WEIGHTS


def quadratic(x: Tensor) -> Tensor:
    return 0.5 * x.square().sum(1, keepdim=True)


class TestWassersteinGP:
    def test_linear_discriminator(self) -> None:
        gan = WassersteinGP()
        penalty = gan.penalty(linear, real=THEIRS, fake=OURS, shares=SHARES)
        assert penalty.item() == pytest.approx(0.000101012677666933, abs=1e-12)
        discriminator = (
            gan.discriminator(linear(THEIRS), linear(OURS)) + gan.penalty_weight * penalty
        )
        assert discriminator.item() == pytest.approx(0.4510101267766693, abs=1e-12)
        assert gan.generator(linear(THEIRS), linear(OURS)).item() == pytest.approx(-0.9, abs=1e-12)

    def test_quadratic_discriminator(self) -> None:
        gan = WassersteinGP()
        penalty = gan.penalty(quadratic, real=THEIRS, fake=OURS, shares=SHARES)
        assert penalty.item() == pytest.approx(0.3387113246557908, abs=1e-12)
        discriminator = gan.discriminator(quadratic(THEIRS), quadratic(OURS)) + 10 * penalty
        assert discriminator.item() == pytest.approx(2.8871132465579077, abs=1e-12)

    def test_the_length_is_over_channels_and_pixels(self, generator: torch.Generator) -> None:
        # D(x) = c sum(x) has the slope c everywhere: length c sqrt(C H W), in any layout.
        hr = torch.rand(2, 3, 4, 5, generator=generator, dtype=torch.float64)
        penalty = WassersteinGP().penalty(
            lambda x: 0.5 * x.sum(dim=(1, 2, 3)), real=hr, fake=hr.flip(0), shares=SHARES
        )
        assert penalty.item() == pytest.approx((0.5 * math.sqrt(60) - 1) ** 2, abs=1e-12)

    def test_each_image_counts_by_itself(self, generator: torch.Generator) -> None:
        hr, sr = torch.rand(2, 4, 3, 8, 8, generator=generator, dtype=torch.float64)
        shares = torch.rand(4, generator=generator, dtype=torch.float64)
        discriminator = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Flatten(), nn.LazyLinear(1))
        discriminator = discriminator.double()
        with torch.no_grad():
            discriminator(hr)
            discriminator[3].weight.normal_(0, 0.3, generator=generator)
            discriminator[0].weight.normal_(0, 0.3, generator=generator)
        gan = WassersteinGP()
        together = gan.penalty(discriminator, real=hr, fake=sr, shares=shares)
        alone = [
            gan.penalty(
                discriminator, real=hr[i : i + 1], fake=sr[i : i + 1], shares=shares[i : i + 1]
            )
            for i in range(4)
        ]
        assert together.item() == pytest.approx(torch.stack(alone).mean().item(), rel=1e-12)

    def test_the_gradient_reaches_the_discriminator_and_no_image(
        self, generator: torch.Generator
    ) -> None:
        discriminator = nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.LeakyReLU(0.2), nn.Flatten(), nn.Linear(64, 1)
        )
        hr = torch.rand(2, 3, 6, 6, generator=generator, requires_grad=True)
        sr = torch.rand(2, 3, 6, 6, generator=generator, requires_grad=True)
        with torch.no_grad():  # the penalty makes its own graph
            penalty = WassersteinGP().penalty(
                discriminator, real=hr, fake=sr, shares=torch.rand(2, generator=generator)
            )
        penalty.backward()
        weights = [
            p.grad for name, p in discriminator.named_parameters() if name.endswith("weight")
        ]
        assert all(grad is not None and grad.abs().max().item() > 0 for grad in weights)
        assert hr.grad is None
        assert sr.grad is None

    def test_the_derivative_by_differences(self) -> None:
        weights = WEIGHTS.clone().requires_grad_()

        def penalty(w: Tensor) -> Tensor:
            return WassersteinGP().penalty(
                lambda x: (x**3) @ w, real=THEIRS, fake=OURS, shares=SHARES
            )

        assert torch.autograd.gradcheck(penalty, (weights,))

    def test_a_flat_discriminator_has_a_finite_derivative(self) -> None:
        weight = torch.zeros(4, dtype=torch.float64, requires_grad=True)
        penalty = WassersteinGP().penalty(
            lambda x: x @ weight, real=THEIRS, fake=OURS, shares=SHARES
        )
        assert penalty.item() == 1.0
        penalty.backward()
        assert weight.grad is not None
        assert weight.grad.isfinite().all()

    def test_inside_autocast_the_slope_keeps_its_digits(self, generator: torch.Generator) -> None:
        discriminator = nn.Sequential(nn.Flatten(), nn.Linear(12, 1))
        hr, sr = torch.rand(2, 2, 3, 2, 2, generator=generator)
        shares = torch.rand(2, generator=generator)
        plain = WassersteinGP().penalty(discriminator, real=hr, fake=sr, shares=shares)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            inside = WassersteinGP().penalty(
                discriminator, real=hr, fake=sr.bfloat16().float(), shares=shares
            )
        assert inside.dtype == torch.float32
        assert inside.item() == pytest.approx(plain.item(), rel=1e-6)

    def test_refused_arguments(self) -> None:
        with pytest.raises(InputError, match="one shape"):
            WassersteinGP().penalty(linear, real=THEIRS, fake=OURS[:1], shares=SHARES)
        with pytest.raises(InputError, match="one share per image"):
            WassersteinGP().penalty(linear, real=THEIRS, fake=OURS, shares=SHARES[:1])
        with pytest.raises(InputError, match="penalty_weight"):
            WassersteinGP(penalty_weight=0)
