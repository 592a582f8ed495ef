"""What `scripts/gpu/run.sh` does: pack here what a GPU machine without network needs; train there.

The plan is ``PLAN``. How many updates a network gets is computed from the rate that was measured a
minute before, so that the learning rate has fallen to zero when the time is over.
"""

import argparse
import csv
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
KIT, OUT = Path(os.environ["KIT"]), Path(os.environ["OUT"])
MIB = 2**20
MOST_CARRIED = 64 * MIB  # of the whole tree, kit included
MOST_A_FILE = 15 * MIB  # of what comes back
MOST_STATES = 45 * MIB  # of all states together, the first of the plan first
# What the machine lacks beside torch, numpy, click, rich, psutil and safetensors.
WHEELS = ("pyvips>=3.0", "pyvips-binary>=8.16", "cffi", "pycparser", "platformdirs>=4.0")
GLIBC = ("2_28", "2_27", "2_26", "2_24", "2_17", "2014", "2_12", "2010", "2_5", "1")
FOLDERS = ("photos_CC0", "photos_public_domain", "photos_more")
# Never trained on: the design was chosen on them, and the figures show them.
KEPT_OUT = (
    *("beacon-street-sunset.jpg", "canyon-wren.jpg", "kait-herzog-8242.jpg"),
    *("lewis_images_img_4188.jpg", "lomiri_wine_by_jakkub_mede.jpg", "pdimages_3_dsc07208.jpg"),
)
START = 10.0  # seconds that a training takes before its first update, about
WITHOUT_GRAPH = 5.0  # times slower, expected before anything is measured
TINY_STEPS = 6
RATES = "rates.json"
LONG_SIDE = 768  # of the images carried; the store has 512 too


@dataclass(frozen=True)
class Rung:
    """A network of the plan: the arguments of ``ladder.gpu_rung`` and its share of the time.

    ``rate``: updates a second, expected before anything is measured.
    """

    name: str
    size: str
    scale: int
    share: float
    rate: float
    start: str | None = None
    degraded: bool = False

    def recipe(self, *, steps: int, tiny: bool) -> str:
        """Return the recipe file's text."""
        lines = [
            "from dataclasses import replace",
            "from edgekeeper.recipes.ladder import gpu_rung",
            f"recipe = gpu_rung(size={self.size!r}, scale={self.scale}, steps={steps}, "
            f"degraded={self.degraded}, start={self.start!r})",
        ]
        if tiny:
            data = f"replace(recipe.data, patch={16 * self.scale}, batch=2)"
            lines.append(f"recipe = replace(recipe, data={data})")
        return "\n".join(lines) + "\n"


BALANCED = "balanced_x4_gpu"
PLAN = (
    Rung(BALANCED, "balanced", 4, 30, 400),
    Rung("best_x4_gpu", "best", 4, 25, 180),
    Rung("restore_x4_gpu", "best", 4, 15, 60, start="best_x4_gpu", degraded=True),
    Rung("fast_x4_gpu", "fast", 4, 12, 450),
    Rung("balanced_x2_gpu", "balanced", 2, 10, 600, start=BALANCED),
    Rung("balanced_x3_gpu", "balanced", 3, 8, 500, start=BALANCED),
)


# The network of a training state as a file of its own.
EXTRACT = """
import sys
from pathlib import Path
from edgekeeper.pretrained.checkpoint import load_model, read_network, save_model
source, target = Path(sys.argv[1]), Path(sys.argv[2])
file = read_network(source)
save_model(target, load_model(source), spec=file.spec, card=file.card)
"""


# ---- Here: what is carried -----------------------------------------------------------------------


