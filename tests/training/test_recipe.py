import dataclasses
import itertools
import json
import math
from typing import Any

import pytest

from edgekeeper.errors import InputError
from edgekeeper.losses import L1, L2, RelativisticGAN
from edgekeeper.models import EDSR, ESPCN, VGGDiscriminator
from edgekeeper.spec import spec, to_plain
from edgekeeper.training.recipe import (
    Data,
    Discriminator,
    Optim,
    Recipe,
    Stage,
    Start,
    Term,
    Validation,
)
from edgekeeper.training.state import continues

PIXEL = Term("pixel", spec(L1))
GAN = Discriminator(
    "gan", spec(VGGDiscriminator, size=8), spec(RelativisticGAN), Optim(learning_rate=1e-4), 0.1
)


def recipe(*stages: Stage, **changes: object) -> Recipe:
    base = Recipe(
        name="small",
        model=spec(EDSR, scale=2, width=4, blocks=1),
        data=Data(patch=8, batch=2),
        stages=stages or (Stage("only", 4, Optim(learning_rate=1e-3), (PIXEL,)),),
    )
    return dataclasses.replace(base, **changes)  # type: ignore[arg-type]


TWO = recipe(
    Stage("first", 3, Optim(learning_rate=1e-3), (PIXEL,)),
    Stage("second", 4, Optim(learning_rate=1e-4), (PIXEL,)),
)


class TestRate:
    """Reference points: the schedules printed by the papers and their code."""

    # SPSR and DGGGAN: base 1e-4, halved at 50k, 100k, 200k, 300k, and the scheduler is stepped
    # after the update, so that iteration 50,000 (counted from 1) still uses 1e-4.
    SPSR = Optim(
        learning_rate=1e-4,
        schedule="steps",
        milestones=(50_000, 100_000, 200_000, 300_000),
        gamma=0.5,
    )

    @pytest.mark.parametrize(
        ("iteration", "learning_rate"),
        [
            (1, 1e-4),
            (50_000, 1e-4),
            (50_001, 5e-5),
            (100_000, 5e-5),
            (100_001, 2.5e-5),
            (200_001, 1.25e-5),
            (300_001, 6.25e-6),
            (500_000, 6.25e-6),
        ],
    )
    def test_spsr(self, iteration: int, learning_rate: float) -> None:
        assert self.SPSR.learning_rate_at(iteration - 1, steps=500_000) == pytest.approx(
            learning_rate, rel=1e-12
        )

    # The gradient variance code: SGD 0.1, times 0.1 after epochs 10 and 20 of 13 iterations each.
    @pytest.mark.parametrize(
        ("epoch", "learning_rate"),
        [(1, 0.1), (10, 0.1), (11, 0.01), (20, 0.01), (21, 0.001), (30, 0.001)],
    )
    def test_gradient_variance_vdsr(self, epoch: int, learning_rate: float) -> None:
        optim = Optim(
            learning_rate=0.1, kind="sgd", schedule="steps", milestones=(130, 260), gamma=0.1
        )
        first, last = 13 * (epoch - 1), 13 * epoch - 1
        for step in (first, last):
            assert optim.learning_rate_at(step, steps=390) == pytest.approx(
                learning_rate, rel=1e-12
            )

    # VDSR's paper: 0.1, divided by 10 every 20 of 80 epochs.
    def test_vdsr_paper(self) -> None:
        optim = Optim(learning_rate=0.1, schedule="steps", milestones=(20, 40, 60), gamma=0.1)
        rates = [
            optim.learning_rate_at(epoch, steps=80) for epoch in (0, 19, 20, 39, 40, 59, 60, 79)
        ]
        assert rates == pytest.approx([0.1, 0.1, 0.01, 0.01, 1e-3, 1e-3, 1e-4, 1e-4], rel=1e-12)

    # EDSR: 1e-4 halved every 200,000 updates.
    def test_edsr_paper(self) -> None:
        optim = Optim(learning_rate=1e-4, schedule="steps", milestones=(200_000,))
        assert optim.learning_rate_at(199_999, steps=300_000) == 1e-4
        assert optim.learning_rate_at(200_000, steps=300_000) == 5e-5

    def test_constant(self) -> None:
        assert {Optim(learning_rate=0.3).learning_rate_at(step, steps=9) for step in range(9)} == {
            0.3
        }

    def test_cosine_is_half_a_wave_from_rate_to_final_rate(self) -> None:
        optim = Optim(learning_rate=1.0, schedule="cosine", final_learning_rate=0.2)
        # 0.2 + 0.8 (1 + cos(pi k / 4)) / 2 at the quarters
        expected = [1.0, 0.2 + 0.4 * (1 + math.sqrt(0.5)), 0.6, 0.2 + 0.4 * (1 - math.sqrt(0.5))]
        assert [optim.learning_rate_at(25 * k, steps=100) for k in range(4)] == pytest.approx(
            expected
        )
        assert optim.learning_rate_at(99, steps=100) == pytest.approx(0.2, abs=0.8 * 3e-4)
        assert optim.learning_rate_at(99, steps=100) >= 0.2

    def test_cosine_falls_all_the_way_and_stays_positive(self) -> None:
        optim = Optim(learning_rate=1e-3, schedule="cosine")
        rates = [optim.learning_rate_at(step, steps=50) for step in range(50)]
        assert rates == sorted(rates, reverse=True)
        assert len(set(rates)) == 50
        assert rates[-1] > 0  # VDSR's clip divides by the rate

    def test_warmup_rises_linearly_and_never_is_zero(self) -> None:
        optim = Optim(learning_rate=1.0, warmup=4)
        rates = [optim.learning_rate_at(step, steps=100) for step in range(6)]
        assert rates == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0, 1.0])

    def test_cosine_begins_where_warmup_ends(self) -> None:
        optim = Optim(learning_rate=1.0, schedule="cosine", warmup=10)
        assert optim.learning_rate_at(9, steps=110) == 1.0
        assert optim.learning_rate_at(10, steps=110) == 1.0
        assert optim.learning_rate_at(60, steps=110) == pytest.approx(0.5)

    def test_warmup_does_not_move_the_milestones(self) -> None:
        optim = Optim(learning_rate=1.0, schedule="steps", milestones=(8,), gamma=0.1, warmup=4)
        assert [optim.learning_rate_at(step, steps=20) for step in (4, 7, 8)] == pytest.approx(
            [1.0, 1.0, 0.1]
        )

    def test_warmup_as_long_as_the_stage(self) -> None:
        optim = Optim(learning_rate=1.0, schedule="cosine", warmup=5)
        assert optim.learning_rate_at(4, steps=5) == 1.0


