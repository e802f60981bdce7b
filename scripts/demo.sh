#!/usr/bin/env bash
# Installs, builds, and runs Knapsaq's main job on the embedded model: the best model within a memory budget, then other
# sizes from the same run beside uniform models of the same bank, and the page about it all.
#
#   scripts/demo.sh [MODEL [TEXT [REPORT]]]      default: assets/wiki-llama-6m, the text sampled from it, report.html
set -euo pipefail
cd "$(dirname "$0")/.."

model=${1:-assets/wiki-llama-6m}
text=${2:-assets/wiki-llama-6m-sample.txt}
report=${3:-report.html}

scripts/setup.sh
cmake --preset release -DKNAPSAQ_TESTS=OFF >/dev/null
cmake --build --preset release --target knapsaq_command
knapsaq=build/release/knapsaq

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# A number out of a flat JSON object.
field() { sed -n "s/^  \"$1\": \(-\{0,1\}[0-9.e+-]*\),\{0,1\}$/\1/p"; }
perplexity() { "$knapsaq" eval "$1" --text "$text" --json | field perplexity; }
row() { printf '%-22s %12s %8s %12s\n' "$@"; }

echo
"$knapsaq" info "$model"
echo
echo "knapsaq fit $model --budget 4.2MiB"
"$knapsaq" fit "$model" --budget 4.2MiB -o "$work/fit" --run "$work/run" --report "$report"

echo
echo "Perplexity on $text"
row model bytes bits perplexity
row "full precision" "$("$knapsaq" info "$model" --json | field bytes)" 16 "$(printf '%.3f' "$(perplexity "$model")")"

# One row: write a model with the given command, measure it.
written() {
  local name=$1 out=$work/model
  shift
  "$knapsaq" "$@" -o "$out" --force --json >"$work/json"
  row "$name" "$(field bytes <"$work/json" | head -n 1)" "$(printf '%.3f' "$(field bits <"$work/json" | head -n 1)")" \
    "$(printf '%.3f' "$(perplexity "$out")")"
}

for bits in 6 5 4 3 2; do
  written "uniform b${bits}g64" quantize "$model" --bank "$work/run/bank" --scheme "gptq:b${bits}g64" --pin "*=gptq:b${bits}g64"
done
for bits in 6.5 5.5 4.5 3.5 3 2.5; do written "pick --bits $bits" pick "$work/run" --bits "$bits"; done
