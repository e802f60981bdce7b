// The page: heads, tiles, and every section that there is something for.

function makeHeads(report) {
  const { model } = report;
  document.getElementById('title').textContent = model.name;
  const schemes = schemesInUse(report).map((one) => one.name);
  document.getElementById('subtitle').textContent = [
    model.architecture,
    model.parameters > 0 && formatCount(model.parameters) + ' parameters',
    model.bytes > 0 && formatBytes(model.bytes) + ' in full precision',
    report.linears.length > 0 && report.linears.length + ' linears' + (schemes.length > 0 ? ' in ' + schemes.join(', ') : ''),
  ].filter(Boolean).join(' · ');
  if (report.running) {
    const box = document.getElementById('running');
    box.hidden = false;
    box.textContent = report.count > 0 ? 'A search of this run is not finished: this is how far it is. Run knapsaq report again for the latest.'
      : 'A search of this run has begun; nothing is measured yet. Run knapsaq report again later.';
  }
}

function makeTiles(report) {
  const tiles = [];
  const tile = (value, what) => tiles.push(element('div', { class: 'tile' }, element('span', { class: 'value' }, value), element('span', { class: 'what' }, what)));
  if (report.count > 0) {
    tile(formatCount(report.count), 'measurements, of ' + possibleModels(report) + ' possible models');
    tile(formatNumber(report.searches.reduce((sum, search) => sum + search.fullPasses, 0)), 'full passes by ' + report.searches.length + (report.searches.length === 1 ? ' search' : ' searches'));
  }
  if (report.front.length > 0) {
    const { points, front } = report;
    tile(formatCount(front.length), front.length === 1 ? 'model on the front' : 'models on the front');
    tile(formatBytes(points.bytes[front[0]]), 'smallest, ' + formatFixed(points.bits[front[0]], 2) + ' bits per weight');
    if (isNumber(report.model.loss) && points.loss) {
      const within = front.find((i) => points.loss[i] - report.model.loss <= Math.log1p(0.01));
      if (within !== undefined) tile(formatBytes(points.bytes[within]), 'smallest within 1 % of full precision\u2019s perplexity');
    }
    if (isNumber(report.hypervolume)) tile(formatFixed(report.hypervolume, 4), 'hypervolume of the front');
  }
  document.getElementById('summary').replaceChildren(...tiles);
  document.getElementById('summary').hidden = tiles.length === 0;
}

/** How many allocations the space has: "1.1 × 10^20". */
function possibleModels(report) {
  const digits = report.variables.reduce((sum, variable) => sum + Math.log10(Math.max(1, variable.levels.length)), 0);
  if (digits < 6) return formatCount(10 ** digits);
  const superscript = String(Math.floor(digits)).replace(/\d/g, (d) => '⁰¹²³⁴⁵⁶⁷⁸⁹'[d]);
  return (10 ** (digits % 1)).toFixed(1) + '\u2009×\u200910' + superscript;
}

function makeContents() {
  const links = [...document.querySelectorAll('section.card:not([hidden])')].map((section) => element('a', { href: '#' + section.id }, section.querySelector('h2').textContent));
  document.getElementById('contents').replaceChildren(...links);
}

/** Where a reader begins: the smallest model of the front within 2 % of full precision, else its middle. */
function firstPoint(report) {
  const { front, points } = report;
  const within = isNumber(report.model.loss) && points.loss ? front.find((i) => points.loss[i] - report.model.loss <= Math.log1p(0.02)) : undefined;
  return within !== undefined ? within : front[Math.floor(front.length / 2)];
}

function main() {
  const report = loadReport();
  makeThemeButton();
  makeHeads(report);
  makeTiles(report);
  if (report.front.length > 0) {
    selection.point = firstPoint(report);
    makeFront(report);
    makePointPanel(report);
    makeAllocation(report);
    makeQuality(report);
  }
  makeHeldout(report);
  makeTasks(report);
  makeConvergence(report);
  makeSensitivity(report);
  makePredictions(report);
  makeWeights(report);
  makeStudy(report);
  makeCost(report);
  makeContents();
  // For those who want to look closer from the browser's console.
  window.knapsaq = { report, selection, plots };
  document.documentElement.dataset.ready = 'yes';
}

main();
