"""Tests of the losses through a network that learns first: AESOP's and SPSR-P's."""

import copy
import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from edgekeeper.errors import InputError
from edgekeeper.losses import AutoEncoded, AutoEncoding, NeuralStructure, StructureTasks
from edgekeeper.losses.taught import tiles_of
from edgekeeper.models import EDSR, AutoEncoder, StructureExtractor
from edgekeeper.ops.resize import imresize


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(*, side: int = 24, batch: int = 3) -> tuple[Tensor, Tensor]:
    sr, hr = torch.rand(2, batch, 3, side, side, generator=seeded(), dtype=torch.float64)
    return sr, hr


@pytest.fixture
def extractor() -> StructureExtractor:
    torch.manual_seed(0)
    return StructureExtractor(width=2, orders=5).double()


@pytest.fixture
def auto_encoder() -> AutoEncoder:
    torch.manual_seed(0)
    return AutoEncoder(decoder=EDSR(scale=2, width=4, blocks=1), width=4).double()


def test_an_encoder_begins_near_bicubic_and_learns_to_keep_more(auto_encoder: AutoEncoder) -> None:
    _, hr = images(side=16)
    bicubic = imresize(hr, scale=0.5)
    encoder = auto_encoder.encoder
    shrunk = encoder(hr).detach()
    assert shrunk.shape == (3, 3, 8, 8) and 0 < float((shrunk - bicubic).abs().max()) < 0.02
    loss = AutoEncoding()
    optimizer = torch.optim.Adam(auto_encoder.parameters(), lr=1e-2)
    values = []
    for _ in range(10):
        value, logged = loss.discriminator_loss(auto_encoder, real=hr, fake=hr, rng=seeded())
        assert logged["discriminator"] is value
        values.append(value.item())
        optimizer.zero_grad()
        value.backward()
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in encoder.parameters())
        optimizer.step()
    assert values[0] == pytest.approx(float((bicubic_first(auto_encoder, hr) - hr).abs().mean()))
    assert values[-1] < 0.9 * values[0]


def bicubic_first(auto_encoder: AutoEncoder, hr: Tensor) -> Tensor:
    """What a new auto-encoder of the same seed makes of ``hr``, step by step."""
    torch.manual_seed(0)
    new = AutoEncoder(decoder=EDSR(scale=2, width=4, blocks=1), width=4).double()
    correction = new.encoder.correction(hr)
    made: Tensor = new.decoder(imresize(hr, scale=0.5) + correction)
    return made.detach()


def test_the_generator_is_asked_for_the_distance_of_auto_encodings(
    auto_encoder: AutoEncoder,
) -> None:
    sr, hr = (x.requires_grad_() for x in images(side=8))
    asked = AutoEncoding().generator_loss(auto_encoder, real=hr, fake=sr)
    assert asked.item() == pytest.approx((auto_encoder(sr) - auto_encoder(hr)).abs().mean().item())
    asked.backward()
    assert float(sr.grad.abs().sum()) > 0 and hr.grad is None  # type: ignore[union-attr]
    alone = AutoEncoded(decoder=auto_encoder.decoder, encoder=auto_encoder.encoder)
    assert alone(sr, hr).item() == pytest.approx(asked.item())
    assert not any(p.requires_grad for p in auto_encoder.parameters())


def test_contrastive_prediction_by_loops(extractor: StructureExtractor) -> None:
    _, hr = images()
    loss, logged = StructureTasks(contrast=1, jigsaw=0).discriminator_loss(
        extractor, real=hr, fake=hr, rng=seeded(3)
    )
    # Cells of 8 pixels, tiles of 4; each tile alone through the network, then logarithms by hand.
    tiles = tiles_of(hr, rng=seeded(3))
    assert tiles.shape == (3, 9, 3, 4, 4)
    z = [[extractor(tiles[b, t][None])[0].mean((1, 2)) for t in range(9)] for b in range(3)]
    candidates = [z[b][t] for b in range(3) for t in range(3, 9)]

    def likeness(prediction: Tensor, candidate: Tensor) -> float:
        product = (prediction * candidate).sum().item()
        return product / (prediction.norm() * candidate.norm()).item() / 0.1

    total = 0.0
    for b in range(3):
        for t in range(6):
            prediction = extractor.below.weight @ z[b][t] + extractor.below.bias
            among = sum(math.exp(likeness(prediction, other)) for other in candidates)
            total -= math.log(math.exp(likeness(prediction, z[b][t + 3])) / among)
    assert loss.item() == pytest.approx(total / 18, rel=1e-10)
    assert logged["contrast"].item() == pytest.approx(total / 18, rel=1e-10)
    loss.backward()
    assert all(float(p.grad.abs().sum()) > 0 for p in extractor.layers.parameters())  # type: ignore[union-attr]
    assert float(extractor.below.weight.grad.abs().sum()) > 0  # type: ignore[union-attr]


