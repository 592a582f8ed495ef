"""Networks of others by name, the Hugging Face Hub, and the cards as lines."""

import json
import sys
import types
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from edgekeeper.data.catalogue import Remote
from edgekeeper.errors import InputError, UnavailableError
from edgekeeper.files import sha256_of
from edgekeeper.models import SRVGGNetCompact
from edgekeeper.pretrained import public
from edgekeeper.pretrained.cards import (
    PRICES,
    card_lines,
    line_of,
    price_line,
    prices_of,
    quality_of,
    speed_of,
    style_of,
    training_lines,
)
from edgekeeper.pretrained.checkpoint import save_model
from edgekeeper.pretrained.public import PUBLIC, HubAddress, hub_address
from edgekeeper.pretrained.zoo import find, load, networks
from edgekeeper.spec import spec

Command = Callable[..., Any]
SMALL = spec(SRVGGNetCompact, scale=4, width=4, convolutions=2)


def test_addresses_of_the_hub() -> None:
    expected = {
        "hf://me/net": HubAddress("me/net", "model.safetensors", None),
        "hf:/me/net": HubAddress("me/net", "model.safetensors", None),  # as a path has it
        "hf://me/net@v1/a/b.pth": HubAddress("me/net", "a/b.pth", "v1"),
        "hf://me/net/b.pth": HubAddress("me/net", "b.pth", None),
        "espcn_x4": None,
        "folder/hf/x.pth": None,
    }
    assert {text: hub_address(text) for text in expected} == expected
    with pytest.raises(InputError, match="OWNER/NAME/FILE"):
        hub_address("hf://only")


def test_public_networks_say_what_they_are() -> None:
    for name, entry in PUBLIC.items():
        assert entry.licence and entry.line and entry.scale == 4, name
        assert entry.remote.sha256 is not None and len(entry.remote.sha256) == 64, name


def test_a_public_network_is_got_once_and_then_known_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    monkeypatch.setenv("EDGEKEEPER_CACHE", str(tmp_path / "cache"))
    origin = tmp_path / "compact.pth"
    torch.save({"params": SMALL.build().state_dict()}, origin)
    name = "realesr-general-x4v3"
    entry = replace(PUBLIC[name], remote=Remote("compact.pth", origin.as_uri()))
    monkeypatch.setitem(public.PUBLIC, name, entry)
    with pytest.raises(InputError, match=f"run: edgekeeper models get {name}"):
        find(name)
    assert "to get" in command("models").out
    ran = command("models", "get", name)
    assert ran.status == 0 and "BSD-3-Clause" in ran.out, ran.err
    origin.unlink()
    assert command("models", "get", name).status == 0  # it is kept
    assert isinstance(load(name), SRVGGNetCompact)
    assert "Did you mean 'realesr-general-x4v3'" in command("models", "get", "realesr-x4v3").err


