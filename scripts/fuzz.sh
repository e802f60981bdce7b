#!/usr/bin/env bash
# Builds the libFuzzer programs and gives each its time on a core of its own.
#
#   scripts/fuzz.sh [SECONDS [TARGET...]]      default: ten minutes for every target
#
# KNAPSAQ_FUZZ_JOBS: how many run at a time (default: as many as there are cores). New inputs are kept in
# build/fuzz/corpora and taken up by the next run. What ends a program is made small, put into fuzz/corpus/TARGET, where
# every build's tests run it, and named at the end; then the script fails.
set -euo pipefail
cd "$(dirname "$0")/.."

case "${1:-}" in
  -h | --help) sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 0 ;;
esac
seconds=${1:-600}
[ $# = 0 ] || shift
[[ $seconds =~ ^[0-9]+$ ]] || { echo "usage: scripts/fuzz.sh [SECONDS [TARGET...]]" >&2; exit 2; }
jobs=${KNAPSAQ_FUZZ_JOBS:-$(nproc)}

cmake --preset fuzz >/dev/null
if [ $# = 0 ]; then
  cmake --build --preset fuzz --target fuzzers
  mapfile -t targets < <(find build/fuzz/fuzz -maxdepth 1 -type f -name 'fuzz_*' -executable -printf '%f\n' | sed 's/^fuzz_//' | sort)
else
  targets=("$@")
  cmake --build --preset fuzz --target "${targets[@]/#/fuzz_}"
fi

# One target: its log is build/fuzz/logs/NAME, its finds build/fuzz/finds/NAME-*.
fuzz_one() {
  local name=$1 seconds=$2 program=build/fuzz/fuzz/fuzz_$1 status=0 find
  mkdir -p "build/fuzz/corpora/$name" "fuzz/corpus/$name"
  # A second on one input is far more than any honest file of that size takes; the memory is some hundred times
  # what the largest input has, and what the programs themselves take.
  "$program" -max_total_time="$seconds" -timeout=20 -rss_limit_mb=2048 -print_final_stats=1 -print_funcs=0 -reload=0 \
    -artifact_prefix="build/fuzz/finds/$name-" "build/fuzz/corpora/$name" "fuzz/corpus/$name" \
    >"build/fuzz/logs/$name" 2>&1 || status=$?
  for find in build/fuzz/finds/"$name"-*; do
    [ -e "$find" ] || continue
    local small=$find
    # Hangs and too much memory cannot be made small.
    if [[ $find == *-crash-* ]]; then
      small=$find.small
      "$program" -minimize_crash=1 -max_total_time=60 -exact_artifact_path="$small" "$find" >>"build/fuzz/logs/$name" 2>&1 || true
      [ -s "$small" ] || cp "$find" "$small"
    fi
    cp "$small" "fuzz/corpus/$name/found-$(sha1sum "$small" | cut -c1-8)"
    rm -f "$find" "$find.small"
  done
  # A program that ends badly without a find has not run at all.
  local count
  count=$(sed -n 's/^stat::number_of_executed_units: *//p' "build/fuzz/logs/$name")
  [ "$status" = 0 ] || echo "$name" >>build/fuzz/failed
  printf '%-22s %14s %10s/s %8s\n' "$name" "${count:-0}" \
    "$(sed -n 's/^stat::average_exec_per_sec: *//p' "build/fuzz/logs/$name")" "$([ "$status" = 0 ] || echo FAILED)"
}
export -f fuzz_one

mkdir -p build/fuzz/logs build/fuzz/finds
rm -f build/fuzz/failed build/fuzz/logs/*
# Files that targets write go to memory where there is such a folder.
[ -w /dev/shm ] && export TMPDIR=/dev/shm
printf '%s\0' "${targets[@]}" | xargs -0 -P "$jobs" -I{} bash -c 'fuzz_one "$1" "$2"' _ {} "$seconds"
cat build/fuzz/logs/* | sed -n 's/^stat::number_of_executed_units: *//p' |
  awk '{ total += $1 } END { printf "%-22s %14d\n", "total", total }'
if [ -s build/fuzz/failed ]; then
  echo "FAILED: $(sort build/fuzz/failed | tr '\n' ' ')- see build/fuzz/logs; finds are in fuzz/corpus/NAME/found-*" >&2
  exit 1
fi
