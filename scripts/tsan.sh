#!/usr/bin/env bash
# Builds the tests of everything that works with threads under ThreadSanitizer and runs them (docs/development.md
# says how long that takes).
#   scripts/tsan.sh [arguments for the test programs]      e.g. scripts/tsan.sh --gtest_filter='ThreadPool.*'
set -euo pipefail
cd "$(dirname "$0")/.."
# The pool and the loops on it; kernels and the decoder that run on it; scoring candidates; generation; tables and
# banks of all linears.
programs=(
  base/test_base
  compute/test_backend
  model/test_decoder
  model/test_generator
  eval/test_candidate_scorer
  eval/test_eval
  bank/test_bank
  search/test_model_evaluator
)

cmake --preset tsan
cmake --build --preset tsan --parallel "$(nproc)" --target "${programs[@]##*/}"

# oneDNN's OpenMP and OpenBLAS are not built with it, so that it does not see how their threads wait for each
# other. Knapsaq calls both with one thread, and these switches make sure of it.
export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
export TSAN_OPTIONS="halt_on_error=1 second_deadlock_stack=1 ${TSAN_OPTIONS:-}"
status=0
for program in "${programs[@]}"; do
  echo "== $program"
  # Newer kernels place programs where ThreadSanitizer keeps its own memory: setarch -R forbids that.
  setarch "$(uname -m)" -R "build/tsan/tests/$program" --gtest_brief=1 "$@" || status=1
done
exit "$status"
