import itertools
import json
import os
import pickle
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from edgekeeper.errors import CheckpointError, EdgekeeperError
from edgekeeper.models import EDSR, ESPCN, SRCNN, VDSR, GradientBranch, SRModel
from edgekeeper.pretrained import checkpoint
from edgekeeper.pretrained.checkpoint import (
    load_exactly,
    load_model,
    optimizer_tensors,
    read_network,
    read_tensors,
    restore_optimizer,
    save_model,
    write_tensors,
)
from edgekeeper.spec import Spec, spec

OLD, NEW = torch.arange(6.0), torch.arange(6.0) * 2


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


class TestWriteAndRead:
    def test_tensors_and_facts_come_back_as_they_were(
        self, tmp_path: Path, generator: torch.Generator
    ) -> None:
        tensors = {
            "a": torch.rand(2, 3, generator=generator),
            "b": torch.rand(5, generator=generator).to(torch.bfloat16),
            "c": torch.arange(4),
            "scalar": torch.tensor(3.5),
            "empty": torch.zeros(0, 3),
        }
        facts = {"step": 3, "seconds": 1 / 3, "name": "Träume", "list": [1, [2.5, None]]}
        write_tensors(tmp_path / "new" / "x.safetensors", tensors, facts=facts)
        file = read_tensors(tmp_path / "new" / "x.safetensors")
        assert file.facts == facts
        assert file.tensors.keys() == tensors.keys()
        for name, tensor in tensors.items():
            assert file.tensors[name].dtype == tensor.dtype
            assert torch.equal(file.tensors[name], tensor)

    def test_parameters_in_another_memory_layout_keep_their_values(
        self, tmp_path: Path, generator: torch.Generator
    ) -> None:
        tensor = torch.rand(2, 3, 4, 5, generator=generator)
        laid_out = tensor.to(memory_format=torch.channels_last).requires_grad_()
        write_tensors(tmp_path / "x", {"a": laid_out}, facts={})
        assert torch.equal(read_tensors(tmp_path / "x").tensors["a"], tensor)

    def test_writing_leaves_one_file(self, tmp_path: Path) -> None:
        write_tensors(tmp_path / "x", {"a": OLD}, facts={})
        write_tensors(tmp_path / "x", {"a": NEW}, facts={})
        assert names_in(tmp_path) == ["x"]
        assert torch.equal(read_tensors(tmp_path / "x").tensors["a"], NEW)

    @pytest.mark.skipif(sys.platform == "win32", reason="needs permissions as on Unix")
    def test_others_may_read_the_file_as_they_may_any_new_file(self, tmp_path: Path) -> None:
        (tmp_path / "any").write_text("", encoding="utf-8")
        write_tensors(tmp_path / "x", {"a": OLD}, facts={})
        assert (tmp_path / "x").stat().st_mode == (tmp_path / "any").stat().st_mode

    def test_a_file_that_was_read_can_be_replaced(self, tmp_path: Path) -> None:
        write_tensors(tmp_path / "x", {"a": OLD}, facts={})
        before = read_tensors(tmp_path / "x").tensors["a"]
        write_tensors(tmp_path / "x", {"a": NEW}, facts={})
        assert torch.equal(before, OLD)

    def test_no_file_of_ours_is_a_pickle(self, tmp_path: Path) -> None:
        write_tensors(tmp_path / "x", {"a": OLD}, facts={"step": 1})
        data = (tmp_path / "x").read_bytes()
        length = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + length])  # safetensors: a JSON header, then raw numbers
        assert set(header) == {"a", "__metadata__"}
        assert data[8 + length :] == OLD.numpy().tobytes()
        with pytest.raises(pickle.UnpicklingError):
            pickle.loads(data)