def test_a_jigsaw_puzzle_is_the_entropy_of_the_order_in_which_tiles_lie(
    extractor: StructureExtractor,
) -> None:
    _, hr = images()
    loss, logged = StructureTasks(contrast=0).discriminator_loss(
        extractor, real=hr, fake=hr, rng=seeded(4)
    )
    numbers = seeded(4)
    tiles = tiles_of(hr, rng=numbers)
    orders = torch.randint(5, (3,), generator=numbers)
    assert {tuple(sorted(row)) for row in extractor.orders.tolist()} == {tuple(range(9))}
    expected, solved = 0.0, 0
    for b, number in enumerate(orders.tolist()):
        laid = [tiles[b, t] for t in extractor.orders[number].tolist()]  # the tiles themselves
        z = torch.cat([extractor(tile[None])[0].mean((1, 2)) for tile in laid])
        logits = extractor.order(z[None])[0]
        expected -= torch.log_softmax(logits, dim=0)[number].item() / 3
        solved += int(logits.argmax()) == number
    assert loss.item() == pytest.approx(expected, rel=1e-10)
    assert logged["solved"].item() == pytest.approx(solved / 3)
    loss.backward()
    assert all(float(p.grad.abs().sum()) > 0 for p in extractor.layers.parameters())  # type: ignore[union-attr]


def test_the_tasks_can_be_learned() -> None:
    torch.manual_seed(0)
    network = StructureExtractor(width=4, orders=4)
    y, x = torch.meshgrid(torch.arange(36.0), torch.arange(36.0), indexing="ij")
    shades = torch.stack([x / 36, y / 36, (x + y) / 72])  # says where a tile comes from
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    tasks, numbers, seen = StructureTasks(), seeded(), []
    for _ in range(60):
        hr = shades * torch.rand(8, 1, 1, 1, generator=numbers).add(0.5)
        loss, logged = tasks.discriminator_loss(network, real=hr, fake=hr, rng=numbers)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seen.append([float(logged[key].detach()) for key in ("contrast", "jigsaw", "solved")])
    before, after = (torch.tensor(part).mean(0) for part in (seen[:5], seen[-5:]))
    assert after[0] < before[0] - 1 and after[1] < 0.5 * before[1] and after[2] > 0.8


def test_the_loss_compares_maps_of_a_frozen_extractor(extractor: StructureExtractor) -> None:
    sr, hr = (x.requires_grad_() for x in images(side=8))
    before = copy.deepcopy(extractor.state_dict())
    loss = NeuralStructure(extractor=extractor).train()
    value = loss(sr, hr)
    assert value.item() == pytest.approx((extractor(sr) - extractor(hr)).abs().mean().item())
    value.backward()
    assert float(sr.grad.abs().sum()) > 0 and hr.grad is None  # type: ignore[union-attr]
    assert not loss.training and all(p.grad is None for p in extractor.parameters())
    assert all(torch.equal(before[k], v) for k, v in extractor.state_dict().items())
    point = sr[:1, :, :4, :4].detach().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: loss(x, hr[:1, :, :4, :4]), point)
    # A change of the first four rows and columns does not reach far.
    wide = torch.rand(1, 3, 48, 48, generator=seeded(), dtype=torch.float64)
    changed = functional.pad(wide[..., 4:, 4:], (4, 0, 4, 0))
    with torch.no_grad():
        assert torch.equal(extractor(wide)[..., 5:, 5:], extractor(changed)[..., 5:, 5:])


def test_what_does_not_fit_is_refused(extractor: StructureExtractor) -> None:
    for weights in ({"contrast": 0.0, "jigsaw": 0.0}, {"contrast": -1.0}):
        with pytest.raises(InputError, match="one of them above 0"):
            StructureTasks(**weights)
    _, small = images(side=11)
    with pytest.raises(InputError, match="no nine tiles"):
        tiles_of(small, rng=seeded())
    with pytest.raises(InputError, match="by a StructureExtractor"):
        StructureTasks().discriminator_loss(nn.Identity(), real=small, fake=small, rng=seeded())
