#!/bin/sh
# A double click (macOS; on Linux "run as a program") installs edgekeeper into the folder ek beside
# this one, puts an icon among the programs, and opens the page. Later it only opens the page.
cd "$(dirname "$0")/.." || exit
if [ ! -e ek/installed ]; then
  if ! python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "Python 3.11 or newer is needed first: https://www.python.org/downloads"
    read -r _
    exit 1
  fi
  python3 -m venv ek || exit
  index= # on Linux PyTorch's build without CUDA, whose version counts as the higher
  [ "$(uname)" = Linux ] && index="--extra-index-url https://download.pytorch.org/whl/cpu"
  # shellcheck disable=SC2086
  ek/bin/pip install -c constraints.txt $index '.[web,video,heif]' || exit
  ek/bin/edgekeeper serve --shortcut || exit
  touch ek/installed
fi
exec ek/bin/edgekeeper serve
