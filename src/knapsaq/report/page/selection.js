// The point that somebody looks at, and the panel that tells about it. Everything that shows the selected point listens
// here.

const selection = {
  point: -1,
  key: null,  // of the point that somebody has selected; null: the page's own choice
  report: null,
  listeners: [],
  onChange(listener) { this.listeners.push(listener); },
  /** Somebody selects a point. */
  select(point) {
    if (point === undefined || point < 0) return;
    this.key = this.report.keyOf(point);
    this.show(point);
  },
  show(point) {
    if (point === this.point) return;
    this.point = point;
    for (const listener of this.listeners) listener(point);
  },
  /** The report has new data: the selected point stays, under its new index; without one it is `proposed`. */
  carry(report, proposed) {
    this.report = report;
    this.listeners = [];
    this.point = -1;
    for (let i = 0; this.key !== null && this.point < 0 && i < report.count; ++i) if (report.keyOf(i) === this.key) this.point = i;
    if (this.point < 0) this.point = proposed;
  },
};

/** Where a point came from, in words. */
function originOf(report, point) {
  const search = report.searches[report.searchOf[point]];
  const uniform = report.uniform.find((one) => one.point === point);
  const parts = [];
  if (uniform) parts.push('uniform ' + uniform.name);
  if (search) {
    const seeds = report.searches.filter((one) => one.strategy === search.strategy).length;
    parts.push('found by ' + search.strategy + (seeds > 1 ? ' (seed ' + search.seed + ')' : '') + ', evaluation ' +
      formatCount(report.stepOf[point] + 1) + ' of ' + formatCount(search.steps.length));
  }
  return parts.join(', ');
}

/** Names and values of what was measured of a point. */
function factsOf(report, point) {
  const { points } = report;
  const loss = points.loss && points.loss[point];
  const reference = report.model.loss;
  return [
    ['Size of the files', formatBytes(points.bytes[point])],
    ['Bits per weight', formatFixed(points.bits[point], 3)],
    points.kl && isNumber(points.kl[point]) && ['KL divergence', formatNumber(points.kl[point]) + ' nats'],
    points.jsd && isNumber(points.jsd[point]) && ['Jensen-Shannon', formatNumber(points.jsd[point]) + ' nats'],
    isNumber(loss) && ['Perplexity', formatFixed(Math.exp(loss), 2) +
      (isNumber(reference) ? ' (' + (loss >= reference ? '+' : '−') + formatPercent(Math.abs(Math.exp(loss - reference) - 1)) + ')' : '')],
    points.agreement && isNumber(points.agreement[point]) && ['Same top token', formatPercent(points.agreement[point])],
    !report.isFull(point) && ['Measured on', points.windows[point] + ' of ' + report.windows + ' windows'],
  ].filter((row) => row);
}

/** The front's point that has the most bytes of all up to so many; -1 if there is none. */
function frontWithin(report, bytes) {
  let best = -1;
  for (const point of report.front) if (report.points.bytes[point] <= bytes) best = point;
  return best;
}

function commandFor(report, point) {
  return report.pickCommand.replace('{budget}', () => String(report.points.bytes[point]));
}

function copyText(text, done) {
  const byHand = () => {
    // Pages from files may not use the clipboard's own interface.
    const box = element('textarea', { style: 'position:fixed;opacity:0' });
    box.value = text;
    document.body.append(box);
    box.select();
    const worked = document.execCommand('copy');
    box.remove();
    done(worked);
  };
  if (navigator.clipboard) navigator.clipboard.writeText(text).then(() => done(true), byHand);
  else byHand();
}

function makePointPanel(report) {
  const by = (id) => document.getElementById('point-' + id);
  const place = () => report.front.indexOf(selection.point);
  // From a point that is not on the front, the steps go to its neighbours there.
  const neighbour = (step) => {
    const at = place();
    if (at >= 0) return report.front[at + step];
    const bits = report.points.bits[selection.point];
    const larger = report.front.findIndex((point) => report.points.bits[point] > bits);
    if (step > 0) return larger < 0 ? undefined : report.front[larger];
    return report.front[(larger < 0 ? report.front.length : larger) - 1];
  };
  by('smaller').onclick = () => selection.select(neighbour(-1));
  by('larger').onclick = () => selection.select(neighbour(1));
  by('copy').onclick = () => copyText(by('command').textContent, (worked) => {
    by('copy').textContent = worked ? 'Copied' : 'Select and copy';
    setTimeout(() => { by('copy').textContent = 'Copy'; }, 1500);
  });

  const show = (point) => {
    setText(by('title'), formatFixed(report.points.bits[point], 3) + ' bits, ' + formatBytes(report.points.bytes[point]));
    setText(by('origin'), originOf(report, point));
    by('facts').replaceChildren(...factsOf(report, point).flatMap(([name, value]) => [element('dt', {}, name), element('dd', {}, value)]));
    setText(by('command'), commandFor(report, point));
    by('smaller').disabled = neighbour(-1) === undefined;
    by('larger').disabled = neighbour(1) === undefined;
    const onFront = report.onFront.has(point);
    const better = onFront ? -1 : frontWithin(report, report.points.bytes[point]);
    setText(by('command-label'), onFront ? 'Write this model' : 'Write the best model of at most this size');
    setText(by('note'), onFront ? 'On the front: no measured allocation is both smaller and closer to full precision.'
      : better >= 0 ? 'Not on the front: at this size the search knows one with divergence ' +
        formatNumber(report.divergences[better]) + '; that is what the command writes.'
        : 'Not on the front.');
    by('map').hidden = report.allocation(point) === null;
  };
  show(selection.point);
  selection.onChange(show);
  if (report.linears.length > 0) {
    const map = makePlot('point-map', (width) => allocationOption(report, selection.point, width, true),
      () => 'Bits of every linear of the selected model, block by linear');
    selection.onChange(() => map.update());
  }
}