class TestUnreadable:
    def test_a_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(CheckpointError, match=r"no checkpoint.*nowhere"):
            read_tensors(tmp_path / "nowhere")

    def test_a_folder(self, tmp_path: Path) -> None:
        with pytest.raises(CheckpointError):
            read_tensors(tmp_path)

    @pytest.mark.parametrize("share", [0.0, 0.001, 0.03, 0.5, 0.999])
    def test_a_file_that_was_cut_off(self, tmp_path: Path, share: float) -> None:
        path = tmp_path / "x"
        write_tensors(path, {"a": torch.zeros(2000)}, facts={"step": 1})
        data = path.read_bytes()
        path.write_bytes(data[: int(len(data) * share)])
        with pytest.raises(CheckpointError, match=r"cut off|is empty"):
            read_tensors(path)

    def test_a_changed_byte_anywhere_is_noticed(
        self, tmp_path: Path, generator: torch.Generator
    ) -> None:
        path = tmp_path / "x"
        tensors = {"model.a": torch.rand(3, 2, generator=generator), "ema.a": torch.tensor(2)}
        write_tensors(path, tensors, facts={"step": 41, "card": {"name": "x"}})
        data = path.read_bytes()
        for place, mask in itertools.product(range(len(data)), (1, 2, 16, 64, 128)):
            path.write_bytes(data[:place] + bytes([data[place] ^ mask]) + data[place + 1 :])
            with pytest.raises(CheckpointError, match=r"'.*x'"):
                read_tensors(path)

    def test_two_tensors_that_changed_places_are_noticed(self, tmp_path: Path) -> None:
        path = tmp_path / "x"
        write_tensors(path, {"a": OLD, "b": NEW}, facts={})
        data = path.read_bytes()
        half = len(data) - OLD.nbytes
        changed = data[: half - NEW.nbytes] + data[half:] + data[half - NEW.nbytes : half]
        assert changed != data
        path.write_bytes(changed)
        with pytest.raises(CheckpointError, match="is damaged"):
            read_tensors(path)

    def test_files_of_earlier_versions_have_no_digest(self, tmp_path: Path) -> None:
        safetensors.torch.save_file(
            {"a": OLD}, tmp_path / "x", metadata={"edgekeeper": '{"step": 1}'}
        )
        assert torch.equal(read_tensors(tmp_path / "x").tensors["a"], OLD)

    @pytest.mark.parametrize("content", [b"", b"hello", b"\xff" * 100, b"{}", b"\0" * 64])
    def test_a_file_of_something_else(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "x").write_bytes(content)
        with pytest.raises(CheckpointError, match=r"'.*x'"):
            read_tensors(tmp_path / "x")

    def test_a_pickle_is_refused_and_its_code_does_not_run(self, tmp_path: Path) -> None:
        class Trap:
            def __reduce__(self) -> tuple[object, ...]:
                return (Path.touch, (tmp_path / "sprung",))

        (tmp_path / "pickle.pth").write_bytes(pickle.dumps(Trap()))
        torch.save({"a": OLD, "trap": Trap()}, tmp_path / "zip.pth")
        for name in ("pickle.pth", "zip.pth"):
            with pytest.raises(CheckpointError):
                read_tensors(tmp_path / name)
            with pytest.raises(CheckpointError):
                load_model(tmp_path / name)
        assert not (tmp_path / "sprung").exists()

    @pytest.mark.parametrize(
        "metadata",
        [
            None,
            {},
            {"format": "pt"},
            {"edgekeeper": "{"},
            {"edgekeeper": "[1]"},
            {"edgekeeper": "null"},
        ],
    )
    def test_weights_of_another_program(
        self, tmp_path: Path, metadata: dict[str, str] | None
    ) -> None:
        safetensors.torch.save_file({"a": OLD}, tmp_path / "x", metadata=metadata)
        with pytest.raises(CheckpointError, match="not written by edgekeeper"):
            read_tensors(tmp_path / "x")


