"""The style "auto": clean images stay faithful, others are restored as far as they were damaged."""

import numpy as np
import pytest
import torch

import edgekeeper
from edgekeeper.data.degrade import KnownDegradation, degrade_known, find_known
from edgekeeper.data.synthetic import letters, line_drawing
from edgekeeper.errors import InputError
from edgekeeper.image import Image, from_tensor, write_image
from edgekeeper.image.quality import Condition, condition_of, estimate
from edgekeeper.inference import Networks, Request, networks_for, upscale_file, upscale_image
from edgekeeper.inference.choose import treatment
from edgekeeper.inference.network import infer, tile_overlap
from edgekeeper.inference.pairs import Guarded, Mixture, mix
from edgekeeper.models import SRModel
from edgekeeper.pretrained.zoo import DEFAULTS, FACTORS, RESTORING, load


@pytest.fixture(scope="module")
def photo():
    """What a photograph has: shading, shapes and fine texture; (1, 3, 256, 320)."""
    random = np.random.default_rng(3)
    y, x = np.mgrid[:256, :320] / 64
    waves = sum(np.sin(a * x + b * y + c) for a, b, c in random.uniform(-6, 6, (24, 3)))
    image = 0.5 + 0.04 * waves[..., None] * random.uniform(0.5, 1, 3)
    return torch.from_numpy(image).clamp(0.05, 0.95).permute(2, 0, 1)[None].float()


def damaged(photo, name):
    return Image(pixels=from_tensor(degrade_known(photo, find_known(name))))


def test_clean_images_are_faithful_and_damaged_ones_restored(photo):
    clean, bad = damaged(photo, "clean"), damaged(photo, "jpeg70")
    made = {
        (style, name): upscale_image(image, Request(style=style))
        for style in ("auto", "faithful", "restore")
        for name, image in (("clean", clean), ("bad", bad))
    }
    pixels = {key: result.image.pixels.astype(int) for key, result in made.items()}
    np.testing.assert_array_equal(pixels["auto", "clean"], pixels["faithful", "clean"])
    assert made["auto", "clean"].strength == 0 and made["auto", "clean"].notes == ()
    strength = made["auto", "bad"].strength
    assert 0.5 < strength < 0.8
    (note,) = made["auto", "bad"].notes
    assert note.startswith("looks like JPEG about quality 70") and "style 'faithful'" in note
    between = (1 - strength) * pixels["faithful", "bad"] + strength * pixels["restore", "bad"]
    apart = np.abs(pixels["auto", "bad"] - between)
    assert apart.max() <= 1.01
    worse = damaged(photo, "strong")
    apart = (upscale_image(worse, Request(style=s)).image.pixels for s in ("faithful", "restore"))
    assert np.abs(np.subtract(*(x.astype(int) for x in apart))).max() > 8
    assert made["restore", "bad"].strength == 1 and made["restore", "bad"].notes == ()


def test_texture_is_restored_as_far_as_an_image_was_damaged(photo):
    clean, bad = damaged(photo, "clean"), damaged(photo, "camera")
    invents, restores = DEFAULTS["texture"][4], RESTORING["texture"][4]
    made = upscale_image(clean, Request(style="texture"))
    plain = upscale_image(clean, Request(model=invents))
    np.testing.assert_array_equal(made.image.pixels, plain.image.pixels)
    made = upscale_image(bad, Request(style="texture"))
    assert made.strength == upscale_image(bad, Request()).strength > 0.5
    assert "style 'faithful'" in made.notes[0]
    fully = upscale_image(bad, Request(style="texture", strength=1)).image.pixels.astype(int)
    alone = upscale_image(bad, Request(model=restores)).image.pixels
    assert np.abs(fully - alone).max() <= 1
    # Both networks are held back, each by the one of its kind that does not invent.
    held = networks_for(Request(style="texture", guard=True))
    assert isinstance(held.load(4), Guarded) and isinstance(held.restore.load(4), Guarded)
    parameters = [*held.restore.load(4).plain.parameters()]
    assert all(map(torch.equal, parameters, load(DEFAULTS["restore"][4]).parameters()))


def test_auto_at_each_scale_that_has_no_network_that_restores(photo):
    bad = damaged(photo, "jpeg70")
    for scale in set(FACTORS["faithful"]) - set(FACTORS["restore"]):
        result = upscale_image(bad, Request(scale=scale))
        plain = upscale_image(bad, Request(scale=scale, style="faithful"))
        np.testing.assert_array_equal(result.image.pixels, plain.image.pixels)
        (note,) = result.notes
        assert "JPEG about quality 70" in note and "style 'restore'" in note


