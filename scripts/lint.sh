#!/usr/bin/env bash
# Formatting and static analysis of the whole tree; run by hand (scripts/setup.sh --dev installs the tools).
#   scripts/lint.sh              clang-format's check, then clang-tidy (minutes)
#   scripts/lint.sh --format     clang-format's check only (seconds)
#   scripts/lint.sh --fix        format every file in place
set -euo pipefail
cd "$(dirname "$0")/.."
mapfile -t files < <(git ls-files '*.cpp' '*.h' '*.inc' | grep -v 'unicode_additions\.inc$')

case "${1:-}" in
  --fix) exec clang-format -i "${files[@]}" ;;
  "" | --format) clang-format --dry-run --Werror "${files[@]}" ;;
  *) echo "usage: scripts/lint.sh [--format | --fix]" >&2; exit 2 ;;
esac
[ "${1:-}" = --format ] && exit

# clang-tidy reads how each file is compiled from the build folder, whose generated headers it needs too.
cmake --preset release >/dev/null
git ls-files 'src/*.cpp' 'apps/*.cpp' |
  xargs --max-args=1 --max-procs="$(nproc)" clang-tidy --quiet -p build/release