class TestFailedWrite:
    """What stood at the path is still there, whole, and nothing else is left."""

    @pytest.mark.parametrize(
        "failure", [OSError(28, "No space left on device"), SafetensorError("I/O error: disk full")]
    )
    def test_a_disk_that_fills_up(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: Exception
    ) -> None:
        path = tmp_path / "x"
        write_tensors(path, {"a": OLD}, facts={"step": 1})
        before = path.read_bytes()

        def half(tensors: dict[str, Tensor], name: str, metadata: dict[str, str]) -> None:
            Path(name).write_bytes(before[:20])
            raise failure

        monkeypatch.setattr(checkpoint, "save_file", half)
        with pytest.raises(CheckpointError, match=r"x' cannot be written: .*(disk|space)"):
            write_tensors(path, {"a": NEW}, facts={"step": 2})
        assert path.read_bytes() == before
        assert names_in(tmp_path) == ["x"]

    def test_a_rename_that_fails(self, tmp_path: Path) -> None:
        (tmp_path / "x").mkdir()  # a file cannot replace a folder
        with pytest.raises(CheckpointError, match="cannot be written"):
            write_tensors(tmp_path / "x", {"a": NEW}, facts={})
        assert names_in(tmp_path) == ["x"]

    def test_the_old_file_stands_until_the_new_one_takes_its_name(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "x"
        write_tensors(path, {"a": OLD}, facts={"step": 1})

        def killed(source: Path, target: Path) -> None:
            assert torch.equal(read_tensors(source).tensors["a"], NEW)  # complete by now
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(Path, "replace", killed)
            with pytest.raises(KeyboardInterrupt):
                write_tensors(path, {"a": NEW}, facts={"step": 2})
        assert read_tensors(path).facts == {"step": 1}

    def test_a_folder_that_cannot_be_made(self, tmp_path: Path) -> None:
        (tmp_path / "taken").write_text("a file", encoding="utf-8")
        with pytest.raises(CheckpointError, match="cannot be made"):
            write_tensors(tmp_path / "taken" / "x", {"a": NEW}, facts={})

    @pytest.mark.skipif(os.geteuid() == 0, reason="the administrator may write everywhere")
    def test_a_folder_without_permission(self, tmp_path: Path) -> None:
        write_tensors(tmp_path / "x", {"a": OLD}, facts={})
        tmp_path.chmod(0o500)
        try:
            with pytest.raises(CheckpointError, match="cannot be written"):
                write_tensors(tmp_path / "x", {"a": NEW}, facts={})
        finally:
            tmp_path.chmod(0o700)
        assert torch.equal(read_tensors(tmp_path / "x").tensors["a"], OLD)

    def test_a_kill_in_the_middle_of_writing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "x"
        write_tensors(path, {"a": OLD}, facts={"step": 1})
        data = path.read_bytes()

        def killed(tensors: dict[str, Tensor], name: str, metadata: dict[str, str]) -> None:
            Path(name).write_bytes(data[:20])
            raise KeyboardInterrupt  # like a kill: nothing of ours may catch it

        monkeypatch.setattr(checkpoint, "save_file", killed)
        with pytest.raises(KeyboardInterrupt):
            write_tensors(path, {"a": NEW}, facts={"step": 2})
        assert read_tensors(path).facts == {"step": 1}

    @pytest.mark.skipif(sys.platform == "win32", reason="needs limits on a process")
    def test_a_file_that_may_not_grow(self, tmp_path: Path) -> None:
        # A full disk without a disk: no file may grow beyond 40 kB.
        import resource

        path = tmp_path / "x"
        write_tensors(path, {"a": OLD}, facts={"step": 1})
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, limits[1]))
        try:
            with pytest.raises(CheckpointError, match="cannot be written"):
                write_tensors(path, {"a": torch.zeros(100_000)}, facts={"step": 2})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert read_tensors(path).facts == {"step": 1}
        assert names_in(tmp_path) == ["x"]


class TestLoadExactly:
    def fresh(self) -> tuple[ESPCN, dict[str, Tensor]]:
        model = ESPCN(scale=2)
        return model, {k: v + 1 for k, v in model.state_dict().items()}

    def test_all_tensors_are_loaded(self) -> None:
        model, tensors = self.fresh()
        load_exactly(model, tensors, origin="f")
        assert all(torch.equal(value, tensors[key]) for key, value in model.state_dict().items())

    def test_a_missing_entry_is_named(self) -> None:
        model, tensors = self.fresh()
        del tensors["conv2.bias"]
        with pytest.raises(CheckpointError, match=r"'f' does not fit ESPCN: missing conv2.bias;"):
            load_exactly(model, tensors, origin="f")

    def test_an_unknown_entry_is_named(self) -> None:
        model, tensors = self.fresh()
        tensors["conv9.bias"] = OLD
        with pytest.raises(CheckpointError, match=r"unknown conv9\.bias"):
            load_exactly(model, tensors, origin="f")

    def test_a_misshapen_entry_is_named_with_both_shapes(self) -> None:
        model, tensors = self.fresh()
        tensors["conv1.bias"] = torch.zeros(63)
        with pytest.raises(CheckpointError, match=r"conv1.bias is \(63,\).*needs \(64,\)"):
            load_exactly(model, tensors, origin="f")

    def test_a_shape_that_would_broadcast_is_refused(self) -> None:
        model, tensors = self.fresh()
        tensors["conv1.bias"] = torch.zeros(1)
        with pytest.raises(CheckpointError, match=r"conv1\.bias"):
            load_exactly(model, tensors, origin="f")

    @pytest.mark.parametrize("fault", ["missing", "unknown", "shape"])
    def test_after_an_error_the_network_is_as_before(self, fault: str) -> None:
        model, tensors = self.fresh()
        before = {k: v.clone() for k, v in model.state_dict().items()}
        if fault == "missing":
            del tensors["conv3.bias"]
        else:
            tensors["conv3.bias" if fault == "shape" else "more"] = torch.zeros(77)
        with pytest.raises(CheckpointError):
            load_exactly(model, tensors, origin="f")
        assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())

    def test_many_names_are_counted_not_listed(self) -> None:
        with pytest.raises(CheckpointError, match=r"missing conv1.bias, .* and 2 more; unknown"):
            load_exactly(ESPCN(scale=2), {}, origin="f")


