"""Printed tables and ours beside them: on tiny sets, and on the public ones where they are."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import edgekeeper.papers.scored
from edgekeeper.errors import DataError, InputError
from edgekeeper.evaluation.evaluate import evaluate
from edgekeeper.evaluation.tables import as_markdown
from edgekeeper.metrics.score import Score, read_scores
from edgekeeper.metrics.statistics import interval, paired_difference
from edgekeeper.models import ESPCN
from edgekeeper.papers.measured import MeasuredTable, Section, TableLine, as_tables, beside
from edgekeeper.papers.printed import PRINTED, PrintedTable, quoted_networks
from edgekeeper.papers.scored import Ours, files_key

TINY = PrintedTable(
    3,
    "a paper",
    "a test",
    ("kodak", "urban100"),
    {
        "Plain": {"psnr": (30.12, 20.0), "ssim": (0.9, 0.5), "lpips": (0.1, 0.3), "pi": (3.0, 4.0)},
        "Shrunk": {"psnr": (31.0, 21.0), "ssim": (0.8, 0.6)},
        "Unsaid": {"psnr": (32.0, 22.0), "ssim": (0.7, 0.7)},
    },
    usual_ssim="y_matlab",
    ssim={"Shrunk": ("spsr_toolbox", "y_matlab"), "Unsaid": ("not stated", "not stated")},
    notes=("odd numbers.",),
)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with one set: 24 small images under the name of Kodak's."""
    folder = tmp_path_factory.mktemp("data") / "benchmarks" / "Kodak"
    folder.mkdir(parents=True)
    numbers = np.random.default_rng(0)
    for k in range(24):
        y, x = np.mgrid[0:32, 0:40, 0:1][:2]
        waves = 128 + 80 * np.sin(x / (3 + k % 5) + y / 5 + np.arange(3))
        noisy = (waves + numbers.normal(0, 10, waves.shape)).clip(0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(folder / f"kodim{k + 1:02d}.png")
    return folder.parents[1]


@pytest.fixture(autouse=True)
def no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EDGEKEEPER_DATA", raising=False)


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setitem(PRINTED, "tiny", TINY)
    return "tiny"


def network(seed: int = 0) -> ESPCN:
    torch.manual_seed(seed)
    return ESPCN(scale=4, channels="rgb")


@pytest.fixture(scope="module")
def measured(root: Path) -> MeasuredTable:
    """The tiny table with bicubic and one network measured beside it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("EDGEKEEPER_DATA", raising=False)
        patch.setitem(PRINTED, "tiny", TINY)
        return beside("tiny", ours=[Ours("net", network())], data_root=root)


def section(found: MeasuredTable, name: str) -> Section:
    return next(section for section in found.sections if section.name == name)


def line(
    found: MeasuredTable, part: str, *, method: str, origin: str, on: str = "kodak"
) -> TableLine:
    lines = section(found, part).lines
    return next(x for x in lines if (x.method, x.origin, x.set) == (method, origin, on))


class TestPrinted:
    """The tables agree with what else the papers say, and with each other."""

    def test_every_row_has_a_number_for_every_set(self) -> None:
        counts = dict.fromkeys(PRINTED, 0)
        for name, table in PRINTED.items():
            for numbers in table.rows.values():
                for values in numbers.values():
                    assert len(values) == len(table.sets), name
                    counts[name] += len(values)
            for kinds in table.ssim.values():
                assert len(kinds) == len(table.sets)
        assert counts == {
            "spsr-table1": 120,
            "spsr-table2": 36,
            "dgggan-table1": 8,
            "dgggan-table2": 2,
            "dgggan-table3": 72,
            "dgggan-table4": 72,
        }

    def test_numbers_are_of_their_kind(self) -> None:
        ranges = {"psnr": (20, 33), "ssim": (0.6, 0.96), "lpips": (0.05, 0.55), "pi": (2.3, 8.0)}
        for table in PRINTED.values():
            for numbers in table.rows.values():
                for measure, values in numbers.items():
                    low, high = ranges[measure]
                    assert all(low < value < high for value in values)

    def test_the_ablation_of_spsr_repeats_its_first_table(self) -> None:
        first, second = PRINTED["spsr-table1"], PRINTED["spsr-table2"]
        for method in ("ESRGAN", "SPSR"):
            for set_name in second.sets:
                for measure in second.measures:
                    rounded = second.value(method, set_name=set_name, measure=measure)
                    exact = first.value(method, set_name=set_name, measure=measure)
                    assert rounded == pytest.approx(exact, abs=6e-4)

    def test_dgggan_copied_four_rows_from_spsr(self) -> None:
        spsr, fidelity, seen = (
            PRINTED[name] for name in ("spsr-table1", "dgggan-table3", "dgggan-table4")
        )
        for method in ("ESRGAN", "SRGAN", "NatSR", "SPSR"):
            for set_name in fidelity.sets:
                for measure in ("pi", "lpips"):
                    copied = seen.value(method, set_name=set_name, measure=measure)
                    assert copied == spsr.value(method, set_name=set_name, measure=measure)
                copied = fidelity.value(method, set_name=set_name, measure="psnr")
                exact = spsr.value(method, set_name=set_name, measure="psnr")
                assert copied == pytest.approx(exact, abs=0.0101)  # cut or rounded
                copied = fidelity.value(method, set_name=set_name, measure="ssim")
                exact = spsr.value(method, set_name=set_name, measure="ssim")
                same = fidelity.definition(method, set_name=set_name) == "spsr_toolbox"
                assert (copied == exact) == same == (set_name != "urban100")

    def test_the_gain_of_the_gradient_branch_is_what_the_text_says(self) -> None:
        without, with_branch = PRINTED["dgggan-table1"].rows.values()
        gains = [a - b for a, b in zip(without["pi"], with_branch["pi"], strict=True)]
        assert gains == pytest.approx([0.3157, 0.3230, 0.3628, 0.4329], abs=1e-9)
        whole = PRINTED["dgggan-table4"].rows["DGGGAN"]["pi"]
        assert with_branch["pi"] == whole
        assert PRINTED["dgggan-table2"].rows["DGGGAN with SE"]["pi"] == whole[:1]

    def test_quoted_networks_have_the_printed_numbers(self) -> None:
        quoted = {each.method: each for each in quoted_networks("set5")}
        assert len(quoted) == 10
        assert (quoted["SPSR"].psnr, quoted["SPSR"].lpips) == (30.400, 0.0644)
        assert quoted["RCAN"].psnr == 32.63
        assert quoted_networks("kodak") == []

    def test_lpips_is_quoted_only_where_it_is_of_our_kind(self) -> None:
        quoted = {each.method: each.lpips for each in quoted_networks("set5")}
        without = {method for method, lpips in quoted.items() if lpips is None}
        assert without == set(quoted) - set(PRINTED["spsr-table1"].rows) - {"DGGGAN"}
        assert without == {"EDSR", "RCAN", "RDN", "DBPN"}
        text = as_markdown(as_tables(beside("dgggan-table4"))[-1])
        assert "Rows EDSR to DBPN have LPIPS of another, unstated kind" in " ".join(text.split())


class TestSections:
    def test_without_data_there_are_the_printed_rows(self, table: str) -> None:
        found = beside(table)
        assert {x.origin for part in found.sections for x in part.lines} == {"paper"}
        assert any("need the folder" in note for note in found.notes)

    def test_only_the_measures_that_are_shown_are_explained(self) -> None:
        texts = {
            name: " ".join(as_markdown(as_tables(beside(name))[-1]).split())
            for name in ("dgggan-table1", "dgggan-table2", "dgggan-table4")
        }
        assert all("NIQE and PI on Y without 4 pixels" in text for text in texts.values())
        assert [name for name, text in texts.items() if "LPIPS on whole" in text] == [
            "dgggan-table4"
        ]

    def test_ssim_of_unlike_kinds_is_kept_apart(self, table: str) -> None:
        found = beside(table)
        rows = {part.name: {(x.set, x.method) for x in part.lines} for part in found.sections}
        assert rows["spsr_toolbox"] == {
            ("kodak", "Shrunk"),
            ("kodak", "Unsaid"),
            ("urban100", "Unsaid"),
        }
        assert rows["y_matlab"] == {
            ("kodak", "Plain"),
            ("kodak", "Unsaid"),
            ("urban100", "Plain"),
            ("urban100", "Shrunk"),
            ("urban100", "Unsaid"),
        }

    def test_what_is_not_stated_is_marked(self, table: str) -> None:
        text = "\n".join(as_markdown(shown) for shown in as_tables(beside(table)))
        assert "0.7?" in text and "0.9?" not in text
        assert "does not state which kind" in text
        assert "odd numbers." in text

    def test_ours_stands_below_the_row_it_is_named_after(self, table: str, root: Path) -> None:
        rows = [Ours("plain", network()), Ours("new", network(1))]
        found = beside(table, ours=rows, data_root=root)
        order = [(x.method, x.origin) for x in section(found, "y_matlab").lines if x.set == "kodak"]
        assert order == [
            ("Bicubic", "ours"),
            ("Plain", "paper"),
            ("plain", "ours"),
            ("Unsaid", "paper"),
            ("new", "ours"),
        ]
        assert "Not measured here: urban100." in found.notes

    @pytest.mark.parametrize("protocol", ["spsr_toolbox", "y_matlab"])
    def test_numbers_are_those_of_evaluate(
        self, measured: MeasuredTable, root: Path, protocol: str
    ) -> None:
        found = measured
        for subject, name in ((network(), "net"), ("bicubic", "Bicubic")):
            scores = evaluate(subject, sets=["kodak"], scale=4, data_root=root, protocol=protocol)
            values = line(found, protocol, method=name, origin="ours").values
            for measure in ("psnr", "ssim"):
                numbers = [getattr(score, measure) for score in scores]
                expected = interval(numbers)
                value = values[measure]
                assert value is not None
                assert (value.mean, value.low, value.high) == pytest.approx(
                    (expected.mean, expected.low, expected.high)
                )
                assert value.images == 24

    def test_bicubic_depends_on_the_protocol(self, measured: MeasuredTable) -> None:
        numbers = []
        for part in ("spsr_toolbox", "y_matlab"):
            value = line(measured, part, method="Bicubic", origin="ours").values["psnr"]
            assert value is not None
            numbers.append(value.mean)
        assert numbers[0] != numbers[1]  # from an LR that was never rounded, and a stored one

    def test_metrics_without_weights_are_unavailable(self, table: str, root: Path) -> None:
        found = beside(table, data_root=root)
        values = line(found, "perceptual", method="Bicubic", origin="ours").values
        assert values == {"lpips": None, "pi": None, "niqe": None}
        text = as_markdown(as_tables(found)[-1])
        assert "unavailable" in text
        assert any(note.startswith("PI is unavailable (24 results).") for note in found.notes)

    def test_a_folder_of_results(self, table: str, root: Path, tmp_path: Path) -> None:
        results = tmp_path / "results"
        shutil.copytree(root / "benchmarks" / "Kodak", results)
        for file in results.iterdir():  # nearly the originals
            pixels = np.asarray(Image.open(file)).astype(int)
            Image.fromarray((pixels + 1).clip(0, 255).astype(np.uint8)).save(file)
        found = beside(table, ours=[Ours("files", results)], data_root=root)
        value = line(found, "y_matlab", method="files", origin="ours").values["psnr"]
        assert value is not None
        assert value.mean > 40

    def test_exact_results_have_no_interval(self, table: str, root: Path) -> None:
        same = root / "benchmarks" / "Kodak"
        found = beside(table, ours=[Ours("same", same)], data_root=root)
        value = line(found, "y_matlab", method="same", origin="ours").values["psnr"]
        assert value is not None
        assert (value.mean, value.low) == (float("inf"), None)
        assert not [x for x in found.contrasts if x.measure == "psnr"]

    def test_json_holds_everything(self, measured: MeasuredTable) -> None:
        stored = json.loads(json.dumps(measured.to_json()))
        assert stored["protocols"]["spsr_toolbox"]["ssim_downsampling"] == "auto"
        assert [part["name"] for part in stored["sections"]] == [
            "spsr_toolbox",
            "y_matlab",
            "perceptual",
        ]
        assert stored["contrasts"][0]["images"] == 24


class TestContrasts:
    def test_one_row_is_compared_with_bicubic(self, measured: MeasuredTable, root: Path) -> None:
        found = measured
        names = {(x.method, x.against) for x in found.contrasts}
        assert names == {("net", "Bicubic")}
        each = next(x for x in found.contrasts if (x.section, x.measure) == ("y_matlab", "psnr"))
        a, b = (
            [
                score.psnr
                for score in evaluate(
                    subject, sets=["kodak"], scale=4, data_root=root, protocol="y_matlab"
                )
            ]
            for subject in (network(), "bicubic")
        )
        expected = paired_difference(a, b)
        assert each.difference == expected

    def test_several_are_compared_with_the_first(self, table: str, root: Path) -> None:
        rows = [Ours(name, network(seed)) for seed, name in enumerate(("a", "b", "c"))]
        found = beside(table, ours=rows, data_root=root)
        assert {(x.method, x.against) for x in found.contrasts} == {("b", "a"), ("c", "a")}


class TestKeeping:
    @pytest.fixture
    def run(self, table: str, root: Path, tmp_path: Path) -> Callable[..., MeasuredTable]:
        def call(key: str = "k", **changes: object) -> MeasuredTable:
            rows = [Ours("net", network(), key=key)]
            return beside(table, ours=rows, data_root=root, out=tmp_path / "out", **changes)  # type: ignore[arg-type]

        return call

    def test_nothing_is_measured_twice(
        self, run: Callable[..., MeasuredTable], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first = run()

        def refuse(*arguments: object, **options: object) -> None:
            raise AssertionError("measured again")

        monkeypatch.setattr(edgekeeper.papers.scored, "results", refuse)
        assert run() == first

    def test_another_network_under_the_name_is_measured(
        self, run: Callable[..., MeasuredTable]
    ) -> None:
        seen: list[Score] = []
        run()
        run(on_image=seen.append)
        assert seen == []
        run(key="other", on_image=seen.append)
        assert {score.model for score in seen} == {"net"}

    def test_damaged_scores_and_those_of_another_protocol_are_made_anew(
        self, run: Callable[..., MeasuredTable], tmp_path: Path
    ) -> None:
        first = run()
        (file,) = (tmp_path / "out").glob("net-*-y_matlab-*.jsonl")
        whole = file.read_text()
        for damaged in (whole[:-20], whole.replace('"border": "scale"', '"border": 1')):
            file.write_text(damaged)
            assert run() == first
            assert file.read_text() == whole
        assert len(read_scores(file)) == 24

    def test_the_key_follows_the_files(self, tmp_path: Path) -> None:
        file = tmp_path / "a.safetensors"
        file.write_bytes(b"one")
        first = files_key(file)
        assert files_key(file) == first
        file.write_bytes(b"two")
        assert files_key(file) != first
        folder = files_key(tmp_path)
        (tmp_path / "b.png").write_bytes(b"")
        assert files_key(tmp_path) != folder

    def test_sets_that_are_done_stay_when_a_later_one_fails(
        self, run: Callable[..., MeasuredTable], tmp_path: Path
    ) -> None:
        with pytest.raises(DataError, match="Urban100"):
            run(sets=("kodak", "urban100"))
        assert list((tmp_path / "out").glob("*kodak.jsonl"))


class TestWrongRequests:
    def test_an_unknown_table(self) -> None:
        with pytest.raises(InputError, match="Did you mean 'dgggan-table3'"):
            beside("dggan-table3")

    def test_an_unknown_set(self, table: str, root: Path) -> None:
        with pytest.raises(InputError, match="no image set 'kodac'"):
            beside(table, data_root=root, sets=("kodac",))

    @pytest.mark.parametrize("names", [("a", "A"), ("bicubic",)])
    def test_names_that_are_taken(self, table: str, root: Path, names: tuple[str, ...]) -> None:
        rows = [Ours(name, network()) for name in names]
        with pytest.raises(InputError, match="name of its own"):
            beside(table, ours=rows, data_root=root)

    def test_ours_without_data(self, table: str) -> None:
        with pytest.raises(InputError, match="data_root"):
            beside(table, ours=[Ours("net", network())])

    def test_a_network_of_another_scale(self, table: str, root: Path) -> None:
        with pytest.raises(InputError, match="enlarges by 2, not by 4"):
            beside(table, ours=[Ours("net", ESPCN(scale=2))], data_root=root)


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize("set_name", ["set5", "set14"])
def test_bicubic_is_what_spsr_prints(data_root: Path, set_name: str) -> None:
    found = beside(
        "spsr-table1", data_root=data_root, sets=(set_name,), weights=data_root / "weights"
    )
    table = PRINTED["spsr-table1"]
    digits = {"psnr": 3, "ssim": 4, "lpips": 4}
    for part in ("spsr_toolbox", "perceptual"):
        for measure, value in line(
            found, part, method="Bicubic", origin="ours", on=set_name
        ).values.items():
            if measure in digits:
                assert value is not None
                printed = table.value("Bicubic", set_name=set_name, measure=measure)
                assert round(value.mean, digits[measure]) == printed


@pytest.mark.data
def test_rcan_s_own_images_do_not_have_the_printed_lpips(data_root: Path) -> None:
    rows = [Ours("RCAN", data_root / "results" / "RCAN" / "Set5_x4")]
    found = beside(
        "dgggan-table4",
        ours=rows,
        data_root=data_root,
        sets=("set5",),
        weights=data_root / "weights",
    )
    ours, paper = (
        line(found, "perceptual", method="RCAN", origin=origin, on="set5").values["lpips"]
        for origin in ("ours", "paper")
    )
    assert ours is not None and paper is not None
    assert (round(ours.mean, 4), paper.mean) == (0.1692, 0.2158)  # as the table's note says