def prepare(data: Path, *, resume: Path | None, images: int | None) -> None:
    """Fill the kit: wheels, training images with licences, Set5, states to go on from."""
    missing = [name for name in FOLDERS if not (data / "train" / name).is_dir()]
    if missing:
        sys.exit(f"'{data}' holds no {', '.join(f'train/{name}' for name in missing)}.")
    if find_spec("pyvips") is None:
        sys.exit("pyvips is missing: run this with the Python that edgekeeper is installed in.")
    if resume is not None and not (resume / "networks.tar").is_file():
        sys.exit(f"'{resume}' is not what a call leaves in $OUT: it holds no networks.tar.")
    shutil.rmtree(KIT, ignore_errors=True)
    KIT.mkdir(parents=True)
    get_wheels()
    pack_images(data / "train", KIT / "images", most=images)
    for scale in (2, 3, 4):
        part = Path("benchmarks/Set5") / f"image_SRF_{scale}"
        if (data / part).is_dir():
            shutil.copytree(data / part, KIT / part)
    if resume is not None:
        unpack_results(resume)
    report_size()


def get_wheels() -> None:
    """Download or build the wheels for Python 3.12 on x86-64 Linux."""
    pip = [sys.executable, "-m", "pip"]
    target = ["-q", "--no-deps", "-d", str(KIT / "wheels")]
    platforms = [word for g in GLIBC for word in ("--platform", f"manylinux{_tag(g)}_x86_64")]
    theirs = ["--only-binary=:all:", "--python-version", "3.12", "--implementation", "cp"]
    for name in WHEELS:
        download = [*pip, "download", *target, *theirs, *platforms, name]
        found = subprocess.run(download, capture_output=True, check=False)
        if found.returncode:  # only a source package is published; it is pure Python
            build = ["wheel", "-q", "--no-deps", "-w", str(KIT / "wheels"), name]
            subprocess.run([*pip, *build], check=True)


def _tag(glibc: str) -> str:
    return f"_{glibc}" if "_" in glibc else glibc


