#!/usr/bin/env bash
# Installs what is missing, builds, runs all tests, and ends with their count.
#   scripts/test.sh [arguments for ctest]        e.g. scripts/test.sh -R Safetensors
#   KNAPSAQ_ROOMS="base text" scripts/test.sh    the tests of these rooms only (fuzz: the corpora of the fuzz targets)
#   KNAPSAQ_PRESET=debug scripts/test.sh         with AddressSanitizer and UndefinedBehaviorSanitizer
set -euo pipefail
cd "$(dirname "$0")/.."
preset=${KNAPSAQ_PRESET:-ci}
read -ra rooms <<<"${KNAPSAQ_ROOMS:-}"
targets=()
chosen=()
if [ ${#rooms[@]} -gt 0 ]; then
  for room in "${rooms[@]}"; do
    [ "$room" = fuzz ] && targets+=(fuzz_corpora) || targets+=("test_$room")
  done
  targets=(--target "${targets[@]}")
  chosen=(-L "^($(IFS="|"; echo "${rooms[*]}"))\$")
fi

scripts/setup.sh
cmake --preset "$preset"
cmake --build --preset "$preset" --parallel "$(nproc)" "${targets[@]}"
report=$PWD/build/$preset/test-report.xml
rm -f "$report"
status=0
ctest --preset "$preset" --parallel "$(nproc)" --no-tests=error --output-junit "$report" "${chosen[@]}" "$@" || status=$?

# The first lines of the report hold the counts as attributes: tests="12" failures="0" ...
count() { sed -n "/<testsuite /,/>/s/.*[[:space:]]$1=\"\([0-9]*\)\".*/\1/p" "$report" | head -n 1; }
# Why tests were skipped: GoogleTest prints the reason in the line behind "...: Skipped", scripts "skipped: reason".
skip_reasons() {
  awk '
    /<testcase / { skipped = /status="notrun"/ || /status="disabled"/; if (skipped) ++expected }
    skipped && behind { reason[$0]++; ++told; behind = skipped = 0; next }
    skipped && /: Skipped$/ { behind = 1 }
    skipped && sub(/^.*skipped: /, "") { reason[$0]++; ++told; skipped = 0 }
    END {
      for (text in reason) printf "%6d %s\n", reason[text], text
      if (expected > told) printf "%6d without a reason\n", expected - told
    }' "$report" | sort -k1,1nr -k2
}
if [ -e "$report" ]; then
  tests=$(count tests)
  failed=$(count failures)
  skipped=$(count skipped)
  echo
  if [ "$skipped" != 0 ]; then
    echo "skipped, by reason:"
    skip_reasons
  fi
  echo "$((tests - failed - skipped)) passed, $failed failed, $skipped skipped"
fi
exit "$status"