class Hub(types.ModuleType):
    """The two things of huggingface_hub that are used, on a folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__("huggingface_hub")
        self.folder = folder

    def hf_hub_download(self, repository: str, file: str, *, revision: str | None) -> str:
        path = self.folder / repository / file
        if not path.is_file():
            raise OSError("404: not there\nand much more")
        return str(path)

    def HfApi(self) -> "Hub":  # noqa: N802
        return self

    def create_repo(self, repository: str, *, exist_ok: bool) -> None:
        (self.folder / repository).mkdir(parents=True, exist_ok=exist_ok)

    def upload_file(
        self, *, path_or_fileobj: Any, path_in_repo: str, repo_id: str, revision: str | None
    ) -> None:
        there = isinstance(path_or_fileobj, bytes)
        content = path_or_fileobj if there else Path(path_or_fileobj).read_bytes()
        (self.folder / repo_id / path_in_repo).write_bytes(content)


def test_a_network_is_pushed_and_loaded_from_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command
) -> None:
    own = tmp_path / "mine.safetensors"
    save_model(own, SMALL.build(), spec=SMALL, card={"steps": 7, "recipe": {"name": "r"}})
    monkeypatch.setitem(sys.modules, "huggingface_hub", Hub(tmp_path / "hub"))
    ran = command("models", "push", own, "hf://me/net")
    assert ran.status == 0 and "https://huggingface.co/me/net" in ran.out, ran.err
    readme = (tmp_path / "hub" / "me" / "net" / "README.md").read_text(encoding="utf-8")
    assert readme.startswith("# mine: ×4, SRVGGNetCompact") and "recipe r: 7 updates" in readme
    assert isinstance(load("hf://me/net"), SRVGGNetCompact)
    with pytest.raises(UnavailableError, match=r"cannot be had: 404: not there$"):
        load("hf://me/other")
    assert "no address hf://" in command("models", "push", own, "ftp://x").err
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UnavailableError, match=r"edgekeeper\[hub\]"):
        load("hf://me/net")


def test_the_table_and_the_cards_can_be_read(command: Command) -> None:
    shipped = {network.name: network for network in networks()}
    found = shipped["espcn_x4_gv"]
    assert (style_of(found.name), speed_of(found)) == ("sharp", "fast")
    assert set(quality_of(found)) == {"set5", "set14", "bsd100"}
    assert line_of(shipped["espcn_x4_gv"]) == "truer gradients (GV loss)"
    rows = [line.split() for line in command("models").out.splitlines()]
    named = [row[0] for row in rows if len(row) > 1 and row[1].startswith("×")]
    assert sorted(named) == sorted([*shipped, *PUBLIC])  # one line each
    assert ["name", "scale", "MB", "style", "speed"] in [row[:5] for row in rows]
    for network in shipped.values():
        lines = list(card_lines(network))
        assert all(0 < len(line) < 2_000 for line in lines), network.name
        assert any(line.startswith("  set14") for line in lines), network.name
        prices = json.loads(PRICES.read_text(encoding="utf-8"))[network.name]
        assert prices["sha256"] == sha256_of(network.path), f"{network.name}: measure it anew"
        assert list(prices_of(network.name)) == [0.25, 0.5, 1.0]
    listed = next(row for row in rows if row[:1] == ["balanced_x4"])
    assert listed[7] == "-0.03"  # dB of a sharpness of 0.25, as in docs/sharpness.md
    read = command("models", "card", "balanced_x4").out
    assert "  0.5      -0.14 dB [" in read
    told = price_line("balanced_x4", 0.375)  # between two that were measured
    assert told == "Sharpness 0.375 changes PSNR by -0.09 dB (balanced_x4, mean of Set5 and Set14)."
    assert "166,864 parameters" in read and "CC-BY-4.0" in read and "begins from" in read
    terms = ("CC BY 4.0, Ann (Flickr), 2024", "public domain (A, as B says)", "public domain, as C")
    told = list(training_lines({"images": [{"licence": text} for text in terms]}))[1:3]
    kinds = "1 CC BY 4.0, 1 public domain (A, as B says), 1 public domain"
    assert told == [f"  3 images: {kinds}", "  with thanks to Ann (Flickr), 2024"]
    card = json.loads(command("models", "card", "balanced_x4", "--json").out)
    assert card["sharpness"]["0.5"][0] == -0.142
    assert card["scale"] == 4 and len(card["pictures" if "pictures" in card else "images"]) > 100


def test_a_card_names_each_teacher_of_parts_of_a_store() -> None:
    of = [{"name": "a", "sha256": "1" * 64}, {"name": "a", "sha256": "2" * 64}]
    before = {"teacher": {"name": "b", "share": 1}}
    card = {"teacher": {"name": "both", "share": 0.8, "of": of}, "origin": {"card": before}}
    assert [line.strip() for line in training_lines(card) if "taught" in line] == [
        "taught by a (SHA-256 11111111…): 0.8 of its result in HR",
        "taught by a (SHA-256 22222222…): 0.8 of its result in HR",
        "an ancestor was taught by b: 1 of its result in HR",
    ]
