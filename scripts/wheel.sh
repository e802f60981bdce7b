#!/usr/bin/env bash
# Builds the wheel: dist/knapsaq-VERSION-cp310-abi3-manylinux_*.whl, with the command, all libraries and the embedded
# model, for CPython 3.10 and later on x86-64-v2. The rooms are those of the build of scripts/test.sh.
#   scripts/wheel.sh              installs what is missing, builds, writes dist/
#   scripts/wheel.sh --built      as far as packing goes: build/$KNAPSAQ_PRESET is built, the tools are there
set -euo pipefail
cd "$(dirname "$0")/.."
preset=${KNAPSAQ_PRESET:-ci}
cache=${KNAPSAQ_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/knapsaq}
tools=$cache/python
most=60000000  # bytes of the wheel

fail() { echo "wheel: $*" >&2; exit 1; }

case "${1:-}" in
  "")
    scripts/setup.sh
    cmake --preset "$preset" >/dev/null
    cmake --build --preset "$preset" --parallel "$(nproc)" --target knapsaq_command
    ;;
  --built) ;;
  *) sed -n '2,5s/^# \{0,1\}//p' "$0" >&2; exit 2 ;;
esac
[ -x "$tools/bin/auditwheel" ] || fail "the tools are missing: run scripts/setup.sh where PyPI can be reached"

# One at a time: ctest may run beside a person.
mkdir -p build/wheel
exec 9>build/wheel/lock
flock 9

prefix=$PWD/build/wheel/prefix
cmake --install "build/$preset" --prefix "$prefix" >/dev/null

# The terms of what goes into the wheel go with it: Debian's files about the packages of the libraries.
licenses=$PWD/build/wheel/licenses
rm -rf "$licenses"
mkdir -p "$licenses"
cp "$prefix/share/doc/knapsaq/LICENSE.llama.cpp" "$licenses/llama.cpp"
[ ! -e "$prefix/lib/knapsaq/LICENSE.txt" ] || cp "$prefix/lib/knapsaq/LICENSE.txt" "$licenses/highs"
ldd "$prefix/bin/knapsaq" | sed -n 's/.*=> \(\/[^ ]*\) .*/\1/p' | xargs readlink -f | while read -r library; do
  package=$(dpkg -S "$library" 2>/dev/null || dpkg -S "${library#/usr}" 2>/dev/null || true)
  package=${package%%:*}
  case $package in "" | libc6 | libgcc-s1 | libstdc++6) continue ;; esac  # not copied: the platform's tag promises them
  cp -f "/usr/share/doc/$package/copyright" "$licenses/$package"
done

export PATH=$tools/bin:$PATH CMAKE_PREFIX_PATH=$prefix
export CMAKE_BUILD_PARALLEL_LEVEL=${CMAKE_BUILD_PARALLEL_LEVEL:-$(nproc)}
rm -rf build/wheel/raw
python -m pip --disable-pip-version-check wheel --quiet --no-build-isolation --no-deps --wheel-dir build/wheel/raw \
  --config-settings=cmake.define.KNAPSAQ_LICENSES="$licenses" ./python >build/wheel/log 2>&1 ||
  { tail -n 60 build/wheel/log >&2; fail "building the wheel failed"; }

# Copies the libraries in, and names the oldest glibc that they run with.
rm -rf build/wheel/repaired
auditwheel repair --wheel-dir build/wheel/repaired build/wheel/raw/knapsaq-*.whl >build/wheel/repair.log 2>&1 ||
  { tail -n 20 build/wheel/repair.log >&2; fail "packing the libraries failed"; }
wheel=$(echo build/wheel/repaired/knapsaq-*.whl)
size=$(stat -c %s "$wheel")
[ "$size" -le "$most" ] || fail "$wheel has $size bytes, more than $most"
mkdir -p dist
rm -f dist/knapsaq-*.whl
cp "$wheel" dist/
echo "dist/$(basename "$wheel"): $size bytes"
