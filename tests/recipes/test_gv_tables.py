"""Tests of the recipes of the gradient variance paper's two tables."""

import dataclasses
from itertools import product

import pytest
import torch

from edgekeeper.errors import InputError
from edgekeeper.models import VDSR, parameter_count
from edgekeeper.recipes import gv_tables
from edgekeeper.recipes.gv_tables import GV_TABLES, TABLE1, TABLE2, cell, comparisons
from edgekeeper.training.recipe import Recipe


def one_update(recipe: Recipe) -> torch.nn.Module:
    """The network of the recipe after the backward pass of one small batch."""
    torch.manual_seed(0)
    model = recipe.model.build()
    hr = torch.rand(1, 3, 24, 24)
    lr = torch.nn.functional.avg_pool2d(hr, model.scale)
    sr, terms = model(lr), recipe.stages[0].terms
    total = torch.stack([term.weight_at(0) * term.loss.build()(sr, hr) for term in terms]).sum()
    assert torch.isfinite(total)
    total.backward()
    return model


class TestGrid:
    def test_every_cell_is_there_once(self) -> None:
        starts = [name[:10] for name in GV_TABLES]
        assert (starts.count("gv_table1_"), starts.count("gv_table2_")) == (3 * 3 * 2, 3 * 3)
        assert all(name == recipe.name for name, recipe in GV_TABLES.items())

    def test_names_tell_apart_all_cells_of_all_budgets_seeds_and_kernels(self) -> None:
        names = [
            cell(
                network=network,
                scale=scale,
                addition=addition,
                budget=budget,
                seed=seed,
                degradation=lr,
            ).name
            for network, scale, addition, budget, seed, lr in product(
                gv_tables.GV_NETWORKS,
                gv_tables.GV_SCALES,
                (None, "gv"),
                ("quick", "standard", "paper"),
                (0, 1),
                ("bilinear", "bicubic"),
            )
        ]
        assert len(set(names)) == len(names) == 18 * 3 * 2 * 2

    def test_a_gradient_reaches_every_parameter(self) -> None:
        added = [recipe for recipe in GV_TABLES.values() if len(recipe.stages[0].terms) > 1]
        assert len(added) == 3 * 3 + 3 * 2
        for recipe in added:
            for name, parameter in one_update(recipe).named_parameters():
                assert parameter.grad is not None, (recipe.name, name)
                assert torch.isfinite(parameter.grad).all(), (recipe.name, name)

    def test_the_cells_of_a_comparison_differ_in_one_term_only(self) -> None:
        for table in ("gv_table1", "gv_table2"):
            for compared in comparisons(table, budget="quick", seeds=(0, 3)):
                for without, added in zip(compared.without, compared.added, strict=True):
                    terms = added.stages[0].terms
                    assert terms[:-1] == without.stages[0].terms
                    assert terms[-1].name.upper() == compared.term
                    stage = dataclasses.replace(added.stages[0], terms=terms[:-1])
                    same = dataclasses.replace(added, name=without.name, stages=(stage,))
                    assert same == without
                assert [recipe.seed for recipe in compared.added] == [0, 3]

    def test_every_patch_fits_scale_and_loss(self) -> None:
        for network, scale, budget in product(
            gv_tables.GV_NETWORKS, gv_tables.GV_SCALES, ("quick", "standard", "paper")
        ):
            patch = cell(network=network, scale=scale, budget=budget).data.patch
            assert patch % scale == 0
            assert patch >= gv_tables.GV_PATCH[scale]

    def test_weights_are_the_published_ones(self) -> None:
        weights = {
            (term.name, term.weight)
            for recipe in GV_TABLES.values()
            for term in recipe.stages[0].terms
        }
        assert weights == {("pixel", 1.0), ("base", 1.0), ("gv", 0.01), ("tv", 1e-8)}


class TestPaperSettings:
    def test_vdsr_is_trained_as_in_the_published_code(self) -> None:
        # 800 images in batches of 64 are 13 updates an epoch; 30 epochs, drops after 10 and 20
        recipe = cell(network="vdsr", scale=2, budget="paper")
        optim = recipe.stages[0].optim
        assert (recipe.steps, recipe.data.batch, recipe.data.patch) == (390, 64, 128)
        assert (optim.kind, optim.momentum, optim.weight_decay) == ("sgd", 0.9, 1e-4)
        assert (optim.clip, optim.clip_limit) == ("norm", 0.4)
        rates = [optim.learning_rate_at(step, steps=390) for step in (0, 129, 130, 259, 260, 389)]
        assert rates == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001])
        # Table 2 trains the same network the same way.
        second = cell(base="l2", budget="paper")
        assert second == dataclasses.replace(recipe, name=second.name, stages=second.stages)
        assert (second.stages[0].optim, second.data.crop) == (optim, "centre")

    def test_vdsr_is_the_variant_of_the_published_code(self) -> None:
        model = cell(network="vdsr", scale=3).model.build()
        assert isinstance(model, VDSR) and model.interpolation == "bilinear"
        assert parameter_count(model) == 665_856
        other = cell(network="vdsr", scale=3, degradation="bicubic").model.build()
        assert isinstance(other, VDSR) and other.interpolation == "bicubic"

    def test_patches_at_x3_and_x4_are_sixteen_wide(self) -> None:
        patches = {
            scale: dict(
                cell(network="edsr", scale=scale, addition="gv").stages[0].terms[1].loss.arguments
            )["patch"]
            for scale in (2, 3, 4)
        }
        assert patches == {2: 8, 3: 16, 4: 16}


class TestPrintedNumbers:
    def test_all_of_table_1_is_there(self) -> None:
        assert len(TABLE1) == 4 * 3 * 3

    def test_means_over_table_1(self) -> None:
        # Sums of the 36 values in each column of the printed table.
        psnr = [sum(each.psnr[k] for each in TABLE1.values()) for k in (0, 1)]
        ssim = [sum(each.ssim[k] for each in TABLE1.values()) for k in (0, 1)]
        assert psnr == pytest.approx([960.95, 968.93])
        assert ssim == pytest.approx([29.1643, 29.37926])

    def test_anomalies_are_noted(self) -> None:
        for (_, network, scale), printed in TABLE1.items():
            loses = printed.psnr[1] < printed.psnr[0]
            assert ("lowers PSNR" in printed.note) == loses
            broken = (network, scale) == ("edsr", 3) and printed.psnr[0] < 27
            assert ("failed run" in printed.note) == broken

    def test_table_2_repeats_a_row_of_table_1(self) -> None:
        ours = TABLE2["div2k_valid", "l2", "gv"]
        theirs = TABLE1["div2k_valid", "vdsr", 2]
        assert ours.psnr == theirs.psnr
        # Table 1 has cut digits off, where it should have rounded: 0.9036 for 0.903685.
        assert [int(value * 10_000) / 10_000 for value in ours.ssim] == list(theirs.ssim)


class TestWrongRequests:
    def test_unknown_network_names_the_nearest(self) -> None:
        with pytest.raises(InputError, match="Did you mean 'espcn'"):
            comparisons("gv_table1", networks=("espc",))  # type: ignore[arg-type]

    def test_a_network_or_scale_that_table_2_lacks(self) -> None:
        with pytest.raises(InputError, match="no network in this table 'edsr'"):
            comparisons("gv_table2", networks=("edsr",))
        with pytest.raises(InputError, match="no scale in this table '3'"):
            comparisons("gv_table2", scales=(3,))
