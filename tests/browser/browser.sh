# What the tests in a browser share; sourced, not run. The caller has `set -euo pipefail`.
# scripts/setup.sh installs Chromium where Debian has it. Without a browser a test is skipped (77) on somebody's own
# machine, and fails in continuous integration.

browser=
for name in chromium chromium-browser google-chrome; do
  if command -v "$name" >/dev/null; then browser=$name; break; fi
done
if [ -z "$browser" ]; then
  [ -z "${CI:-}" ] || { echo "no Chromium here, and continuous integration skips nothing: run scripts/setup.sh"; exit 1; }
  echo "skipped: no Chromium here (apt-get install chromium)"
  exit 77
fi

work=$(mktemp -d)
at_exit=()
trap 'for action in "${at_exit[@]}"; do $action; done; rm -rf "$work"' EXIT

# The document of an address after its scripts have run, on standard output. In a window of WIDTH,HEIGHT; with
# MILLISECONDS the page's own clock runs that far, as fast as its work allows. Without a sandbox: root has none.
browse() {
  local address=$1 size=${2:-1300,2000} milliseconds=${3:-}
  "$browser" --headless --no-sandbox --disable-gpu --disable-dev-shm-usage --user-data-dir="$work/profile" \
    --window-size="$size" ${milliseconds:+--virtual-time-budget="$milliseconds"} --dump-dom "$address" \
    2>"$work/browser.log" || echo "<title>the browser failed: $(tail -n 1 "$work/browser.log")</title>"
}

failures=0
expect() {
  local what=$1 expected=$2 found=$3
  [ "$found" != "$expected" ] || return 0
  echo "$what: expected '$expected', found '$found'"
  failures=$((failures + 1))
}

# Functions for a page: problems() says what is wrong with it: errors, plots that are shown and have drawn nothing (all
# pixels the same), text that does not fit into the window.
library='
function emptyPlots() {
  const empty = [];
  for (const holder of document.querySelectorAll("section:not([hidden]) .chart")) {
    if (holder.offsetParent === null) continue;
    const canvas = holder.querySelector("canvas");
    const pixels = canvas ? canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data : [];
    const colors = new Set();
    for (let i = 0; i < pixels.length; i += 4) colors.add(pixels[i] << 16 | pixels[i + 1] << 8 | pixels[i + 2]);
    if (colors.size < 5) empty.push(holder.id);
  }
  return empty;
}
function problems() {
  const found = [];
  const root = document.documentElement.dataset;
  if (root.error) found.push(root.error);
  if (root.ready !== "yes") found.push("not ready");
  if (emptyPlots().length > 0) found.push("empty: " + emptyPlots());
  if (document.documentElement.scrollWidth > window.innerWidth + 1) found.push("wider than the window");
  return found.join("; ") || "ok";
}
function sections() {
  return [...document.querySelectorAll("section.card:not([hidden])")].map((section) => section.id).join(" ");
}
'