def pack_images(train: Path, target: Path, *, most: int | None) -> None:
    """Write the photographs at ``LONG_SIDE`` as AVIF 4:4:4, and their licences one by one."""
    import pyvips

    from edgekeeper.data.catalogue import find_set
    from edgekeeper.data.prepare import sources_in

    target.mkdir()
    rows = []
    for folder in FOLDERS:
        sources = sources_in(train / folder, licence=find_set(folder).licence)
        for source in [s for s in sources if s.path.name not in KEPT_OUT][:most]:
            image = pyvips.Image.new_from_file(str(source.path)).autorot()
            factor = min(1.0, LONG_SIDE / max(image.width, image.height))
            name = f"{source.path.stem}.avif"
            image.resize(factor, kernel="cubic").write_to_file(
                str(target / name), Q=90, subsample_mode="off", effort=3, keep="icc"
            )
            rows.append({"file": name, "licence": source.licence})
    with (target / "ORIGIN.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, ["file", "licence"])
        table.writeheader()
        table.writerows(rows)
    print(f"{len(rows)} images, {size_of(target) / MIB:.1f} MiB")


def unpack_results(results: Path) -> None:
    """Take the networks, states and measured rates that an earlier call left in ``$OUT``."""
    (KIT / "runs").mkdir()
    if (results / "logs.tar.gz").is_file():
        with tarfile.open(results / "logs.tar.gz") as logs:
            if RATES in logs.getnames():
                logs.extract(RATES, KIT, filter="data")
    for archive in ("networks.tar", "states.tar"):
        parts = sorted(results.glob(f"{archive}*"))
        joined = KIT / archive
        with joined.open("wb") as file:
            for part in parts:
                file.write(part.read_bytes())
        if parts:
            with tarfile.open(joined) as content:
                content.extractall(KIT / "runs", filter="data")
        joined.unlink()


def report_size() -> None:
    """Print what will travel, less the largest states if it is too much; exit if it still is."""
    git = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(git, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    files = {ROOT / name for name in listed.split("\0") if name}
    tree = sum(path.stat().st_size for path in files if path.is_file() and KIT not in path.parents)
    states = sorted(KIT.glob("runs/*/last.safetensors"), key=lambda path: path.stat().st_size)
    while states and tree + size_of(KIT) > MOST_CARRIED:
        largest = states.pop()
        print(f"left out, too large to travel: the state of {largest.parent.name}")
        shutil.rmtree(largest.parent)
    kit = size_of(KIT)
    print(f"tree {tree / MIB:.1f} MiB, kit {kit / MIB:.1f} MiB, of {MOST_CARRIED / MIB:.0f}")
    if tree + kit > MOST_CARRIED:
        sys.exit("Too much to carry: take fewer images (--images N).")


def size_of(folder: Path) -> int:
    """Return the bytes of all files below ``folder``."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


# ---- There: what is run --------------------------------------------------------------------------


@dataclass
class Session:
    """One call on the GPU machine: where it works, when it must have ended, what it has to tell."""

    device: str
    tiny: bool
    ends: float  # of time.monotonic()
    work: Path
    notes: list[str]

    @property
    def left(self) -> float:
        """Seconds until the end, with some kept for packing."""
        return self.ends - time.monotonic() - (3 if self.tiny else 15)

    def note(self, text: str) -> None:
        """Print a line that also goes into the summary."""
        line = f"[{self.left:5.0f} s left] {text}"
        print(line)
        self.notes.append(line)
        (OUT / "summary.txt").write_text("\n".join(self.notes) + "\n", encoding="utf-8")

    def run(self, name: str, command: Sequence[str], *, seconds: float) -> int:
        """Run a Python command with its output in a log; return its exit status, 124 if late.

        One that is late is asked to end first, which makes a training save its state.
        """
        log = self.work / "logs" / f"{name}.txt"
        started = time.monotonic()
        with log.open("w", encoding="utf-8") as file:
            process = subprocess.Popen(
                [sys.executable, *command], cwd=ROOT, stdout=file, stderr=subprocess.STDOUT
            )
            try:
                status = process.wait(max(1.0, min(seconds, self.left)))
            except subprocess.TimeoutExpired:
                process.terminate()
                status = 124
            try:
                process.wait(8)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        took = time.monotonic() - started
        last = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
        self.note(f"{name}: status {status}, {took:.0f} s. {''.join(last)[-160:]}")
        return status


def session(*, device: str, tiny: bool, seconds: float) -> None:
    """Install nothing more, make the store, check, measure, train by plan, pack."""
    work = Path(os.environ.get("WORK") or OUT.parent / "gpu_work")
    shutil.rmtree(work, ignore_errors=True)
    (work / "logs").mkdir(parents=True)
    OUT.mkdir(parents=True, exist_ok=True)
    here = Session(device, tiny, time.monotonic() + seconds, work, [])
    describe_machine(here)
    known = KIT / RATES  # an earlier call on such a machine has tested and measured
    with ThreadPoolExecutor(1) as aside:  # the store keeps processors busy, the checks the GPU
        store = aside.submit(make_store, here)
        if not known.is_file():
            check(here)
        store.result()
    rates = json.loads(known.read_text(encoding="utf-8")) if known.is_file() else measure(here)
    if rates:
        (work / RATES).write_text(json.dumps(rates), encoding="utf-8")
    with ThreadPoolExecutor(1) as aside:  # scores are computed while the next one trains
        for number, rung in enumerate(PLAN):
            share = rung.share / sum(later.share for later in PLAN[number:])
            train(here, rung, seconds=here.left * share, rates=rates)
            pack(here)
            aside.submit(score, here, rung)
    pack(here)


def describe_machine(here: Session) -> None:
    """Note Python, torch and the device."""
    code = (
        "import sys, torch; there = torch.cuda.is_available(); "
        "print(sys.version.split()[0], torch.__version__, "
        "torch.cuda.get_device_name() if there else 'no GPU')"
    )
    here.run("machine", ["-c", code], seconds=60)


def make_store(here: Session) -> None:
    """Generate images in as many processes as there are processors; pack them with the carried."""
    generated = here.work / "generated"
    processes = 1 if here.tiny else min(12, os.cpu_count() or 1)
    size = ["--count", "2", "--size", "96"] if here.tiny else ["--count", "7"]

    def generate(seed: int) -> int:
        command = ["-m", "edgekeeper", "data", "generate", "-o", str(generated), *size]
        return here.run(f"generate-{seed}", [*command, "--seed", str(seed)], seconds=120)

    with ThreadPoolExecutor(processes) as pool:
        list(pool.map(generate, range(processes)))
    photographs = few_images(here.work / "few") if here.tiny else KIT / "images"
    sides = ["--long-side", "128" if here.tiny else f"512,{LONG_SIDE}"]
    here.run(
        "store",
        [
            *("-m", "edgekeeper", "data", "prepare", str(photographs), str(generated)),
            *("-o", str(here.work / "photos.store"), "--scales", "2,3,4", *sides),
            *("--min-side", "48" if here.tiny else "200"),
            *("--licence", "unknown", "--licence", "CC0-1.0, generated"),
        ],
        seconds=200,
    )


def few_images(folder: Path) -> Path:
    """Return a folder with three of the images carried."""
    folder.mkdir()
    for path in [*sorted((KIT / "images").glob("*.avif"))[:3], KIT / "images" / "ORIGIN.csv"]:
        shutil.copy(path, folder)
    return folder


def check(here: Session) -> None:
    """Run the tests that need a GPU and time upscaling on it; failures are noted, nothing stops."""
    marked = [
        str(path.relative_to(ROOT))
        for path in sorted((ROOT / "tests").rglob("test_*.py"))
        if "pytest.mark.gpu" in path.read_text(encoding="utf-8")
    ]
    tests = ["-m", "pytest", "-m", "gpu", "-n", "0", "-p", "no:cacheprovider", *marked]
    here.run("tests", [*tests, "--continue-on-collection-errors"], seconds=20 if here.tiny else 90)
    tiny = ["--side", "32", "--repeats", "1", "--network", "edsr_light_x4", "--threads", "1"]
    small = tiny if here.tiny else []
    bench = ["benchmarks/upscale.py", "--device", here.device, *small]
    here.run("upscale", bench, seconds=20 if here.tiny else 60)


def measure(here: Session) -> dict[str, float]:
    """Return updates a second by name, negative where only the update without a graph works."""
    file = here.work / RATES
    command = ["benchmarks/train.py", "--device", here.device, "--json", str(file), "--rungs"]
    store = ["--store", str(here.work / "photos.store")]
    small = ["--tiny", "--threads", "1"] if here.tiny else []
    here.run("rates", [*command, *store, *small], seconds=75)
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def train(here: Session, rung: Rung, *, seconds: float, rates: dict[str, float]) -> None:
    """Train one network for ``seconds``, or go on with the state that an earlier call left."""
    folder, earlier = here.work / "runs" / rung.name, KIT / "runs" / rung.name
    if earlier.is_dir():
        shutil.copytree(earlier, folder)
    if (folder / "model.safetensors").is_file():
        here.note(f"{rung.name}: finished by an earlier call")
        return
    if (folder / "network.safetensors").is_file() and not (folder / "last.safetensors").is_file():
        # Its state was too large to come back: on from the network, with a new plan.
        shutil.copy2(folder / "network.safetensors", folder / "earlier.safetensors")
        rung = replace(rung, start=rung.name)
    start = here.work / "runs" / str(rung.start) / "model.safetensors"
    if rung.start == rung.name:
        start = start.with_name("earlier.safetensors")
    elif not start.is_file():  # unfinished: the state is a network file too
        start = start.with_name("last.safetensors")
    if seconds < 5 or (rung.start and not start.is_file()):
        here.note(f"{rung.name}: not begun, {seconds:.0f} s for it")
        return
    recipe = folder / "recipe.py"
    kind = "restore" if rung.degraded else rung.size
    unknown = -rung.rate / WITHOUT_GRAPH  # nothing was measured: do not count on the graph
    rate = rates.get(f"{kind}_x{rung.scale}", rates.get(f"{kind}_x4", unknown))
    ends = time.monotonic() + seconds
    seconds = max(3.0, seconds - START)
    if not recipe.is_file():
        steps = TINY_STEPS if here.tiny else max(60, int(0.95 * seconds * abs(rate)) // 20 * 20)
        folder.mkdir(parents=True, exist_ok=True)
        recipe.write_text(rung.recipe(steps=steps, tiny=here.tiny), encoding="utf-8")
        here.note(f"{rung.name}: {steps} updates planned, at {abs(rate):.0f} a second")
    command = [
        *("-m", "edgekeeper", "train", str(recipe), "--device", here.device),
        *("--store", str(here.work / "photos.store"), "--out", str(folder)),
        *("--checkpoint-every", "1000000", "--no-validation"),
        *(("--start", str(start)) if rung.start else ()),
    ]
    for graph in (["--graph"], []) if rate > 0 else ([],):
        left = ends - time.monotonic()
        limit = ["--time-limit", f"{max(3.0, left - START) / 60:.3f}", *graph]
        if left < 5 or here.run(rung.name, [*command, *limit], seconds=left + START) in (0, 124):
            break


def score(here: Session, rung: Rung) -> None:
    """Note PSNR on Set5 where that was carried; take an unfinished network out of its state."""
    folder = here.work / "runs" / rung.name
    network, state = folder / "model.safetensors", folder / "last.safetensors"
    if not network.is_file() and state.is_file():
        network = folder / "network.safetensors"
        command = ["-c", EXTRACT, str(state), str(network)]
        here.run(f"{rung.name}-network", command, seconds=60)
    if not network.is_file() or not (KIT / "benchmarks" / "Set5").is_dir():
        return
    on_set5 = ["--on", "set5", "--scale", str(rung.scale), "--data", str(KIT), "--device", "cpu"]
    name = f"{rung.name}-set5"
    here.run(name, ["-m", "edgekeeper", "evaluate", str(network), *on_set5], seconds=60)
    log = (here.work / "logs" / f"{name}.txt").read_text(encoding="utf-8")
    for line in log.splitlines():
        if "set5" in line:
            here.note(f"{rung.name}: {line.strip()}")


def pack(here: Session) -> None:
    """Leave networks, unfinished states and logs in ``$OUT``: few files, none too large."""
    runs = here.work / "runs"
    for folder in runs.glob("*"):
        if (folder / "model.safetensors").is_file():  # the state is not needed any more
            for state in (*folder.glob("last.*"), *folder.glob("stage-*")):
                state.unlink()
    archive(OUT / "networks.tar", runs, ("*/model.safetensors", "*/network.safetensors"))
    room, states = MOST_STATES, []
    for name in (rung.name for rung in PLAN):
        state = runs / name / "last.safetensors"
        if state.is_file() and state.stat().st_size <= room:
            room -= state.stat().st_size
            states += [f"{name}/last.safetensors", f"{name}/recipe.py"]
    archive(OUT / "states.tar", runs, states)
    archive(OUT / "logs.tar.gz", here.work, ("logs/*.txt", "runs/*/log.jsonl", RATES))
    split(OUT / "states.tar")


def archive(path: Path, folder: Path, patterns: Sequence[str]) -> None:
    """Write the files of ``folder`` that fit one of ``patterns`` into a tar file."""
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as file:
        for pattern in patterns:
            for found in sorted(folder.glob(pattern)):
                file.add(found, str(found.relative_to(folder)))


def split(path: Path) -> None:
    """Cut a file into parts that may travel, and remove it and the parts of before."""
    for part in path.parent.glob(f"{path.name}.*"):
        part.unlink()
    content = path.read_bytes()
    for number, start in enumerate(range(0, len(content), MOST_A_FILE)):
        part = path.with_name(f"{path.name}.{number:02d}")
        part.write_bytes(content[start : start + MOST_A_FILE])
    path.unlink()


def main() -> None:
    """Read the command line and do one of the two."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("action", nargs="?", choices=["prepare", "run"], default="run")
    parser.add_argument("--data", type=Path, default=os.environ.get("EDGEKEEPER_DATA"))
    parser.add_argument("--resume", type=Path, help="what an earlier call left in $OUT")
    parser.add_argument("--images", type=int, help="no more than so many of each folder")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--seconds", type=float, help="until everything has ended")
    parser.add_argument("--tiny", action="store_true", help="small networks on few pixels")
    given = parser.parse_args()
    if given.action == "prepare":
        if given.data is None:
            parser.error("prepare needs --data, the folder that holds train/photos_*")
        prepare(Path(given.data), resume=given.resume, images=given.images)
    else:
        seconds = given.seconds or (400 if given.tiny else 560)
        session(device=given.device, tiny=given.tiny, seconds=seconds)


if __name__ == "__main__":
    main()
