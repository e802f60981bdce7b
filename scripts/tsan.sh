#!/usr/bin/env bash
# Builds the tests of everything that works with threads under ThreadSanitizer and runs them (docs/development.md
# says how long that takes).
#   scripts/tsan.sh [GoogleTest filter]      e.g. scripts/tsan.sh 'ThreadPool.*'
set -euo pipefail
cd "$(dirname "$0")/.."
# The pool and the loops on it; kernels and the decoder that run on it; scoring candidates; generation; tables and
# banks of all linears.
programs=(
  base/test_base "*"
  compute/test_compute "*BackendTest.*"
  model/test_model "*Decoder*:*Generator*:*KeyValueCache*:*Sampler*"
  eval/test_eval "*CandidateScorer*:*Perplexity*:*Windows*"
  bank/test_bank "*Bank*"
  search/test_search "*ModelEvaluator*"
)
targets=()
for ((i = 0; i < ${#programs[@]}; i += 2)); do targets+=("${programs[i]##*/}"); done

cmake --preset tsan
cmake --build --preset tsan --parallel "$(nproc)" --target "${targets[@]}"

# oneDNN's OpenMP and OpenBLAS are not built with it, so that it does not see how their threads wait for each
# other. Knapsaq calls both with one thread, and these switches make sure of it.
export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
export TSAN_OPTIONS="halt_on_error=1 second_deadlock_stack=1 ${TSAN_OPTIONS:-}"
status=0
for ((i = 0; i < ${#programs[@]}; i += 2)); do
  echo "== ${programs[i]}"
  # Newer kernels place programs where ThreadSanitizer keeps its own memory: setarch -R forbids that.
  setarch "$(uname -m)" -R "build/tsan/tests/${programs[i]}" --gtest_brief=1 --gtest_filter="${1:-${programs[i + 1]}}" ||
    status=1
done
exit "$status"
