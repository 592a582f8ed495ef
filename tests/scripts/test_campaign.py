"""The fault campaign: mutations follow from the seed, and no file ends badly."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "campaign.py"
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limits of memory")


@pytest.fixture(scope="module")
def campaign() -> ModuleType:
    described = importlib.util.spec_from_file_location("campaign", SCRIPT)
    assert described is not None
    assert described.loader is not None
    module = importlib.util.module_from_spec(described)
    described.loader.exec_module(module)
    return module


def test_a_file_follows_from_seed_and_number(campaign: ModuleType) -> None:
    sound = {"a.png": bytes(range(256)) * 4, "b.gif": bytes(999)}
    files = [campaign.mutated(sound, seed=1, number=n) for n in range(60)]
    assert files == [campaign.mutated(sound, seed=1, number=n) for n in range(60)]
    assert len({data for _, data, _ in files}) > 50
    assert {kind for _, _, kind in files} >= {"bits", "cut off", "spliced", "doubled"}
    assert files != [campaign.mutated(sound, seed=2, number=n) for n in range(60)]


def test_what_dies_hangs_or_lies_is_counted(
    campaign: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = tmp_path / "worker.py"
    worker.write_text(
        "import os, sys, time, json\n"
        "start = int(sys.argv[sys.argv.index('--start') + 1])\n"
        "for n in range(start, 6):\n"
        "    if n == 1: os.abort()\n"
        "    if n == 3: time.sleep(60)\n"
        "    if n == 5: sys.exit('MemoryError')\n"
        "    print(json.dumps({'number': n, 'result': 'read'}), flush=True)\n",
        encoding="utf-8",
    )
    monkeypatch.setattr(campaign, "__file__", str(worker))
    monkeypatch.setattr(campaign, "SILENCE", 3.0)
    found = [(one["number"], one["result"]) for one in campaign._watched(0, range(6), tmp_path)]
    assert found == [
        *((0, "read"), (1, "crash"), (2, "read"), (3, "hang"), (4, "read"), (5, "memory"))
    ]


@pytest.mark.slow
def test_10_000_files(campaign: ModuleType) -> None:
    for package in ("scipy", "h5py", "onnxruntime", "onnxscript"):
        pytest.importorskip(package)
    counts = campaign.run(10_000, seed=0, workers=2)
    assert sum(counts.values()) == 10_000
    assert [name for name in campaign.BAD if counts[name]] == []
    assert counts["read"] > 1000
