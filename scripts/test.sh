#!/usr/bin/env bash
# Installs what is missing, builds, runs all tests, and ends with their count.
#   scripts/test.sh [arguments for ctest]        e.g. scripts/test.sh -R Safetensors
#   KNAPSAQ_PRESET=debug scripts/test.sh         with AddressSanitizer and UndefinedBehaviorSanitizer
set -euo pipefail
cd "$(dirname "$0")/.."
preset=${KNAPSAQ_PRESET:-ci}

scripts/setup.sh
cmake --preset "$preset"
cmake --build --preset "$preset" --parallel "$(nproc)"
report=$PWD/build/$preset/test-report.xml
rm -f "$report"
status=0
ctest --preset "$preset" --parallel "$(nproc)" --no-tests=error --output-junit "$report" "$@" || status=$?

# The first lines of the report hold the counts as attributes: tests="12" failures="0" ...
count() { sed -n "/<testsuite /,/>/s/.*[[:space:]]$1=\"\([0-9]*\)\".*/\1/p" "$report" | head -n 1; }
if [ -e "$report" ]; then
  tests=$(count tests)
  failed=$(count failures)
  skipped=$(count skipped)
  echo
  echo "$((tests - failed - skipped)) passed, $failed failed, $skipped skipped"
fi
exit "$status"