class TestWeight:
    def test_a_weight_is_constant_without_a_ramp(self) -> None:
        assert Term("gv", spec(L2), weight=0.01).weight_at(0) == 0.01

    def test_a_ramp_rises_linearly_to_the_weight_and_stays(self) -> None:
        term = Term("gv", spec(L2), weight=2.0, ramp=4)
        weights = [term.weight_at(step) for step in range(6)]
        assert weights == pytest.approx([0.5, 1.0, 1.5, 2.0, 2.0, 2.0])


class TestStages:
    def test_steps_are_those_of_all_stages(self) -> None:
        assert TWO.steps == 7

    def test_each_step_belongs_to_one_stage(self) -> None:
        found = [(stage.name, step) for stage, step in map(TWO.stage_at, range(7))]
        assert found == [
            ("first", 0),
            ("first", 1),
            ("first", 2),
            ("second", 0),
            ("second", 1),
            ("second", 2),
            ("second", 3),
        ]

    def test_a_step_after_the_end_is_an_error(self) -> None:
        with pytest.raises(InputError, match="7 steps"):
            TWO.stage_at(7)


class TestRefused:
    """Values with which a run can only go wrong are refused when they are made."""

    def test_no_stages(self) -> None:
        with pytest.raises(InputError, match="stages"):
            dataclasses.replace(TWO, stages=())

    def test_a_stage_without_steps(self) -> None:
        with pytest.raises(InputError, match=r"Stage\.steps is 0; give 1 or more"):
            Stage("empty", 0, Optim(learning_rate=1e-3), (PIXEL,))

    def test_a_stage_without_terms(self) -> None:
        with pytest.raises(InputError, match=r"'bare'.*no terms"):
            Stage("bare", 1, Optim(learning_rate=1e-3), ())

    def test_a_term_named_twice(self) -> None:
        with pytest.raises(InputError, match="twice: pixel, pixel"):
            Stage("only", 1, Optim(learning_rate=1e-3), (PIXEL, PIXEL))

    def test_an_ema_decay_that_is_none(self) -> None:
        for ema_decay in (-0.1, 1.0, 1.5, math.nan):
            with pytest.raises(InputError, match="decay"):
                recipe(ema_decay=ema_decay)

    def test_a_clip_without_a_limit_which_would_train_nothing(self) -> None:
        for clip in ("norm", "value_over_rate"):
            with pytest.raises(InputError, match=f"clip is '{clip}' but clip_limit is 0"):
                Optim(learning_rate=1e-3, clip=clip)  # type: ignore[arg-type]

    def test_a_rate_that_is_not_positive(self) -> None:
        for learning_rate in (0.0, -1e-3, math.nan, math.inf):
            with pytest.raises(InputError, match="learning_rate"):
                Optim(learning_rate=learning_rate)

    def test_an_empty_batch(self) -> None:
        for batch in (0, -1):
            with pytest.raises(InputError, match=f"batch is {batch}; give 1 or more"):
                Data(patch=8, batch=batch)

    @pytest.mark.parametrize(
        ("made", "field", "value", "nearest"),
        [
            (Optim(learning_rate=1e-3), "schedule", "Cosine", "cosine"),
            (Optim(learning_rate=1e-3), "kind", "adamw", "adam"),
            (Optim(learning_rate=1e-3), "clip", "value", "value_over_rate"),
            (Data(patch=8, batch=2), "augment", "flip", "flips"),
            (Data(patch=8, batch=2), "crop", "center", "centre"),
            (PIXEL, "on", "images", "image"),
            (TWO, "precision", "float", "float32"),
            (TWO, "layout", "channels-last", "channels_last"),
            (GAN, "input", "gradients", "gradient"),
        ],
    )
    def test_a_choice_that_there_is_not_names_the_nearest_and_all(
        self, made: Any, field: str, value: str, nearest: str
    ) -> None:
        label = rf"{type(made).__name__}\.{field} '{value}'"
        with pytest.raises(InputError, match=rf"{label}.*mean '{nearest}'\? Known: .*, "):
            dataclasses.replace(made, **{field: value})

    def test_values_of_another_type_or_out_of_range(self) -> None:
        stage, optim = TWO.stages[0], TWO.stages[0].optim
        cases: list[tuple[Any, str, object, str]] = [
            (TWO, "seed", -1, "give a number from 0"),
            (TWO, "seed", 1.5, "type must be int"),
            (TWO, "seed", True, "type must be int"),
            (TWO, "stages", list(TWO.stages), "type must be tuple"),
            (TWO, "stages", (optim,), "type must be tuple"),
            (TWO, "model", EDSR, "type must be .*Spec"),
            (TWO, "data", {"patch": 8}, "type must be Data"),
            (TWO, "validation", "set5", "type must be .*Validation"),
            (Validation(), "every", 0, "give 1 or more"),
            (Validation(), "set_name", None, "type must be str"),
            (Start("other"), "fresh", "conv3.", "type must be tuple"),
            (stage, "steps", "30", "type must be int"),
            (stage, "steps", 1e4, "type must be int"),
            (stage, "trains", "head.", "type must be tuple"),
            (PIXEL, "loss", L1(), "type must be .*Spec"),
            (PIXEL, "weight", math.nan, "give a finite number"),
            (PIXEL, "ramp", -1, "give 0 or more"),
            (GAN, "weight", math.inf, "give a finite number"),
            (optim, "learning_rate", "1e-3", "type must be float"),
            (optim, "betas", (0.9,), "type must be tuple"),
            (optim, "betas", (0.9, 1.0), "give two numbers"),
            (optim, "momentum", 1.0, "give a number in"),
            (optim, "weight_decay", -1e-4, "give a finite number from 0"),
            (optim, "milestones", (2, 2.5), "type must be tuple"),
            (optim, "warmup", -2, "give a finite number from 0"),
            (optim, "gamma", math.nan, "give a finite number from 0"),
        ]
        for value, name, wrong, message in cases:
            label = rf"{type(value).__name__}\.{name} is .*{message}"
            with pytest.raises(InputError, match=label):
                dataclasses.replace(value, **{name: wrong})
        assert dataclasses.replace(optim, learning_rate=1).learning_rate == 1