def test_tensors_files_and_images_are_treated_alike(photo, tmp_path):
    clean, bad = (degrade_known(photo, find_known(name)) for name in ("clean", "jpeg70"))
    both = edgekeeper.upscale(torch.cat([clean, bad]))
    for one, lr in zip(both.split(1), (clean, bad), strict=True):
        image = Image(pixels=from_tensor(lr))
        assert np.abs(from_tensor(one).astype(int) - edgekeeper.upscale(image).pixels).max() <= 1
        write_image(image, tmp_path / "a.png", overwrite="replace")
        request = Request(existing="replace")
        result = upscale_file(tmp_path / "a.png", tmp_path / "b.png", request=request)
        assert result.strength == upscale_image(image).strength
        assert result.as_json()["strength"] == result.strength


def test_drawings_and_pages_stay_faithful():
    for kind in (letters, line_drawing):
        drawn = kind(np.random.default_rng(2), 160).clip(0, 1)
        image = Image(pixels=(drawn * 255).round().astype(np.uint8))
        assert upscale_image(image).strength == 0, kind


def test_who_says_a_strength_gets_it_without_a_look(photo):
    networks = networks_for(Request())

    def look():
        raise AssertionError("looked")

    for asked, expected in (
        (Request(strength=0.3), 0.3),
        (Request(strength=0.0), 0),
        (Request(style="restore"), 1),
        (Request(style="restore", strength=0.2), 0.2),
    ):
        assert treatment(asked, networks, passes=(4, 4), look=look).strength == expected
    assert treatment(Request(), networks, passes=(), look=look).strength == 0
    own = Networks(factors=(4,), load=lambda factor: None)
    assert treatment(Request(), own, passes=(4,), look=look).strength == 0
    seen = Condition(jpeg_quality=99, noise=0, strength=0.03)
    found = treatment(Request(), networks, passes=(4,), look=lambda: seen)
    assert found.strength == 0 and found.note.endswith("kept as it is")
    for wrong in ({"strength": 1.1}, {"sharpness": -0.1}, {"strength": float("nan")}):
        with pytest.raises(InputError, match="from 0 to 1"):
            Request(**wrong)
    for wrong in ({"style": "faithful"}, {"model": "espcn_x4"}):
        with pytest.raises(InputError, match="edgekeeper blend"):
            Request(strength=0.5, **wrong)
    for style in ("faithful", "sharp", "texture", "restore"):  # a model would leave it unused
        for model in ("espcn_x4", "own.pth", load("espcn_x4")):
            with pytest.raises(InputError, match=f"style '{style}' or a model, not both"):
                Request(style=style, model=model)


def test_mixture_lies_between_and_knows_its_context():
    plain, other = (load(DEFAULTS[style][4]) for style in ("faithful", "restore"))
    lr = torch.rand(1, 3, 20, 24, generator=torch.Generator().manual_seed(0))
    mixed = mix(plain, other=other, strength=0.25)
    assert isinstance(mixed, Mixture)
    expected = torch.lerp(plain(lr), other(lr), 0.25)
    torch.testing.assert_close(mixed(lr), expected)
    assert mix(plain, other=other, strength=0) is plain
    assert mix(plain, other=other, strength=1) is other
    assert tile_overlap(mixed) == max(tile_overlap(plain), tile_overlap(other))
    assert mixed.border == plain.border == other.border
    # Each network has its own border: one that is used to zeros gets no repeated pixels.
    zeros = load("edsr_light_x4")
    assert zeros.border == 0 < other.border
    for pair in ((zeros, other), (other, zeros)):
        found = infer(mix(pair[0], other=pair[1], strength=0.25), lr * 0.2 + 0.4)
        parts = [infer(one, lr * 0.2 + 0.4) for one in pair]
        torch.testing.assert_close(found, torch.lerp(*parts, 0.25))
    with pytest.raises(InputError, match="cannot be mixed"):
        mix(plain, other=load("espcn_x2"), strength=0.5)
    assert infer(mixed, lr).shape == (1, 3, 80, 96)


def test_of_large_images_strips_are_looked_at(photo, monkeypatch, tmp_path):
    bad = degrade_known(photo.repeat(1, 1, 3, 2), KnownDegradation("x", quality=60), scale=2)
    assert estimate(bad).jpeg_quality == 60
    monkeypatch.setattr("edgekeeper.image.quality._PIXELS", 2**15)
    monkeypatch.setattr("edgekeeper.image.quality._WIDTH", 192)
    image = Image(pixels=from_tensor(bad))
    write_image(image, tmp_path / "a.png")
    for source in (image, tmp_path / "a.png"):
        assert condition_of(source).jpeg_quality == 60


