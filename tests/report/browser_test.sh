#!/bin/bash
# Opens reports of made runs in a real browser without a window, and looks whether they draw themselves, tell of no
# error, and answer a click. Skipped (77) where there is no Chromium.
#   tests/report/browser_test.sh MAKE_REPORT_PAGE
set -euo pipefail

make_page=$1
browser=
for name in chromium chromium-browser google-chrome; do
  if command -v "$name" >/dev/null; then browser=$name; break; fi
done
[ -n "$browser" ] || { echo "skipped: no Chromium here (apt-get install chromium)"; exit 77; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# A page with a script of ours at its end, which leaves what it finds in the title; nothing of the page has to know it.
# Its names are its own. Prints the title.
run_in_browser() {
  local page=$1 script=$2 size=${3:-1300,2000}
  { sed '/^<\/body>/,$d' "$page"; printf '<script>\n{\n%s\n}\n</script>\n</body>\n</html>\n' "$script"; } >"$work/test.html"
  "$browser" --headless --no-sandbox --disable-gpu --user-data-dir="$work/profile" --window-size="$size" \
    --dump-dom "file://$work/test.html" 2>"$work/browser.log" >"$work/dom.html" ||
    { echo "the browser failed: $(tail -n 1 "$work/browser.log")"; return; }
  sed -n 's/.*<title>\([^<]*\)<\/title>.*/\1/p' "$work/dom.html" | head -n 1
}

failures=0
expect() {
  local what=$1 expected=$2 found=$3
  [ "$found" != "$expected" ] || return 0
  echo "$what: expected '$expected', found '$found'"
  failures=$((failures + 1))
}

# What is wrong with a page: errors, plots that are shown and have drawn nothing (all pixels the same), text that
# does not fit into the window.
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

for kind in finished large begun empty; do "$make_page" $kind "$work/$kind.html"; done

everything="front allocation quality heldout tasks convergence sensitivity prediction weights study cost"
look="$library document.title = problems() + ' ' + sections();"
expect "finished run" "ok $everything" "$(run_in_browser "$work/finished.html" "$look")"
expect "finished run, narrow window" "ok $everything" "$(run_in_browser "$work/finished.html" "$look" 500,2000)"
expect "large run" "ok $everything" "$(run_in_browser "$work/large.html" "$look")"
# What there is nothing for is missing, not empty.
expect "run that has begun" "ok front allocation quality convergence cost" "$(run_in_browser "$work/begun.html" "$look")"
expect "run without measurements" "ok  true" "$(run_in_browser "$work/empty.html" "$library
  document.title = problems() + ' ' + sections() + ' ' + !document.getElementById('running').hidden;")"

# A name that holds markup is a name: shown as it is, and no script of its own.
expect "name with markup" "true" "$(run_in_browser "$work/finished.html" "document.title =
  document.getElementById('title').textContent === 'wiki-llama-6m <' + '/script><script>document.title=\\'broken\\'<' + '/script>';")"

# A click on a dot of the front plot, as a mouse does it, shows that dot's numbers and its command.
expect "click on a point" "clicked" "$(run_in_browser "$work/finished.html" "
  const {report, selection, plots} = window.knapsaq;
  const {chart} = plots.get('front-chart');
  const target = report.front[2];
  const [x, y] = chart.convertToPixel({xAxisIndex: 0, yAxisIndex: 0}, [report.points.bits[target], report.divergences[target]]);
  const canvas = document.querySelector('#front-chart canvas');
  const box = canvas.getBoundingClientRect();
  for (const type of ['mousemove', 'mousedown', 'mouseup', 'click']) {
    canvas.dispatchEvent(new MouseEvent(type, {bubbles: true, clientX: box.left + x, clientY: box.top + y, button: 0}));
  }
  const tooltip = [...document.querySelectorAll('#front-chart > div')].map((box) => box.textContent).join(' ');
  const command = document.getElementById('point-command').textContent;
  const bits = formatFixed(report.points.bits[target], 3);
  const right = selection.point === target && tooltip.includes(bits) && document.getElementById('point-facts').textContent.includes(bits) &&
    command === 'knapsaq pick RUN --budget ' + report.points.bytes[target] + ' -o OUT';
  document.title = right ? 'clicked' : 'point ' + selection.point + ', not ' + target + '; ' + command + '; ' + tooltip;")"

# The buttons beside it walk along the front; the table selects; the theme changes.
expect "buttons" "true true true true" "$(run_in_browser "$work/finished.html" "
  const {report, selection} = window.knapsaq;
  selection.select(report.front[5]);
  document.getElementById('point-larger').click();
  const larger = selection.point === report.front[6];
  document.getElementById('point-smaller').click();
  document.getElementById('point-smaller').click();
  const smaller = selection.point === report.front[4];
  const details = document.getElementById('front-details');
  details.open = true;
  details.dispatchEvent(new Event('toggle'));
  const rows = document.getElementById('front-table').tBodies[0].rows;
  rows[1].querySelector('button').click();
  const table = rows.length === report.front.length && selection.point === report.front[1] && rows[1].classList.contains('selected');
  const before = getComputedStyle(document.body).backgroundColor;
  document.getElementById('theme').click();
  const changed = getComputedStyle(document.body).backgroundColor !== before;
  document.title = [larger, smaller, table, changed].join(' ');")"

# Nothing is asked of any network: no tag has the address of another place, and the page's own policy forbids it.
expect "addresses" "0" "$(grep -c -E '(src|href)="?(https?:)?//' "$work/finished.html" || true)"
expect "policy" "1" "$(grep -c "default-src 'none'" "$work/finished.html")"
# Three searches of 10,250 measurements of 224 linears: a browser opens that at once.
size=$(stat -c %s "$work/large.html")
[ "$size" -lt 15000000 ] || expect "size of the large page" "below 15 MB" "$size bytes"

[ "$failures" = 0 ] || exit 1
echo "all pages draw, and answer"
