"""Tests of tables: their text, Markdown and JSON."""

import dataclasses
import io
import json
import math

import pytest
from rich.console import Console

from edgekeeper.errors import InputError
from edgekeeper.evaluation.tables import Table, as_json, as_markdown, as_rich, number, score_table
from edgekeeper.metrics.protocol import PROTOCOLS
from edgekeeper.metrics.score import SetMean
from edgekeeper.metrics.statistics import Difference
from edgekeeper.papers.training import ReproducedRow, ReproducedTable, reproduction_table

ROW = ReproducedRow(
    set="set5",
    network="EDSR",
    scale=3,
    base="L1",
    term="GV",
    measure="psnr",
    without=30.123,
    added=30.456,
    difference=Difference(0.333, -0.004, 0.7, "not distinguishable"),
    images=5,
    seeds=1,
    paper_without=26.49,
    paper_added=26.48,
    paper_difference=-0.01,
    note="a failed run",
)


def mean(model: str, *, protocol: str = "y_matlab", **numbers: float) -> SetMean:
    means = {
        "psnr": 30.0,
        "ssim": 0.9,
        "gradient_psnr": 25.0,
        "gv_ratio": 0.8,
        "gv_gap": 0.3,
        "gmsd": 0.05,
    }
    return SetMean(
        set="set5",
        scale=4,
        model=model,
        protocol=PROTOCOLS[protocol],
        lr_kernel="set_files",
        images=5,
        means={**means, **numbers},
    )


class TestNumber:
    @pytest.mark.parametrize(
        ("value", "digits", "text"),
        [(30.126, 2, "30.13"), (-0.5, 2, "-0.50"), (5, 1, "5.0"), (None, 2, "–")],
    )
    def test_digits(self, value: object, digits: int, text: str) -> None:
        assert number(value, digits=digits) == text

    def test_infinity_is_a_word(self) -> None:
        assert number(math.inf, digits=2) == "inf"

    def test_a_difference_has_its_sign(self) -> None:
        assert number(0.126, digits=2, sign="always") == "+0.13"
        assert number(-0.126, digits=2, sign="always") == "-0.13"

    def test_what_rounds_to_zero_has_no_direction(self) -> None:
        assert number(-0.001, digits=2, sign="always") == "±0.00"
        assert number(-0.001, digits=2) == "0.00"

    @pytest.mark.parametrize("value", ["30", True])
    def test_other_values_are_refused(self, value: object) -> None:
        with pytest.raises(InputError, match="must be a number"):
            number(value, digits=2)


class TestReproduction:
    def table(self, **changes: object) -> Table:
        row = dataclasses.replace(ROW, **changes)  # type: ignore[arg-type]
        protocol = PROTOCOLS["gv_repo"]
        found = ReproducedTable(
            "gv_table1", "quick", protocol, "store", "complete", (row,), (), ("one seed",)
        )
        return reproduction_table(found)

    def test_a_row_says_all(self) -> None:
        assert self.table().cells == (
            (
                "set5",
                "EDSR ×3",
                "L1 + GV",
                "PSNR",
                "30.12",
                "30.46",
                "+0.33 [±0.00, +0.70]",
                "not distinguishable",
                "26.49",
                "26.48",
                "-0.01",
            ),
        )

    def test_ssim_has_four_digits(self) -> None:
        cells = self.table(measure="ssim", without=0.91234).cells[0]
        assert cells[3:5] == ("SSIM", "0.9123")

    def test_what_the_paper_lacks_is_a_dash(self) -> None:
        cells = self.table(paper_without=None, paper_added=None, paper_difference=None).cells[0]
        assert cells[-3:] == ("–", "–", "–")

    def test_notes_name_protocol_and_oddities(self) -> None:
        notes = self.table().notes
        assert "'gv_repo' (PSNR ↑)" in notes[0]
        assert notes[1:] == ("one seed", "Paper, set5 EDSR ×3: a failed run.")