class Painted(SRModel):
    """Enlarges by repeating pixels, with a checkerboard of an amplitude over a square."""

    scale, channels, receptive_field, amplitude = 4, "rgb", 1, 0.3

    def forward(self, lr):
        sr = lr.repeat_interleave(4, -1).repeat_interleave(4, -2).clone()
        y, x = torch.meshgrid(torch.arange(sr.shape[-2]), torch.arange(sr.shape[-1]), indexing="ij")
        board = self.amplitude * ((y + x) % 2 * 2 - 1.0)
        # A texture where the image is light, so that every tile knows where it is.
        return sr + board * (sr[:, :1] > 0.5)


def test_two_networks_of_which_one_gives_bfloat16_are_mixed():
    class Half(Painted):
        def forward(self, lr):
            return super().forward(lr).bfloat16()

    lr = torch.rand(1, 3, 8, 8)
    for plain, other in ((Painted(), Half()), (Half(), Painted())):
        for pair in (
            Guarded(plain=plain, other=other),
            Mixture(plain=plain, other=other, strength=0.5),
        ):
            torch.testing.assert_close(pair(lr), Painted()(lr), rtol=0, atol=0.01)


def test_the_guard_takes_the_faithful_result_where_texture_is_invented():
    plain, other = Painted(), Painted()
    plain.amplitude = 0.0
    lr = torch.full((1, 3, 40, 48), 0.4)
    lr[..., 10:22, 14:30] = 0.6
    guarded = Guarded(plain=plain, other=other)
    made, faithful, invented = (infer(one, lr) for one in (guarded, plain, other))
    # By loops over windows, mirrored: D = (2ab + C) / (a² + b² + C), then its mean.
    deviations = []
    for x in (invented, faithful):
        grey = np.tensordot([0.2989, 0.5870, 0.1140], x[0].double().numpy(), 1)
        windows = np.lib.stride_tricks.sliding_window_view(np.pad(grey, 5, "reflect"), (11, 11))
        deviations.append(windows.std(axis=(2, 3), ddof=1))
    a, b = deviations
    unlike = (2 * a * b + 0.0009) / (a**2 + b**2 + 0.0009)
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(unlike, 5, "reflect"), (11, 11))
    weight = np.clip((0.8 - windows.mean(axis=(2, 3))) / 0.1, 0, 1)
    expected = invented + torch.from_numpy(weight) * (faithful - invented)
    torch.testing.assert_close(made.double(), expected.double(), rtol=0, atol=2e-4)
    assert torch.equal(made[..., 60:70, 80:90], faithful[..., 60:70, 80:90])  # inside the square
    assert torch.equal(made[..., :8, :8], invented[..., :8, :8])  # far from it
    # Tiled as whole: the context that the comparison needs is asked for.
    assert tile_overlap(guarded) == plain.overlap + 3  # ten HR pixels
    pixels = (lr[0].permute(1, 2, 0) * 255).round().byte().numpy()
    whole, tiled = (
        upscale_image(Image(pixels=pixels), Request(model=guarded, tile=tile)).image.pixels
        for tile in (400, 20)
    )
    assert np.abs(whole.astype(int) - tiled).max() <= 1
    tiny = torch.rand(1, 3, 1, 1)
    assert torch.equal(guarded(tiny), other(tiny))
    # The network that invents is run as without a guard, at the border too.
    plain, other = load("balanced_x4"), load("edsr_light_x4")
    assert plain.border > other.border == 0
    y, x = torch.meshgrid(torch.arange(24.0), torch.arange(30.0), indexing="ij")
    lr = torch.stack([0.4 + 0.01 * x, 0.3 + 0.01 * y, 0.5 + 0.005 * (x + y)])[None]
    torch.testing.assert_close(infer(Guarded(plain=plain, other=other), lr), infer(other, lr))
    # In bfloat16 the two need not give the same type.
    both = Request(model=Guarded(plain=plain, other=other), precision="bfloat16")
    assert upscale_image(Image(pixels=pixels), both).image.pixels.shape == (160, 192, 3)
    with pytest.raises(InputError, match="luma"):
        Guarded(plain=load("espcn_x4"), other=load("espcn_x4"))
    with pytest.raises(InputError, match="luma"):
        Guarded(plain=plain, other=load("espcn_x2"))


def test_the_guard_is_asked_for():
    networks = networks_for(Request(style="texture", guard=True))
    assert networks.factors == (4,) and isinstance(networks.load(4), Guarded)
    assert networks.load(4) is networks.load(4)
    own = networks_for(Request(model="fast_x4", guard=True))
    assert isinstance(own.load(4), Guarded)
    with pytest.raises(InputError, match="style texture"):
        Request(guard=True)
    eight = Painted()
    eight.scale = 8
    with pytest.raises(InputError, match="faithful networks enlarge by"):
        networks_for(Request(model=eight, guard=True))
