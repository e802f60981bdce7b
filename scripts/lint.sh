#!/usr/bin/env bash
# Formatting and static analysis; run by hand (scripts/setup.sh --dev installs the tools).
#   scripts/lint.sh               clang-format's check, then clang-tidy over the whole tree (half an hour of two cores)
#   scripts/lint.sh --changed     the same for what differs from upstream
#   scripts/lint.sh FILE...       the same for these
#   scripts/lint.sh --format      clang-format's check of the whole tree only (seconds)
#   scripts/lint.sh --fix         format every file in place
set -euo pipefail
cd "$(dirname "$0")/.."
mapfile -t all < <(git ls-files '*.cpp' '*.h' '*.inc' | grep -v 'unicode_additions\.inc$')

# Of the files named on the lines that come in, those that are there and ours.
ours() { sort -u | grep -Fx -f <(printf '%s\n' "${all[@]}") || true; }

case "${1:-}" in
  -h | --help) sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 0 ;;
  --fix) exec clang-format -i "${all[@]}" ;;
  "" | --format) files=("${all[@]}") ;;
  --changed)
    base=$(git merge-base HEAD "$(git rev-parse --verify --quiet '@{upstream}' || git rev-parse origin/HEAD)")
    mapfile -t files < <({ git diff --name-only "$base"; git ls-files --others --exclude-standard; } | ours)
    ;;
  -*) sed -n '2,7s/^# \{0,1\}/usage: /p' "$0" >&2; exit 2 ;;
  *) mapfile -t files < <(printf '%s\n' "$@" | ours) ;;
esac
[ ${#files[@]} -gt 0 ] || { echo "lint: nothing to look at"; exit; }
clang-format --dry-run --Werror "${files[@]}"
[ "${1:-}" = --format ] && exit

# A header is looked at through one source that includes it, its own if there is one.
sources() {
  local file
  for file in "${files[@]}"; do
    case $file in
      src/*.cpp | apps/*.cpp) echo "$file" ;;
      src/*.h | apps/*.h)
        if [ -e "${file%.h}.cpp" ]; then
          echo "${file%.h}.cpp"
        else
          git grep -l -E "#include \"(${file#src/}|${file##*/})\"" -- 'src/*.cpp' 'apps/*.cpp' | sed -n 1p || true
        fi
        ;;
    esac
  done | sort -u
}

# clang-tidy reads how each file is compiled from a build folder, which nothing is built in; precompiled headers are of
# the compiler that made them.
cmake -S . -B build/lint -G Ninja -DKNAPSAQ_TESTS=OFF -DCMAKE_DISABLE_PRECOMPILE_HEADERS=ON >/dev/null
sources | xargs --no-run-if-empty --max-args=1 --max-procs="${KNAPSAQ_LINT_JOBS:-$(nproc)}" clang-tidy --quiet -p build/lint
