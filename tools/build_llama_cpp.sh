#!/bin/bash
# Builds llama.cpp for this processor from the source archive of llama-cpp-python, for comparisons:
#   tools/build_llama_cpp.sh [JOBS]    prints the folder with llama-bench, llama-quantize, ...
# Needs python3 with pip and a package index, cmake, ninja, a C++17 compiler; ccache is used if it is there. Some 8 CPU
# minutes and 1 GB of disk while it builds, once: the result lies in
# ${KNAPSAQ_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/knapsaq}/llama.cpp-VERSION (the version of llama-cpp-python).
# JOBS: compilers at once; default one per core.
set -euo pipefail

version=0.3.36
sha256=832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e
# llama-completion, not llama-cli: the latter is a client of the server now and would need all of it.
programs=(llama-bench llama-quantize llama-imatrix llama-perplexity llama-completion)
folder=${KNAPSAQ_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/knapsaq}/llama.cpp-$version
jobs=${1:-$(nproc)}

say() { echo "build_llama_cpp: $*" >&2; }
fail() { say "$*"; exit 1; }

complete() {
  local program
  for program in "${programs[@]}"; do
    [ -x "$folder/bin/$program" ] || return 1
  done
}

if complete; then
  echo "$folder/bin"
  exit 0
fi
for needed in python3 cmake ninja; do
  command -v "$needed" >/dev/null || fail "needs $needed"
done

# Everything happens in a folder beside the final one, which is renamed when it is complete.
mkdir -p "$(dirname "$folder")" || fail "cannot create $(dirname "$folder"); set KNAPSAQ_CACHE"
work=$(mktemp -d "$folder.build-XXXXXX") || fail "cannot write beside $folder; set KNAPSAQ_CACHE"
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM HUP

say "fetching llama-cpp-python $version"
# pip checks the archive against the hash before it looks inside. It then asks the archive for its metadata, for which it
# fetches the archive's build tools into a folder of its own.
echo "llama-cpp-python==$version --hash=sha256:$sha256" >"$work/requirements.txt"
python3 -m pip --disable-pip-version-check download --quiet --no-deps --no-binary llama-cpp-python \
  --require-hashes --requirement "$work/requirements.txt" --dest "$work" </dev/null >"$work/pip.log" 2>&1 ||
  { cat "$work/pip.log" >&2; fail "cannot fetch llama-cpp-python $version with pip; is there a package index?"; }
tar -xf "$work/llama_cpp_python-$version.tar.gz" -C "$work"
source_folder=$work/llama_cpp_python-$version/vendor/llama.cpp

# GCC 12's _tile_loadconfig() tells the compiler that it reads 8 of the 64 bytes it reads; the others are then never
# written, and every product with AMX ends the program. A barrier before the call makes all of them count.
sed -i 's/^ *_tile_loadconfig(&tc);/    __asm__ volatile("" : : "r"(\&tc) : "memory");\n&/' "$source_folder/ggml/src/ggml-cpu/amx/mmq.cpp"
grep -q '__asm__ volatile("" : : "r"(&tc)' "$source_folder/ggml/src/ggml-cpu/amx/mmq.cpp" ||
  fail "the source is not what it was when this was written: _tile_loadconfig is not where it is mended"

# llama-perplexity ends without waiting for the thread that prints its results, and often loses the last ones.
perplexity=$source_folder/tools/perplexity/perplexity.cpp
sed -i 's/^ *llama_backend_free();$/&\n    common_log_flush(common_log_main());/' "$perplexity"
grep -q common_log_flush "$perplexity" || fail "the source is not what it was when this was written: $perplexity"

say "building llama.cpp with $jobs jobs"
# Static libraries, so that the programs can be moved; defaults otherwise: what people get who build it themselves.
{ cmake -S "$source_folder" -B "$work/build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON \
    -DBUILD_SHARED_LIBS=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_SERVER=OFF \
    -DLLAMA_BUILD_APP=OFF -DLLAMA_BUILD_TOOLS=ON -DLLAMA_OPENSSL=OFF -DLLAMA_ALL_WARNINGS=OFF &&
  cmake --build "$work/build" --parallel "$jobs" --target "${programs[@]}"; } </dev/null >"$work/build.log" 2>&1 ||
  { tail -n 40 "$work/build.log" >&2; fail "building llama.cpp failed"; }
mkdir "$work/done" "$work/done/bin"
for program in "${programs[@]}"; do cp "$work/build/bin/$program" "$work/done/bin/"; done
cp "$source_folder/LICENSE" "$work/done/"
rm -rf "$folder"
mv -T "$work/done" "$folder" || complete || fail "cannot rename the finished llama.cpp to $folder"
echo "$folder/bin"
