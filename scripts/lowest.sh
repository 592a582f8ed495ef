#!/usr/bin/env bash
# The lowest versions of what edgekeeper needs, in an environment of their own, and a smoke run with them:
#   [TORCH=2.13.0] scripts/lowest.sh [PYTHON] [FOLDER]
# Needs uv (`pip install uv`). PyTorch is its build without CUDA, from PyTorch's own index; where that is
# out of reach TORCH names the version to take from the index at hand.
set -euo pipefail
cd "$(dirname "$0")/.."
python="${1:-3.11}" out="${2:-$(mktemp -d)}"
mkdir -p "$out"
: > "$out/override.txt"
if [ -n "${TORCH:-}" ]; then echo "torch==$TORCH" > "$out/override.txt"; else export UV_TORCH_BACKEND=cpu; fi
uv pip compile --quiet --resolution lowest-direct --python-version "$python" \
  --override "$out/override.txt" --extra web --extra figures pyproject.toml --output-file "$out/lowest.txt"
uv venv --quiet --clear --python "$python" "$out/venv"
uv pip install --quiet --python "$out/venv" -r "$out/lowest.txt"
uv pip install --quiet --python "$out/venv" --no-deps .
cd "$out"
rm -rf made large
ek="$out/venv/bin/edgekeeper"
"$ek" --help > /dev/null
"$ek" data generate -o made --count 2 --size 96
"$ek" upscale made -o large --scale 2 --format png
"$ek" inspect "$(find made -name '*.png' | sort | head -1)" "$(find large -name '*.png' | sort | head -1)"
"$ek" evaluate fast_x2 --on made --scale 2 --metrics psnr,ssim
echo "The lowest versions work: $(grep -c == lowest.txt) packages in $out/lowest.txt"