class TestScores:
    def test_the_best_of_a_set_is_starred(self) -> None:
        means = [
            mean("a", psnr=31.0, gv_ratio=1.1, gv_gap=0.4),
            mean("b", psnr=30.0, gv_ratio=0.8, gv_gap=0.2),
        ]
        a, b = score_table(means).cells
        assert a[:5] == ("set5", "×4", "a", "5", "31.00*")
        assert b[4] == "30.00 "
        assert (a[7], b[7]) == ("1.100*", "0.800 ")  # nearest 1
        assert (a[8], b[8]) == ("0.400 ", "0.200*")  # lowest

    def test_one_model_alone_is_not_starred(self) -> None:
        assert "*" not in "".join(score_table([mean("a")]).cells[0])

    def test_perceptual_columns_say_over_how_many_images(self) -> None:
        one = dataclasses.replace(
            mean("a", lpips=0.2, niqe=5.0),
            counted={"lpips": 5, "niqe": 3, "pi": 0},
            notes=("set5: NIQE is unavailable for 2 of 5 images.",),
        )
        table = score_table([one])
        assert list(table.columns)[-3:] == [">LPIPS ↓", ">NIQE ↓", ">PI ↓"]
        assert table.cells[0][-3:] == ("0.2000", "5.000 (3 of 5)", "–")
        assert table.notes[1:] == one.notes

    def test_columns_are_chosen_and_ordered(self) -> None:
        table = score_table([mean("a", psnr=31.0)], metrics=("ssim", "psnr"))
        assert list(table.columns)[4:] == [">SSIM ↑", ">PSNR ↑"]
        assert table.cells[0][4:] == ("0.9000", "31.00")

    def test_means_over_unlike_images_are_not_starred(self) -> None:
        def counted(model: str, count: int, niqe: float) -> SetMean:
            return dataclasses.replace(mean(model, niqe=niqe), counted={"niqe": count})

        a, b = score_table([counted("a", 5, 4.0), counted("b", 4, 5.0)], metrics=("niqe",)).cells
        assert (a[4], b[4]) == ("4.000", "5.000 (4 of 5)")
        a, b = score_table([counted("a", 5, 4.0), counted("b", 5, 5.0)], metrics=("niqe",)).cells
        assert (a[4], b[4]) == ("4.000*", "5.000 ")
        missing = dataclasses.replace(mean("b"), counted={"niqe": 0})
        a, b = score_table([counted("a", 5, 4.0), missing], metrics=("niqe",)).cells
        assert (a[4], b[4]) == ("4.000", "–")

    def test_two_protocols_never_share_a_column(self) -> None:
        with pytest.raises(InputError, match="y_matlab, gv_repo"):
            score_table([mean("a"), mean("b", protocol="gv_repo")])


class TestForms:
    TABLE = Table(
        title="Title [bold]",
        columns=("name", ">number"),
        cells=(("a|b", "1.0"), ("[red]", "+0.13 [0.05, 0.21]")),
        notes=("a note [1]",),
    )

    def test_markdown(self) -> None:
        assert as_markdown(self.TABLE).splitlines() == [
            "**Title [bold]**",
            "",
            "| name | number |",
            "| :--- | ---: |",
            r"| a\|b | 1.0 |",
            "| [red] | +0.13 [0.05, 0.21] |",
            "",
            "- a note [1]",
        ]

    def printed(self, table: Table, width: int) -> list[str]:
        console = Console(file=io.StringIO(), width=width, color_system=None)
        with console.capture() as captured:
            console.print(as_rich(table, width=width))
        return [line.strip() for line in captured.get().splitlines()]

    def test_text_keeps_brackets_and_aligns(self) -> None:
        lines = self.printed(self.TABLE, 60)
        assert lines[0] == "Title [bold]"
        assert any(
            line.startswith("[red]") and line.endswith("+0.13 [0.05, 0.21]") for line in lines
        )
        assert any(line.startswith("a|b") and line.endswith(" 1.0") for line in lines)
        assert lines[-1] == "a note [1]"

    def test_text_is_broken_between_words_alone(self) -> None:
        table = Table(
            "t",
            ("set", "network", ">first number", ">second number", "what is to be said"),
            (("set5", "edsr_light_x4", "+0.13 [0.05, 0.21]", "12.3456", "undecided"),),
            notes=("a note",),
            keys=2,
        )
        words = [w for text in (*table.columns, *table.cells[0]) for w in text.strip(">").split()]
        for width in (36, 40, 50, 60, 80, 120):
            lines = self.printed(table, width)
            assert max(map(len, lines)) <= width
            assert {*words, "note"} <= {word for line in lines for word in line.split()}
        # The columns that say what a row is about begin each part.
        assert sum(line.startswith("set5") for line in self.printed(table, 40)) == 3
        assert sum(line.startswith("set5") for line in self.printed(table, 80)) == 1

    def test_rows_of_another_width_are_refused(self) -> None:
        with pytest.raises(InputError, match="3 cells for 1 columns"):
            Table("t", ("a",), (("1", "2", "3"),))

    def test_json_keeps_digits_and_spells_infinity(self) -> None:
        text = as_json({"protocol": "y_matlab", "rows": [{"psnr": math.inf, "ssim": 1 / 3}]})
        assert json.loads(text) == {
            "protocol": "y_matlab",
            "rows": [{"psnr": "inf", "ssim": 1 / 3}],
        }
