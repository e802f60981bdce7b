#!/bin/bash
# Installs what Knapsaq needs and this machine lacks (Debian 12, Debian 13, Ubuntu 24.04).
#   scripts/setup.sh          what building and testing needs
#   scripts/setup.sh --dev    also what formatting, linting, fuzzing and benchmarking need
# Distribution packages where they exist. HiGHS, which Debian 12 and Ubuntu 24.04 lack, is built once, and the sources
# of llama.cpp's template engine, which no distribution has, are unpacked once, into
# ${KNAPSAQ_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/knapsaq}; cmake/KnapsaqDependencies.cmake looks there. The tools for
# the Python package (python/tools.txt) get a virtual environment there; without a package index they are left out.
set -euo pipefail
cd "$(dirname "$0")/.."

# What these need beyond their declared dependencies: oneDNN's CMake file asks for OpenCL's headers, and the pkg-config
# file of SentencePiece 0.2 for protobuf-lite.
packages=(g++ cmake ninja-build pkg-config git ccache libdnnl-dev ocl-icd-opencl-dev libfmt-dev nlohmann-json3-dev
  libcli11-dev libsentencepiece-dev libprotobuf-dev libpcre2-dev libutf8proc-dev libxxhash-dev libsqlite3-dev
  libopenblas-dev libcpp-httplib-dev libgtest-dev libgmock-dev)
developer_packages=(libbenchmark-dev clang libclang-rt-dev clang-format clang-tidy libomp-dev)
# HiGHS 1.10.0, the source archive of its Python package: the same sources, unpatched. Debian 13 packages it.
highs_version=1.10.0
highs_sha256=65f9e0ea6dbe7256b790570c4f6b908b3f734cbc8cf5b2d5ebeadb28a4fe2486
cache=${KNAPSAQ_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/knapsaq}
highs_folder=$cache/highs-$highs_version
# llama.cpp's Jinja engine (MIT), a dozen files of the source archive of llama-cpp-python. cmake/ knows the version, too.
jinja_version=0.3.36
jinja_sha256=832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e
jinja_folder=$cache/llama-jinja-$jinja_version
python_tools=$cache/python

say() { echo "setup: $*" >&2; }
fail() { say "$*"; exit 1; }

case "${1:-}" in
  "") ;;
  --dev) packages+=("${developer_packages[@]}") ;;
  -h | --help) sed -n '2,8s/^# \{0,1\}//p' "$0"; exit 0 ;;
  *) echo "usage: scripts/setup.sh [--dev]" >&2; exit 2 ;;
esac

