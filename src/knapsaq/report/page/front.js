// The front with everything that was measured, and the same as a table.

/** The unit that sizes of files are shown in: enough that no size is below 0.5. */
function sizeUnit(report) {
  let largest = 0;
  for (const bytes of report.points.bytes) largest = Math.max(largest, bytes);
  const units = [['KiB', 1024], ['MiB', kMiB], ['GiB', 1024 * kMiB]];
  const [name, bytes] = units.findLast((unit) => largest >= unit[1]) || units[0];
  return { name, of: (value) => value / bytes };
}

/** Searches of every strategy: [strategy, searches]. */
function searchesByStrategy(report) {
  return report.strategies.map((strategy) => [strategy, report.searches.filter((search) => search.strategy === strategy)]);
}

/** Least and greatest of what is finite and, for a logarithmic axis, positive, with some room; null of nothing. */
function axisRange(values, logarithmic) {
  let low = Infinity;
  let high = -Infinity;
  for (const value of values) {
    if (!isNumber(value) || (logarithmic && value <= 0)) continue;
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  if (low > high) return null;
  if (logarithmic) return [low / 1.3, high * 1.3];
  const room = (high - low || Math.abs(high) || 1) * 0.04;
  return [low - room, high + room];
}

/** Axis labels at the ends of a range would be odd numbers; only those in between are shown. */
const kInnerLabels = { showMinLabel: false, showMaxLabel: false, formatter: formatTick };

/**
 * A logarithmic axis over a range. The library labels powers of ten only, of which a range may hold one; these are 1, 2 and
 * 5 times them, or powers alone where those would be too many.
 */
function logAxis(range, room) {
  const values = [];
  const few = Math.log10(range[1] / range[0]) > room;
  for (let power = Math.floor(Math.log10(range[0])); power <= Math.ceil(Math.log10(range[1])); ++power) {
    for (const step of few ? [1] : [1, 2, 5]) {
      const value = Number((step * 10 ** power).toPrecision(1));
      if (value >= range[0] && value <= range[1]) values.push(value);
    }
  }
  return {
    type: 'log', min: range[0], max: range[1], minorTick: { show: false },
    axisTick: { customValues: values }, axisLabel: { customValues: values, formatter: formatTick },
  };
}

function valueAxis(range) {
  return { type: 'value', min: range[0], max: range[1], axisLabel: kInnerLabels };
}

function pointTip(report, point) {
  return tip(originOf(report, point) || 'measured', factsOf(report, point));
}

/** The row of symbols in the legend stands above the plot; this is how much room it takes. */
function legendHeight(names, width) {
  let x = 0;
  let rows = 1;
  for (const name of names) {
    const wide = 36 + 7 * name.length;
    if (x + wide > width - 20 && x > 0) {
      ++rows;
      x = 0;
    }
    x += wide;
  }
  return rows * 24 + 8;
}

/** A point's label stays inside of the plot. */
function labelSide(x, range) {
  return x > range[0] + 0.88 * (range[1] - range[0]) ? 'left' : 'right';
}

const kBest = 'best of all';
const kPartial = 'fewer tokens';

function frontOption(report, view, width) {
  const { points } = report;
  const unit = sizeUnit(report);
  const x = view.x === 'bits' ? (i) => points.bits[i] : (i) => unit.of(points.bytes[i]);
  const y = (i) => report.divergences[i];
  const shown = (i) => isNumber(y(i)) && (view.y === 'value' || y(i) > 0);
  const item = (i) => ({ value: [x(i), y(i)], point: i });
  const all = [...Array(report.count).keys()].filter(shown);
  const xRange = axisRange(all.map(x), false);
  const yRange = axisRange(all.map(y), view.y === 'log');
  const series = [];
  const names = [];
  const partial = [];
  for (const [strategy, searches] of searchesByStrategy(report)) {
    const look = strategyLook(strategy);
    const mine = new Set(searches.flatMap((search) => search.steps));
    const full = [...mine].filter((i) => report.isFull(i) && shown(i));
    partial.push(...[...mine].filter((i) => !report.isFull(i) && shown(i)));
    if (strategy === 'uniform') continue;
    names.push(strategy);
    for (const search of searches) {
      series.push({
        name: strategy, type: 'line', step: 'end', z: 4, symbol: look.symbol, symbolSize: 5,
        showSymbol: search.front.length <= 60, data: search.front.filter(shown).map(item),
        itemStyle: { color: look.color }, lineStyle: { width: 1.8, color: look.color, opacity: 0.9 },
      });
    }
    series.push({
      name: strategy, type: 'scatter', z: 2, symbol: look.symbol, symbolSize: full.length > 1000 ? 3.5 : 5,
      data: full.map(item), itemStyle: { color: look.color, opacity: full.length > 1000 ? 0.28 : 0.4 },
    });
  }
  if (partial.length > 0) {
    names.push(kPartial);
    series.push({
      name: kPartial, type: 'scatter', z: 1, symbol: 'emptyCircle', symbolSize: 4, data: partial.map(item),
      itemStyle: { color: theme.color('quiet'), opacity: 0.4 },
    });
  }
  const uniform = report.uniform.filter((one) => shown(one.point));
  if (uniform.length > 0) {
    names.push('uniform');
    series.push({
      name: 'uniform', type: 'scatter', z: 7, symbol: 'diamond', symbolSize: 13,
      data: uniform.map((one) => ({ ...item(one.point), label: { formatter: one.name, position: labelSide(x(one.point), xRange) } })),
      itemStyle: { color: strategyLook('uniform').color, borderColor: theme.color('card'), borderWidth: 1 },
      label: { show: uniform.length <= 12, color: theme.color('text'), fontSize: 12,
        textBorderColor: theme.color('card'), textBorderWidth: 3 },
      labelLayout: { hideOverlap: true },
    });
  }
  names.push(kBest);
  series.push({
    name: kBest, type: 'scatter', z: 6, symbol: 'circle', symbolSize: 8, data: report.front.filter(shown).map(item),
    itemStyle: { color: 'transparent', borderColor: theme.color('text'), borderWidth: 1.2 },
    emphasis: { scale: 1.5 },
  });
  const chosen = selection.point;
  series.push({
    type: 'scatter', z: 9, symbol: 'circle', symbolSize: 17, silent: true,
    data: chosen >= 0 && shown(chosen) ? [item(chosen)] : [],
    itemStyle: { color: 'transparent', borderColor: theme.color('accent'), borderWidth: 3 },
  });
  const top = legendHeight(names, width);
  return {
    grid: { left: 62, right: 20, top: top + 6, bottom: 48 },
    legend: { data: names, selected: { [kPartial]: false } },
    tooltip: { formatter: (params) => (params.data && params.data.point >= 0 ? pointTip(report, params.data.point) : '') },
    xAxis: {
      type: 'value', name: view.x === 'bits' ? (width < 450 ? 'Bits per quantized weight' : 'Average bits per quantized weight (metadata included)') : 'Size of the files (' + unit.name + ')',
      nameGap: 30, min: xRange[0], max: xRange[1], axisLabel: kInnerLabels,
    },
    yAxis: {
      ...(view.y === 'log' ? logAxis(yRange, 3) : valueAxis(yRange)), name: report.divergenceName + ' (nats per token)', nameGap: 46,
    },
    series,
  };
}

/** What the front is worth beside the largest uniform model that it can be compared with. */
function frontSentence(report) {
  const { points, front } = report;
  const first = front[0];
  const last = front[front.length - 1];
  let text = 'Every dot is a measured allocation; further left is smaller, further down is closer to full precision. ';
  text += front.length > 1
    ? 'The front has ' + formatCount(front.length) + ' models from ' + formatBytes(points.bytes[first]) + ' (divergence ' +
      formatNumber(report.divergences[first]) + ') to ' + formatBytes(points.bytes[last]) + ' (' + formatNumber(report.divergences[last]) + ').'
    : 'The front has one model so far.';
  // The uniform model that gains most.
  let best = null;
  for (const one of report.uniform) {
    const point = frontWithin(report, points.bytes[one.point]);
    if (point < 0 || point === one.point) continue;
    const gain = 1 - report.divergences[point] / report.divergences[one.point];
    if (gain > 0.005 && (!best || gain > best.gain)) best = { ...one, gain };
  }
  if (best) text += ' Within the size of uniform ' + best.name + ', its divergence is ' + formatPercent(best.gain, 0) + ' lower than that model\u2019s.';
  return text;
}

function makeFront(report) {
  if (report.front.length === 0) return false;
  showSection('front', frontSentence(report));
  const view = viewOf('front', { x: 'bits', y: 'log' });
  const plot = makePlot('front-chart', (width) => frontOption(report, view, width), () => frontSentence(report),
    (params) => { if (params.data && params.data.point >= 0) selection.select(params.data.point); });
  makeChoice('front-x', [['bits', 'Bits per weight'], ['size', 'File size']], view.x, (value) => { view.x = value; plot.update(); });
  makeChoice('front-y', [['log', 'Logarithmic'], ['value', 'Linear']], view.y, (value) => { view.y = value; plot.update(); });
  // Only the ring moves: redrawing ten thousand points at every click would be felt.
  selection.onChange(() => {
    if (plot.stale) {
      plot.update();
      return;
    }
    const option = frontOption(report, view, plot.width);
    plot.chart.setOption({ series: option.series.map((one, i) => (i + 1 === option.series.length ? { data: one.data } : {})) });
  });
  makePointPanel(report);
  makeFrontTable(report);
  return true;
}

function makeFrontTable(report) {
  const { points } = report;
  const table = document.getElementById('front-table');
  const fill = () => {
    fillTable(table, ['Bits per weight', 'Files', report.divergenceName + ' (nats)', 'Perplexity', 'Same top token', { text: 'Found by', class: 'text' }],
      report.front.map((i) => [
        element('button', { type: 'button', class: 'link', onclick: () => selection.select(i) }, formatFixed(points.bits[i], 3)),
        formatBytes(points.bytes[i]), formatNumber(report.divergences[i]),
        points.loss ? formatFixed(Math.exp(points.loss[i]), 2) : '–',
        points.agreement ? formatPercent(points.agreement[i]) : '–',
        { text: report.searchOf[i] >= 0 ? report.searches[report.searchOf[i]].strategy : '', class: 'text' },
      ]));
  };
  const mark = () => [...table.tBodies[0].rows].forEach((row, i) => row.classList.toggle('selected', report.front[i] === selection.point));
  // Long fronts are only laid out for those who open the table.
  const details = document.getElementById('front-details');
  details.ontoggle = () => {
    if (!details.open) return;
    fill();
    mark();
  };
  details.ontoggle();
  selection.onChange(() => { if (details.open) mark(); });
}
