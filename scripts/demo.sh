#!/usr/bin/env bash
# Knapsaq's main job on the embedded model, with an effort that takes minutes: the best model within a memory budget,
# the front behind it, two smaller models from the same run beside uniform ones of the same size, a text by the smallest
# of them, and the page about it all. Takes a wheel that scripts/wheel.sh built; without one it installs what building
# needs and builds the command.
#
#   scripts/demo.sh [MODEL [TEXT [REPORT]]]      default: assets/wiki-llama-6m, the text sampled from it, report.html
set -euo pipefail
cd "$(dirname "$0")/.."

model=${1:-assets/wiki-llama-6m}
text=${2:-assets/wiki-llama-6m-sample.txt}
report=${3:-report.html}
# A quarter of the default texts and rounds: enough to beat uniform models, and the same files and commands. The sweep
# of single changes measures all over the front, so that smaller models can be picked too.
effort=(--effort quick --tokens 2048 --heldout 4096 --samples 32 --set rounds-at-budget=2 --set prior=sweep)

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Sets `knapsaq` to the command of the newest wheel, installed into a virtual environment of its own.
install_wheel() {
  local wheel
  wheel=$(ls -t dist/*.whl build/wheel/*.whl 2>/dev/null | head -n 1)
  [ -n "$wheel" ] || return 1
  echo "installing $wheel"
  python3 -m venv "$work/venv" && "$work/venv/bin/pip" install --quiet --disable-pip-version-check "$wheel" &&
    knapsaq=$work/venv/bin/knapsaq && return
  echo "cannot install it; building instead" >&2
  return 1
}
build() {
  scripts/setup.sh
  cmake --preset release -DKNAPSAQ_TESTS=OFF >/dev/null
  cmake --build --preset release --target knapsaq_command
  knapsaq=build/release/knapsaq
}
install_wheel || build

# Shows a command before it runs.
run() {
  printf '\n$ knapsaq'
  printf ' %q' "$@"
  printf '\n'
  "$knapsaq" "$@"
}
# A number out of a flat JSON object.
field() { sed -n "s/^  \"$1\": \(-\{0,1\}[0-9.e+-]*\),\{0,1\}$/\1/p" | head -n 1; }
# One row of the table: a model's size and its perplexity on the text.
row() {
  printf '%-26s %10s bytes %8.3f perplexity\n' "$1" "$("$knapsaq" info "$2" --json | field bytes)" \
    "$("$knapsaq" eval "$2" --text "$text" --json | field perplexity)"
}

run info "$model"
run fit "$model" --budget 4.2MiB -o "$work/fit" --run "$work/run" --report "$report" "${effort[@]}"
# The command, the head of the table, and every sixth point.
run front "$work/run" | awk 'NR <= 3 || NR % 6 == 4'
for bits in 4 3; do
  run pick "$work/run" --bits "$bits.25" -o "$work/pick$bits"
  scheme=gptq:b${bits}g128
  "$knapsaq" quantize "$model" --bank "$work/run/bank" --scheme "$scheme" --pin "*=$scheme" \
    -o "$work/uniform$bits" >/dev/null
done
run generate "$work/pick3" --prompt "The river" --max-tokens 40 --temperature 0.7 --seed 1

printf '\nPerplexity on %s\n' "$text"
row "full precision" "$model"
row "fit --budget 4.2MiB" "$work/fit"
for bits in 4 3; do
  row "uniform gptq:b${bits}g128" "$work/uniform$bits"
  row "pick --bits $bits.25" "$work/pick$bits"
done
printf '\nThe report: %s\n' "$report"
