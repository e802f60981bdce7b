#!/bin/bash
# Opens reports of made runs in a real browser without a window, and looks whether they draw themselves, tell of no
# error, and answer a click.
#   tests/report/browser_test.sh MAKE_REPORT_PAGE
set -euo pipefail

make_page=$1
. "$(dirname "$0")/../browser/browser.sh"

# A page with a script of ours at its end, which leaves what it finds in the title; nothing of the page has to know it.
# Its names are its own. Prints the title.
run_in_browser() {
  local page=$1 script=$2 size=${3:-1300,2000}
  { sed '/^<\/body>/,$d' "$page"; printf '<script>\n{\n%s\n}\n</script>\n</body>\n</html>\n' "$script"; } >"$work/test.html"
  browse "file://$work/test.html" "$size" | sed -n 's/.*<title>\([^<]*\)<\/title>.*/\1/p' | head -n 1
}

for kind in finished large begun empty files; do "$make_page" $kind "$work/$kind.html"; done

everything="front allocation quality heldout tasks convergence sensitivity prediction weights study cost"
look="$library document.title = problems() + ' ' + sections();"
expect "finished run" "ok $everything" "$(run_in_browser "$work/finished.html" "$look")"
expect "finished run, narrow window" "ok $everything" "$(run_in_browser "$work/finished.html" "$look" 500,2000)"
expect "large run" "ok $everything" "$(run_in_browser "$work/large.html" "$look")"
# What there is nothing for is missing, not empty.
expect "run that has begun" "ok front allocation quality convergence cost" "$(run_in_browser "$work/begun.html" "$look")"
expect "run without measurements" "ok  true" "$(run_in_browser "$work/empty.html" "$library
  document.title = problems() + ' ' + sections() + ' ' + !document.getElementById('running').hidden;")"

# Files that were judged: a dot and a row for each, those that are worth their bytes told apart, a switch of the axis.
expect "files" "ok files 5 6 3 true" "$(run_in_browser "$work/files.html" "$library
  const { plots } = window.knapsaq;
  const dots = () => plots.get('files-chart').chart.getOption().series[0].data;
  const rows = document.getElementById('files-table').tBodies[0].rows;
  const [before, strong] = [dots(), [...rows].filter((row) => row.querySelector('.strong')).length];
  document.querySelectorAll('#files-y button')[2].click();
  const after = dots();
  document.title = problems() + ' ' + sections() + ' ' + (before.length + 1) + ' ' + rows.length + ' ' + strong + ' ' +
    (Math.abs(after[0].value[1] / before[0].value[1] - 12) < 1e-9 && document.getElementById('title').textContent === 'model <b>');")"

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

# New data are drawn into the page: the selected point and its place keep, whatever its index; so do switches, legends and
# what is open; nothing is there twice.
expect "new data" "true true true true true true" "$(run_in_browser "$work/finished.html" "
  const data = () => JSON.parse(document.getElementById('data').textContent);
  const before = window.knapsaq.report;
  const target = before.front[3];
  selection.select(target);
  document.querySelectorAll('#front-x button')[1].click();
  const details = document.getElementById('front-details');
  details.open = true;
  details.dispatchEvent(new Event('toggle'));
  plots.get('front-chart').chart.dispatchAction({ type: 'legendUnSelect', name: 'amq' });
  const charts = document.querySelectorAll('.chart').length;
  window.scrollTo({ top: 700, behavior: 'instant' });
  // As if a search that comes first had measured one more: every index moves.
  const more = data();
  const { points } = more;
  points.allocations = points.allocations.slice(0, more.variables.length * points.width) + points.allocations;
  for (const name of ['bytes', 'bits', 'windows', 'kl', 'jsd', 'loss', 'agreement']) if (points[name]) points[name].unshift(points[name][0]);
  points.windows[0] = 1;
  points.dropped = points.dropped.map((i) => i + 1);
  more.front = more.front.map((i) => i + 1);
  for (const search of more.searches) {
    search.steps = search.steps.map((i) => i + 1);
    search.front = search.front.map((i) => i + 1);
  }
  const after = updateReport(more);
  const kept = selection.point === target + 1;
  const view = document.querySelectorAll('#front-x button')[1].getAttribute('aria-pressed') === 'true';
  const legend = plots.get('front-chart').chart.getOption().legend[0].selected.amq === false;
  const table = details.open && document.querySelectorAll('#front-table tr.selected').length === 1;
  const once = document.querySelectorAll('.chart').length === charts && document.querySelectorAll('#contents a').length === 11;
  const place = window.scrollY === 700 && after.count === before.count + 1 && !document.documentElement.dataset.error;
  document.title = [kept, view, legend, table, once, place].join(' ');")"

# Nothing is asked of any network: no tag has the address of another place, and the page's own policy forbids it.
expect "addresses" "0" "$(grep -c -E '(src|href)="?(https?:)?//' "$work/finished.html" || true)"
expect "policy" "1" "$(grep -c "default-src 'none'" "$work/finished.html")"
# Three searches of 10,250 measurements of 224 linears: a browser opens that at once.
size=$(stat -c %s "$work/large.html")
[ "$size" -lt 15000000 ] || expect "size of the large page" "below 15 MB" "$size bytes"

[ "$failures" = 0 ] || exit 1
echo "all pages draw, and answer"