class TestModelFile:
    SPECS: tuple[Spec[SRModel], ...] = (
        spec(ESPCN, scale=2),
        spec(ESPCN, scale=4, channels="rgb"),
        spec(SRCNN, scale=3, middle=1),
        spec(EDSR, scale=2, width=4, blocks=1, residual_scale=0.1),
        spec(EDSR, scale=4, width=4, blocks=2, upsampler="direct", skip="bicubic"),
        spec(VDSR, scale=2, variant="gv"),
        spec(
            GradientBranch,
            backbone=spec(EDSR, scale=3, width=4, blocks=2),
            width=4,
            taps=("blocks.0", "blocks.1.conv1"),
        ),
        spec(GradientBranch, backbone=spec(ESPCN, scale=2)),
    )

    @pytest.mark.parametrize("description", SPECS, ids=lambda s: f"{s.name}-{len(s.arguments)}")
    def test_a_network_comes_back_and_gives_equal_outputs(
        self, tmp_path: Path, description: Spec[SRModel], generator: torch.Generator
    ) -> None:
        model = description.build().eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.01 * torch.rand(parameter.shape, generator=generator)
        save_model(tmp_path / "model", model, spec=description, card={"steps": 3})
        again = load_model(tmp_path / "model")
        assert type(again) is type(model)
        assert (again.scale, again.channels) == (model.scale, model.channels)
        lr = torch.rand(1, 1 if model.channels == "y" else 3, 9, 7, generator=generator)
        with torch.no_grad():
            assert torch.equal(again(lr), model(lr))
        assert read_tensors(tmp_path / "model").facts["card"] == {"steps": 3}

    def test_a_loaded_network_is_float32_and_in_evaluation_mode(self, tmp_path: Path) -> None:
        model = ESPCN(scale=2).to(torch.bfloat16).train()
        save_model(tmp_path / "model", model, spec=spec(ESPCN, scale=2), card={})
        again = load_model(tmp_path / "model")
        assert not again.training
        assert {parameter.dtype for parameter in again.parameters()} == {torch.float32}

    def test_a_file_that_names_no_network(self, tmp_path: Path) -> None:
        write_tensors(tmp_path / "last", {"model.a": OLD}, facts={"step": 3})
        with pytest.raises(CheckpointError, match=r"last' does not say what network"):
            load_model(tmp_path / "last")

    @pytest.mark.parametrize("earlier", [False, True])
    def test_of_a_training_state_the_ema_is_loaded_where_there_is_one(
        self, tmp_path: Path, earlier: bool
    ) -> None:
        description = spec(ESPCN, scale=2)
        weights, ema = ESPCN(scale=2).state_dict(), ESPCN(scale=2).state_dict()
        facts: dict[str, object] = {"step": 3, "model": description.to_json(), "card": {"a": 1}}
        if earlier:
            facts = {"step": 3, "recipe": {"model": description.to_json()}}
        state = {f"model.{k}": v for k, v in weights.items()}
        state["optimizer.conv1.weight/step"] = torch.zeros(())
        write_tensors(tmp_path / "last", state, facts=facts)
        found = load_model(tmp_path / "last").state_dict()
        assert all(torch.equal(found[k], v) for k, v in weights.items())
        prefix = "average" if earlier else "ema"
        state |= {f"{prefix}.{k}": v for k, v in ema.items()}
        write_tensors(tmp_path / "last", state, facts=facts)
        found = load_model(tmp_path / "last").state_dict()
        assert all(torch.equal(found[k], v) for k, v in ema.items())
        assert read_network(tmp_path / "last").card == ({} if earlier else {"a": 1})

    def test_tensors_of_another_network_are_named(self, tmp_path: Path) -> None:
        save_model(tmp_path / "m", ESPCN(scale=2), spec=spec(ESPCN, scale=3), card={})
        with pytest.raises(CheckpointError, match="conv3"):
            load_model(tmp_path / "m")
        save_model(tmp_path / "m", ESPCN(scale=2), spec=spec(SRCNN, scale=2, middle=1), card={})
        with pytest.raises(CheckpointError, match="conv"):
            load_model(tmp_path / "m")

    @pytest.mark.parametrize(
        "description",
        [
            {"name": "EDSRR", "arguments": {}},
            {"name": "EDSR", "arguments": {"widths": 3}},
            {"name": "EDSR"},
            {"name": "EDSR", "arguments": {"scale": 7}},
            {"name": "EDSR", "arguments": {"width": "wide"}},
            {"name": "GradientBranch", "arguments": {}},
            {"name": "GradientBranch", "arguments": {"backbone": "EDSR"}},
            {"name": "GradientBranch", "arguments": {"backbone": {"scale": 2}}},
            {
                "name": "GradientBranch",
                "arguments": {"backbone": {"name": "EDSR9", "arguments": {}}},
            },
        ],
    )
    def test_a_network_that_this_version_does_not_know(
        self, tmp_path: Path, description: dict[str, object]
    ) -> None:
        write_tensors(tmp_path / "m", {"a": OLD}, facts={"model": description, "card": {}})
        with pytest.raises(EdgekeeperError):
            load_model(tmp_path / "m")