have_package() {
  [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

as_root() {
  if [ "$(id -u)" = 0 ]; then
    env DEBIAN_FRONTEND=noninteractive "$@"
  elif command -v sudo >/dev/null; then
    sudo env DEBIAN_FRONTEND=noninteractive "$@"
  else
    say "neither root nor sudo: cannot run $*"
    return 1
  fi
}

lists_updated=
install_packages() {
  local missing=() package
  for package in "$@"; do
    have_package "$package" || missing+=("$package")
  done
  [ ${#missing[@]} = 0 ] && return
  command -v apt-get >/dev/null && command -v dpkg-query >/dev/null ||
    fail "no apt here; install by hand what these Debian packages hold: ${missing[*]}"
  say "installing ${missing[*]}"
  # A fresh machine has no package lists, an old one has lists whose files are gone: update once before installing.
  if [ -z "$lists_updated" ]; then
    as_root apt-get update -qq </dev/null >&2 || say "apt-get update failed; trying with the lists that are here"
    lists_updated=yes
  fi
  as_root apt-get install -y -qq --no-install-recommends -o Dpkg::Use-Pty=0 "${missing[@]}" </dev/null >&2 ||
    fail "apt could not install them; install by hand: ${missing[*]}"
}

# The packaged HiGHS counts if it is at least the pinned version.
have_packaged_highs() {
  local version
  have_package libhighs-dev || return 1
  version=$(dpkg-query -W -f '${Version}' libhighs-dev)
  dpkg --compare-versions "$version" ge "$highs_version"
}

# The version of a package that apt would install; nothing if it has none.
candidate() {
  command -v apt-cache >/dev/null || return 0
  apt-cache policy "$1" 2>/dev/null | sed -n '/(none)/d; s/^ *Candidate: *//p'
}

package_available() { [ -n "$(candidate "$1")" ]; }

packaged_highs_available() {
  local version
  version=$(candidate libhighs-dev)
  [ -n "$version" ] && dpkg --compare-versions "$version" ge "$highs_version"
}

# Makes the folder `work` beside the final folder $1, which is renamed to it when it is complete: a killed set-up leaves
# nothing that a later run or CMake could mistake for the real thing.
make_work_folder() {
  mkdir -p "$cache" || fail "cannot create $cache; set KNAPSAQ_CACHE"
  # What a kill -9 left behind; a day is longer than any build that may still run.
  find "$cache" -maxdepth 1 -name "$(basename "$1").build-*" -mtime +1 -exec rm -rf {} +
  work=$(mktemp -d "$1.build-XXXXXX") || fail "cannot write beside $1; set KNAPSAQ_CACHE"
  trap 'rm -rf "$work"' EXIT  # `work` is global: the trap runs outside this function
  trap 'exit 130' INT TERM HUP
}

# Source archive of version $2 of the Python package $1, hash $3, into the folder `work`.
fetch_source_archive() {
  install_packages python3 python3-pip
  # pip checks the archive against the hash before it looks inside. It then asks the archive for its metadata, for
  # which it fetches the archive's build tools into a folder of its own.
  echo "$1==$2 --hash=sha256:$3" >"$work/requirements.txt"
  python3 -m pip --disable-pip-version-check download --quiet --no-deps --no-binary "$1" \
    --require-hashes --requirement "$work/requirements.txt" --dest "$work" </dev/null >"$work/pip.log" 2>&1 ||
    { cat "$work/pip.log" >&2; fail "cannot fetch $1 $2 with pip; is there a package index?"; }
  echo "$3  $work/${1//-/_}-$2.tar.gz" | sha256sum --check --quiet >&2 || fail "the archive of $1 has a wrong checksum"
}

fetch_jinja() {
  local inside=llama_cpp_python-$jinja_version/vendor/llama.cpp
  make_work_folder "$jinja_folder"
  say "fetching llama.cpp's template engine (in an archive of 77 MB, once)"
  fetch_source_archive llama-cpp-python "$jinja_version" "$jinja_sha256"
  mkdir "$work/unpacked" "$work/install"
  tar -xf "$work/llama_cpp_python-$jinja_version.tar.gz" -C "$work/unpacked" "$inside/LICENSE" "$inside/common/jinja" \
    "$inside/common/unicode.h" "$inside/common/unicode.cpp" || fail "the archive of llama-cpp-python is not as expected"
  mv "$work/unpacked/$inside/LICENSE" "$work/unpacked/$inside"/common/* "$work/install/"
  # -T: if another set-up was faster, the rename fails and its result is as good as ours.
  mv -T "$work/install" "$jinja_folder" 2>/dev/null || [ -e "$jinja_folder/jinja/runtime.h" ] ||
    fail "cannot rename the finished template engine to $jinja_folder"
  rm -rf "$work"
}

# The Python package is built with the first of these interpreters that is CPython 3.10 or later and has its headers.
python_with_headers() {
  local python
  for python in "${KNAPSAQ_PYTHON:-}" python3 /usr/bin/python3; do
    [ -n "$python" ] && command -v "$python" >/dev/null || continue
    "$python" -c 'import os, sys, sysconfig, venv, ensurepip
sys.exit(not (sys.implementation.name == "cpython" and sys.version_info >= (3, 10)
  and not sysconfig.get_config_var("Py_GIL_DISABLED")
  and os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h"))))' 2>/dev/null || continue
    echo "$python"
    return
  done
  return 1
}

make_python_tools() {
  local python pins=$PWD/python/tools.txt
  cmp -s "$pins" "$python_tools/tools.txt" && "$python_tools/bin/python" -c 'import nanobind' 2>/dev/null && return
  python_with_headers >/dev/null || install_packages python3 python3-dev python3-venv
  python=$(python_with_headers) || { say "no CPython 3.10 or later with headers: no Python package"; return; }
  say "installing the tools for the Python package (once)"
  make_work_folder "$python_tools"
  # A virtual environment cannot be renamed, so what tells that it is complete is its list, which comes last.
  rm -rf "$python_tools"
  "$python" -m venv "$python_tools" &&
    "$python_tools/bin/python" -m pip --disable-pip-version-check install --quiet --requirement "$pins" \
      </dev/null >"$work/pip.log" 2>&1 && cp "$pins" "$python_tools/tools.txt" ||
    { tail -n 3 "$work/pip.log" >&2; say "pip could not install them: no Python package"; rm -rf "$python_tools"; }
  rm -rf "$work"
}

build_highs() {
  local source_folder=
  make_work_folder "$highs_folder"
  say "fetching HiGHS $highs_version"
  fetch_source_archive highspy "$highs_version" "$highs_sha256"
  tar -xf "$work/highspy-$highs_version.tar.gz" -C "$work"
  source_folder=$work/highspy-$highs_version
  # Its Python package leaves out two files that the CMake project names and the library does not need.
  : >"$source_folder/highs.pc.in"
  mkdir -p "$source_folder/app"
  : >"$source_folder/app/CMakeLists.txt"
  # Its headers cost more than its sources: eight sources to a compilation save a fifth of the time. Its C sources and
  # its readers of files define the same names twice, so they stay apart.
  cat >>"$source_folder/src/CMakeLists.txt" <<'END'
set_target_properties(highs PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE 8)
get_target_property(sources highs SOURCES)
list(FILTER sources INCLUDE REGEX "\\.c$|[Rr]eader\\.cpp$")
set_source_files_properties(${sources} PROPERTIES SKIP_UNITY_BUILD_INCLUSION ON)
END

  say "building HiGHS $highs_version (2 to 3 CPU minutes, once)"
  # Its CMakeLists prefers clang when both are there; its warnings are not ours to mend.
  local launcher=()
  command -v ccache >/dev/null && launcher=(-DCMAKE_CXX_COMPILER_LAUNCHER=ccache)
  { cmake -S "$source_folder" -B "$work/build" -G Ninja -DCMAKE_BUILD_TYPE=Release \
      -DCMAKE_CXX_COMPILER="${CXX:-g++}" -DCMAKE_C_COMPILER="${CC:-gcc}" "${launcher[@]}" \
      -DCMAKE_CXX_FLAGS="-w" -DCMAKE_C_FLAGS="-w" \
      -DCMAKE_CXX_FLAGS_RELEASE="-O2 -DNDEBUG" -DCMAKE_C_FLAGS_RELEASE="-O2 -DNDEBUG" \
      -DCMAKE_POSITION_INDEPENDENT_CODE=ON -DBUILD_SHARED_LIBS=OFF -DBUILD_TESTING=OFF -DBUILD_EXAMPLES=OFF \
      -DZLIB=OFF -DCMAKE_INSTALL_LIBDIR=lib -DCMAKE_INSTALL_PREFIX="$work/install" &&
    cmake --build "$work/build" --parallel "$(nproc)" &&
    cmake --install "$work/build"; } </dev/null >"$work/build.log" 2>&1 ||
    { tail -n 40 "$work/build.log" >&2; fail "building HiGHS $highs_version failed"; }
  # Its licence asks to go where the library goes.
  cp "$source_folder/LICENSE.txt" "$work/install/"
  # -T: if another set-up was faster, the rename fails and its result is as good as ours.
  mv -T "$work/install" "$highs_folder" 2>/dev/null || [ -e "$highs_folder/lib/libhighs.a" ] ||
    fail "cannot rename the finished HiGHS to $highs_folder"
  rm -rf "$work"
}

install_packages "${packages[@]}"
# For the tests of pages. Ubuntu has no such package: there any Chromium or Chrome on PATH does.
if ! command -v chromium >/dev/null && ! command -v chromium-browser >/dev/null && ! command -v google-chrome >/dev/null; then
  if package_available chromium; then install_packages chromium; else say "no package of Chromium here: the tests in a browser are skipped"; fi
fi
if ! have_packaged_highs && ! [ -e "$highs_folder/lib/libhighs.a" ]; then
  if packaged_highs_available; then
    install_packages libhighs-dev
  else
    build_highs
  fi
fi
[ -e "$jinja_folder/jinja/runtime.h" ] || fetch_jinja
make_python_tools
