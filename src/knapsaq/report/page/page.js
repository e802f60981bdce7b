// The page: heads, tiles, and every section that there is something for.

function makeHeads(report) {
  const { model } = report;
  setText(document.getElementById('title'), model.name);
  const schemes = schemesInUse(report).map((one) => one.name);
  setText(document.getElementById('subtitle'), [
    model.architecture,
    model.parameters > 0 && formatCount(model.parameters) + ' parameters',
    model.bytes > 0 && formatBytes(model.bytes) + ' in full precision',
    report.linears.length > 0 && report.linears.length + ' linears' + (schemes.length > 0 ? ' in ' + schemes.join(', ') : ''),
  ].filter(Boolean).join(' · '));
}

function makeTiles(report) {
  const tiles = [];
  const tile = (value, what) => tiles.push(element('div', { class: 'tile' }, element('span', { class: 'value' }, value), element('span', { class: 'what' }, what)));
  if (report.count > 0) {
    tile(formatCount(report.count), 'measurements, of ' + possibleModels(report) + ' possible models');
    tile(formatNumber(report.searches.reduce((sum, search) => sum + search.fullPasses, 0)), 'full passes by ' + report.searches.length + (report.searches.length === 1 ? ' search' : ' searches'));
  }
  if (report.files.length > 0) {
    tile(formatCount(report.files.length), report.files.length === 1 ? 'file' : 'files');
    tile(formatCount(report.tokens), 'tokens scored, in ' + formatCount(report.windows) + ' windows');
    if (isNumber(report.model.loss)) tile(formatFixed(Math.exp(report.model.loss), 2), 'perplexity of the full model');
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
  const sections = [...document.querySelectorAll('section.card:not([hidden])')].filter((section) => section.querySelector('h2'));
  const contents = document.getElementById('contents');
  if ([...contents.children].map((link) => link.hash).join() === sections.map((section) => '#' + section.id).join()) return;
  contents.replaceChildren(...sections.map((section) => element('a', { href: '#' + section.id }, section.querySelector('h2').textContent)));
}

/** Where a reader begins: the smallest model of the front within 2 % of full precision, else its middle. */
function firstPoint(report) {
  const { front, points } = report;
  const within = isNumber(report.model.loss) && points.loss ? front.find((i) => points.loss[i] - report.model.loss <= Math.log1p(0.02)) : undefined;
  if (within !== undefined) return within;
  return front.length > 0 ? front[Math.floor(front.length / 2)] : -1;
}

/**
 * Sections, from top to bottom: id, the function that draws it and says whether there is anything to draw, and what it is
 * drawn from where that is not everything: such a section is left alone until it changes.
 */
const kSections = [
  ['files', makeFiles],
  ['front', makeFront],
  ['allocation', makeAllocation],
  ['quality', makeQuality],
  ['heldout', makeHeldout, (report) => [report.heldout, report.model]],
  ['steps', makeSteps, (report) => [report.written, report.divergence]],
  ['tasks', makeTasks, (report) => report.tasks],
  ['convergence', makeConvergence],
  ['sensitivity', makeSensitivity, (report) => report.sensitivities],
  ['prediction', makePredictions],
  ['weights', makeWeights, (report) => report.linears],
  ['study', makeStudy, (report) => report.study],
  ['cost', makeCost],
];
const drawnFrom = new Map();

/**
 * Draws a report from its data (ReportData::to_json), the first time and whenever they are new: what somebody has
 * selected, switched or scrolled to stays. `propose(report)`: the point that is shown while nobody has selected one.
 */
function updateReport(data, propose = firstPoint) {
  const report = prepareReport(data);
  selection.carry(report, propose(report));
  makeHeads(report);
  makeTiles(report);
  for (const [id, make, sources] of kSections) {
    const text = sources && JSON.stringify(sources(report));
    if (text !== undefined && drawnFrom.get(id) === text) continue;
    drawnFrom.set(id, text);
    if (!make(report)) document.getElementById(id).hidden = true;
  }
  makeContents();
  // For those who want to look closer from the browser's console.
  window.knapsaq = { report, selection, plots };
  document.documentElement.dataset.ready = 'yes';
  return report;
}