class TestContinues:
    """From which checkpoints a recipe goes on: those of an equal run up to their step."""

    @staticmethod
    def saved(one: Recipe = TWO) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(json.dumps(to_plain(one)))
        return found

    def test_a_recipe_survives_json(self) -> None:
        optim = Optim(learning_rate=1 / 3, schedule="steps", milestones=(1, 2), betas=(0.1, 0.7))
        stage = Stage("only", 4, optim, (PIXEL,), discriminators=(GAN,))
        one = recipe(stage, start=Start("other", fresh=("a.", "b.")))
        assert self.saved(one) == to_plain(one)
        assert all(continues(one, self.saved(one), step=step) for step in range(1, 5))

    def test_its_own_but_for_name_and_validation(self) -> None:
        other = dataclasses.replace(TWO, name="other", validation=Validation())
        for step in range(1, 8):
            assert continues(TWO, self.saved(), step=step)
            assert continues(other, self.saved(), step=step)
            assert continues(TWO, self.saved(other), step=step)

    def test_another_later_stage_matters_only_later(self) -> None:
        later = Stage("other", 9, Optim(learning_rate=5.0), (PIXEL,))
        for stages in ((TWO.stages[0], later), (*TWO.stages, later), TWO.stages[:1]):
            other = dataclasses.replace(TWO, stages=stages)
            assert continues(other, self.saved(), step=3)
            assert continues(other, self.saved(), step=4) == (stages[1:2] == TWO.stages[1:])

    def test_a_stage_may_become_longer_where_no_learning_rate_depends_on_its_length(self) -> None:
        constant, falling = Optim(learning_rate=1e-3), Optim(learning_rate=1e-3, schedule="cosine")
        halved = Optim(learning_rate=1e-3, schedule="steps", milestones=(2, 50), warmup=2)
        for optim, theirs in itertools.product((constant, halved, falling), repeat=2):
            gan = dataclasses.replace(GAN, optim=theirs)
            stage = Stage("s", 4, optim, (PIXEL,), discriminators=(gan,))
            before = recipe(TWO.stages[0], stage)
            first = TWO.stages[0].steps
            for steps, fits in ((9, True), (3, True), (2, False)):
                other = recipe(TWO.stages[0], dataclasses.replace(stage, steps=steps))
                # A cosine depends on the length of its stage from the first step on.
                allowed = fits and falling not in (optim, theirs)
                assert continues(other, self.saved(before), step=first + 3) == allowed
            behind = recipe(*before.stages, Stage("behind", 3, constant, (PIXEL,)))
            longer = dataclasses.replace(stage, steps=9)
            changed = recipe(TWO.stages[0], longer, behind.stages[-1])
            assert not continues(changed, self.saved(behind), step=first + 5)

    def test_not_after_its_end_nor_before_its_beginning(self) -> None:
        assert not continues(TWO, self.saved(), step=8)
        assert not continues(TWO, self.saved(), step=0)

    @pytest.mark.parametrize(
        "changes",
        [
            {"model": spec(EDSR, scale=2, width=4, blocks=2)},
            {"model": spec(ESPCN, scale=2)},
            {"data": Data(patch=8, batch=3)},
            {"data": Data(patch=16, batch=2)},
            {"data": Data(patch=8, batch=2, augment="none")},
            {"seed": 1},
            {"ema_decay": 0.5},
            {"precision": "bfloat16"},
            {"layout": "channels_last"},
            {"start": Start("espcn_x3")},
        ],
        ids=str,
    )
    def test_everything_else_counts(self, changes: dict[str, Any]) -> None:
        assert not continues(dataclasses.replace(TWO, **changes), self.saved(), step=3)

    @pytest.mark.parametrize(
        "changes",
        [
            {"optim": Optim(learning_rate=2e-3)},
            {"optim": Optim(learning_rate=1e-3, kind="sgd")},
            {"optim": Optim(learning_rate=1e-3, weight_decay=1e-4)},
            {"optim": Optim(learning_rate=1e-3, betas=(0.5, 0.999))},
            {"terms": (Term("pixel", spec(L2)),)},
            {"terms": (Term("pixel", spec(L1), weight=2.0),)},
            {"terms": (Term("pixel", spec(L1), ramp=2),)},
            {"terms": (PIXEL, Term("more", spec(L2)))},
            {"discriminators": (GAN,)},
        ],
        ids=str,
    )
    def test_everything_in_a_stage_counts(self, changes: dict[str, Any]) -> None:
        first = dataclasses.replace(TWO.stages[0], **changes)
        other = dataclasses.replace(TWO, stages=(first, TWO.stages[1]))
        assert not continues(other, self.saved(), step=1)

    def test_a_field_that_did_not_exist_counts_as_its_default(self) -> None:
        saved = self.saved()
        del saved["data"]["crop"]
        del saved["stages"][1]["candidates"]
        assert continues(TWO, saved, step=4)
        centre = dataclasses.replace(TWO, data=dataclasses.replace(TWO.data, crop="centre"))
        assert not continues(centre, saved, step=4)

    @pytest.mark.parametrize("name", ["unknown", "model"])
    def test_a_field_that_is_unknown_or_differs(self, name: str) -> None:
        saved = self.saved()
        saved[name] = {"name": "EDSR", "arguments": {"scale": 3}}
        assert not continues(TWO, saved, step=4)

    def test_a_field_without_a_default_must_be_there(self) -> None:
        saved = self.saved()
        del saved["stages"][0]["optim"]["learning_rate"]
        assert not continues(TWO, saved, step=4)
        assert not continues(TWO, None, step=4)
