#!/bin/sh
# Rooms only call down: a file of <room> includes headers of its own room and of rooms below it. Public headers, in
# include/, include nothing but public ones and the standard library.
# The order is that of src/knapsaq/CMakeLists.txt, lowest first.
#   tests/rooms_test.sh
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
order=$(sed -n 's/^foreach(room IN ITEMS \(.*\))$/\1/p' "$here/src/knapsaq/CMakeLists.txt")
[ -n "$order" ] || { echo "cannot read the order of the rooms"; exit 1; }

# Prints every include that goes up, sideways into a folder that is no room, or by a relative path.
upward_calls() {
  find "$1" -type f \( -name '*.h' -o -name '*.cpp' -o -name '*.inc' \) | sort | while read -r file; do
    room=${file#"$1"/}
    room=${room%%/*}
    awk -v order="$order" -v room="$room" -v file="$file" '
      BEGIN { n = split(order, names, " "); for (i = 1; i <= n; ++i) level[names[i]] = i }
      /^[ \t]*#[ \t]*include[ \t]*["<]/ {
        split($0, parts, /["<>]/)
        target = parts[2]
        if (target ~ /\.\.\//) print file ":" FNR ": " target
        if (target !~ /^knapsaq\//) next
        split(target, folders, "/")
        if (!(folders[2] in level) || !(room in level) || level[folders[2]] > level[room])
          print file ":" FNR ": " target
      }' "$file"
  done
}

# A test that cannot fail proves nothing.
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir "$scratch/base" "$scratch/quant" "$scratch/lobby"
echo '#include "knapsaq/search/problem.h"' >"$scratch/quant/up.cpp"
echo '# include <knapsaq/quant/scheme.h>' >"$scratch/base/up.h"
echo '#include "../base/error.h"' >"$scratch/quant/relative.cpp"
echo '#include "knapsaq/base/error.h"' >"$scratch/lobby/no_room.cpp"
printf '#include "knapsaq/base/error.h"\n#include "knapsaq/quant/scheme.h"\n#include <vector>\n' >"$scratch/quant/good.cpp"
found=$(upward_calls "$scratch")
if [ "$(echo "$found" | wc -l)" != 4 ] || echo "$found" | grep -q good; then
  echo "the test itself is broken; it found:"
  echo "$found"
  exit 1
fi

found=$(upward_calls "$here/src/knapsaq"; upward_calls "$here/include/knapsaq")
if [ -n "$found" ]; then
  echo "rooms may only include rooms below them ($order):"
  echo "$found"
  exit 1
fi

private=$(grep -rn '^[[:space:]]*#[[:space:]]*include' "$here/include/knapsaq" | while IFS= read -r line; do
  header=$(echo "$line" | sed -n 's/.*["<]\([^">]*\)[">].*/\1/p')
  case $header in
    knapsaq/*) [ -e "$here/include/$header" ] || echo "$line" ;;
    *[./]*) echo "$line" ;;  # the standard library's headers have neither
  esac
done)
if [ -n "$private" ]; then
  echo "public headers may only include public ones and the standard library:"
  echo "$private"
  exit 1
fi
