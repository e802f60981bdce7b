#!/bin/bash
# Opens the page of a made run in a real browser without a window, while the run begins, grows, is stopped, ends and is
# killed, and looks whether the page shows it.
#   tests/watch/browser_test.sh MAKE_WATCH_SITE
set -euo pipefail

make_site=$1
. "$(dirname "$0")/../browser/browser.sh"

# A site of its own for each script; what the script returns is printed. Its clock runs faster than ours except while the
# server answers, so that what the server does takes a request.
run_on_site() {
  local script=$1 size=${2:-1300,2000} folder
  folder=$(mktemp -d "$work/site-XXXXXX")
  cat >"$folder/script.js" <<END
(async () => {
$library
const by = (id) => document.getElementById(id);
const shown = (id) => !by(id).hidden;
const act = (name) => fetch('test/' + name);
const until = async (condition) => {
  for (let i = 0; i < 60 && !condition(); ++i) await new Promise((done) => setTimeout(done, 500));
  return Boolean(condition());
};
$script
})().then((result) => { document.documentElement.dataset.result = result; },
  (error) => { document.documentElement.dataset.result = 'failed: ' + error; });
END
  mkfifo "$folder/input"
  "$make_site" "$folder" "$folder/script.js" <"$folder/input" >"$folder/address" 2>"$folder/errors" &
  local server=$!
  exec 9>"$folder/input"
  until [ -s "$folder/address" ] || ! kill -0 "$server" 2>/dev/null; do sleep 0.1; done
  browse "$(cat "$folder/address")" "$size" 120000 | sed -n 's/.*<html[^>]* data-result="\([^"]*\)".*/\1/p' | head -n 1
  exec 9>&-
  wait "$server" || cat "$folder/errors"
}

begin="await act('stage'); await until(() => by('live').dataset.state === 'running'); await act('search'); await act('wait'); await until(() => live.report);"

expect "a run begins" "true true true" "$(run_on_site "
  const nobody = await until(() => by('live-word').textContent === 'Nobody at work');
  await act('stage');
  const stage = await until(() => by('live-stage').textContent === 'calibrating' && by('live-bar').getAttribute('aria-valuenow') === '25');
  const nothing = sections() === 'live' && !shown('live-stop');
  return [nobody, stage, nothing].join(' ');")"

for size in 1300,2000 500,2000; do
  expect "a run goes on, $size" "ok true true true true true" "$(run_on_site "
    $begin
    const first = live.report.count;
    const stage = by('live-stage').textContent === 'Search: front, round 2' && by('live-left').textContent.includes('30 of about 200');
    const best = shown('live-best') && selection.point === bestAtBudget(live.report) && by('title').textContent === 'llama-gqa';
    selection.select(live.report.front[0]);
    const key = selection.key;
    await act('grow');
    await act('wait');
    const grown = await until(() => live.report.count === first + 40);
    const kept = selection.key === key && live.report.keyOf(selection.point) === key;
    const log = by('live-log').textContent.includes('search: front over');
    document.querySelectorAll('.chart').forEach((chart) => chart.scrollIntoView());
    return [problems(), stage, best, grown, kept, log].join(' ');" "$size")"
done

expect "buttons" "true true true true" "$(run_on_site "
  $begin
  await until(() => shown('live-stop'));
  by('live-stop').click();
  const stopping = await until(() => by('live-stop').disabled && by('live-stop').textContent === 'Stopping after this round');
  by('live-output').value = 'OUT';
  by('live-write').click();
  const done = await until(() => by('live-picks').textContent.includes('OUT: written, 4.60'));
  by('live-output').value = '<b>full</b>';
  by('live-write').click();
  const failed = await until(() => by('live-picks').textContent.includes('<b>full</b>: cannot write: the disk is full'));
  const text = by('live-picks').querySelector('b') === null && by('live-picks').children.length === 2;
  return [stopping, done, failed, text].join(' ');")"

expect "the run ends" "true true true" "$(run_on_site "
  $begin
  await act('kill');
  const killed = await until(() => by('live').dataset.state === 'killed' && by('live-message').textContent.includes('the same command goes on'));
  await act('stage');
  const resumed = await until(() => by('live').dataset.state === 'running' && !shown('live-message'));
  await act('finish');
  const finished = await until(() => by('live').dataset.state === 'finished' && !shown('live-work') && by('live-log').textContent.includes('wrote OUT'));
  return [killed, resumed, finished].join(' ');")"

expect "the server is gone and comes back" "true true" "$(run_on_site "
  $begin
  await act('deaf');
  const lost = await until(() => by('live').dataset.state === 'lost' && by('live-message').textContent.includes('knapsaq watch'));
  const found = await until(() => by('live').dataset.state === 'running' && !shown('live-message'));
  return [lost, found].join(' ');")"

[ "$failures" = 0 ] || exit 1
echo "the page follows its run"
