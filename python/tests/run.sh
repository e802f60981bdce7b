#!/usr/bin/env bash
# The steps of testing the Python package, for ctest:
#   run.sh wheel VENV      builds the wheel from what is built
#   run.sh install VENV    installs it into the empty environment VENV, and fits a model there, in sight of no compiler
#   run.sh suite VENV      adds pytest, runs the suite
set -euo pipefail
cd "$(dirname "$0")/../.."
step=$1
venv=$2
tools=${KNAPSAQ_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/knapsaq}/python

skip() { echo "skipped: $*"; exit 77; }
[ -e "$tools/tools.txt" ] || skip "no tools for the Python package: scripts/setup.sh could not install them from PyPI"

# Nothing but the environment: no compiler, no linker, none of this machine's programs.
alone() { env -i HOME="$venv" PATH="$venv/bin" LANG=C.UTF-8 "$@"; }
quick=(--effort quick --menu b2g64,b4g64,b8g64 --method hqq --samples 4 --window 64 --tokens 256 --heldout 256 --evaluations 12)

case $step in
  wheel) scripts/wheel.sh --built ;;
  install)
    rm -rf "$venv"
    "$tools/bin/python" -m venv "$venv"
    "$venv/bin/python" -m pip --disable-pip-version-check install --quiet dist/knapsaq-*.whl
    alone knapsaq --version
    model=$(alone python -c 'import knapsaq; print(knapsaq.example_model())')
    text=$(alone python -c 'import knapsaq; print(knapsaq.example_text())')
    rm -rf "$venv/tried"
    mkdir "$venv/tried"
    alone knapsaq fit "$model" --budget 2.5MiB -o "$venv/tried/verb" --text "$text" "${quick[@]}"
    alone python - "$venv/tried/call" "$text" <<'END'
import sys, knapsaq
print(knapsaq.fit(knapsaq.example_model(), "2.5MiB", output=sys.argv[1], text=sys.argv[2], menu="b2g64,b4g64,b8g64",
                  method="hqq", samples=4, window=64, tokens=256, heldout=256, evaluations=12, effort="quick"))
END
    for file in "$venv/tried/verb/"*; do cmp "$file" "$venv/tried/call/$(basename "$file")"; done
    ;;
  suite)
    "$venv/bin/python" -m pip --disable-pip-version-check install --quiet pandas tqdm "$(grep '^pytest==' python/tools.txt)"
    exec "$venv/bin/python" -m pytest -q -p no:cacheprovider --basetemp="$venv/tmp" python/tests
    ;;
esac
