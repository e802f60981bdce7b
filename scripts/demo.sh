#!/usr/bin/env bash
# Installs, builds, and runs Knapsaq's main job on the embedded model: measure it, quantize it uniformly and by MXQ at
# several budgets, measure what came out, show the table.
#
#   scripts/demo.sh [MODEL [TEXT]]      default: assets/wiki-llama-6m and the text sampled from it
set -euo pipefail
cd "$(dirname "$0")/.."

model=${1:-assets/wiki-llama-6m}
text=${2:-assets/wiki-llama-6m-sample.txt}

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
echo "Perplexity on $text"
row model bytes bits perplexity
row "full precision" "$("$knapsaq" info "$model" --json | field bytes)" 16 "$(printf '%.3f' "$(perplexity "$model")")"

# One row: quantize with the given options, measure the result.
quantized() {
  local name=$1 out=$work/model
  shift
  "$knapsaq" quantize "$model" -o "$out" --force --json "$@" >"$work/json"
  row "$name" "$(field bytes <"$work/json")" "$(printf '%.3f' "$(field bits <"$work/json")")" \
    "$(printf '%.3f' "$(perplexity "$out")")"
}

"$knapsaq" tables "$model" -o "$work/tables.csv" >/dev/null
for bits in 4 3 2; do quantized "uniform b${bits}g64" --scheme "hqq:b${bits}g64/m8g128"; done
for bits in 4.25 3.25 2.75 2.25; do quantized "MXQ --bits $bits" --bits "$bits" --table "$work/tables.csv"; done
quantized "MXQ --budget 4.2MiB" --budget 4.2MiB --table "$work/tables.csv"