class TestOptimizer:
    @staticmethod
    def trained(kind: str) -> tuple[nn.Module, torch.optim.Optimizer]:
        with torch.random.fork_rng():
            torch.manual_seed(3)
            model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 1, 1))
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        optimizer: torch.optim.Optimizer = (
            torch.optim.Adam(model.parameters())
            if kind == "adam"
            else torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        )
        for _ in range(3):
            optimizer.zero_grad()
            model(torch.ones(1, 3, 5, 5)).square().sum().backward()
            optimizer.step()
        return model, optimizer

    @pytest.mark.parametrize(("kind", "count"), [("adam", 3), ("sgd", 1)])
    def test_state_comes_back_in_value_type_and_layout(self, kind: str, count: int) -> None:
        model, optimizer = self.trained(kind)
        tensors = {k: v.contiguous() for k, v in optimizer_tensors(optimizer, model).items()}
        assert len(tensors) == 4 * count
        again = type(optimizer)(model.parameters(), lr=0.5)
        restore_optimizer(again, model, tensors=tensors)
        for parameter in model.parameters():
            before, after = optimizer.state[parameter], again.state[parameter]
            assert before.keys() == after.keys()
            for key in before:
                assert torch.equal(before[key], after[key])
                assert before[key].dtype == after[key].dtype
                assert before[key].stride() == after[key].stride()

    @pytest.mark.parametrize("kind", ["adam", "sgd"])
    def test_a_parameter_that_no_gradient_reached_has_no_state_afterwards(self, kind: str) -> None:
        model, optimizer = self.trained(kind)
        idle = nn.ModuleDict({"used": model, "idle": nn.Conv2d(1, 1, 1)})
        optimizer.add_param_group({"params": list(idle["idle"].parameters())})
        tensors = optimizer_tensors(optimizer, idle)
        again = type(optimizer)(idle.parameters(), lr=0.5)
        restore_optimizer(again, idle, tensors=tensors)
        assert set(again.state) == set(model.parameters())
        for parameter in model.parameters():
            assert again.state[parameter].keys() == optimizer.state[parameter].keys()
        lost = {k: v for k, v in tensors.items() if not k.startswith("idle.bias/")}
        with pytest.raises(CheckpointError, match=r"lacks the optimizer's state of idle\.bias"):
            restore_optimizer(again, idle, tensors=lost)

    def test_state_is_saved_under_the_names_of_the_parameters(self) -> None:
        model, optimizer = self.trained("adam")
        names = optimizer_tensors(optimizer, model).keys()
        assert {name.rpartition("/")[0] for name in names} == dict(model.named_parameters()).keys()


def test_a_network_of_a_class_unknown_here_is_refused_with_the_file_s_name(tmp_path: Path) -> None:
    path = tmp_path / "later.safetensors"
    facts = {"model": {"name": "EDSR9", "arguments": {"scale": 2}}, "card": {}}
    write_tensors(path, {"weight": torch.zeros(1)}, facts=facts)
    with pytest.raises(CheckpointError, match=r"later\.safetensors.*EDSR9.*EDSR"):
        load_model(path)
