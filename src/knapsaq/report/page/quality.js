// How good the models are and how the searches got there: perplexity against memory, held-out text, convergence,
// predictions.

/** A band between two curves, drawn below the lines; `xs` ascending. */
function bandSeries(name, xs, low, high, color, axes = {}) {
  const corners = [...xs.map((x, i) => [x, low[i]]), ...xs.map((x, i) => [x, high[i]]).reverse()].filter((corner) => isNumber(corner[1]));
  return {
    ...axes, name, type: 'custom', z: 1, silent: true, clip: true, tooltip: { show: false }, data: [[xs[0], low[0]]],
    renderItem: (params, api) => ({
      type: 'polygon', shape: { points: corners.map((corner) => api.coord(corner)) }, style: { fill: color, opacity: 0.18 }, silent: true,
    }),
    encode: { x: -1, y: -1 },
  };
}

const kNear = 1.15;

/** Perplexity against memory with the lines of 1 % and 2 % loss (MXQ's figure 3). */
function qualityOption(report, view, width) {
  const { points } = report;
  const unit = sizeUnit(report);
  const reference = isNumber(report.model.loss) ? Math.exp(report.model.loss) : null;
  const perplexity = (i) => Math.exp(points.loss[i]);
  const onFronts = new Set([...report.front, ...report.uniform.map((one) => one.point)]);
  // Few bits can cost any perplexity; on a scale that shows all of it the lines of 1 % and 2 % would be one.
  const ceiling = view.upTo === 'near' && reference ? reference * kNear : Infinity;
  const shown = (i) => isNumber(points.loss[i]) && report.isFull(i) && perplexity(i) <= ceiling;
  const item = (i) => ({ value: [unit.of(points.bytes[i]), perplexity(i)], point: i });
  const visible = [...Array(report.count).keys()].filter((i) => onFronts.has(i) && shown(i));
  const xRange = axisRange(visible.map((i) => unit.of(points.bytes[i])), false) || [0, 1];
  const yRange = axisRange([...visible.map(perplexity), reference, reference && reference * 1.02], false) || [0, 1];
  const series = [];
  const names = [];
  for (const [strategy, searches] of searchesByStrategy(report)) {
    if (strategy === 'uniform') continue;
    const look = strategyLook(strategy);
    const mine = [...new Set(searches.flatMap((search) => search.front))].filter(shown).sort((a, b) => points.bytes[a] - points.bytes[b]);
    if (mine.length === 0) continue;
    names.push(strategy);
    series.push({
      name: strategy, type: 'scatter', symbol: look.symbol, symbolSize: mine.length > 150 ? 5 : 7, data: mine.map(item),
      itemStyle: { color: look.color, opacity: 0.75 }, z: strategy === 'front' ? 4 : 3,
    });
  }
  const uniform = report.uniform.filter((one) => shown(one.point));
  if (uniform.length > 0) {
    names.push('uniform');
    series.push({
      name: 'uniform', type: 'scatter', z: 6, symbol: 'diamond', symbolSize: 13,
      data: uniform.map((one) => ({ ...item(one.point), label: { formatter: one.name, position: labelSide(unit.of(points.bytes[one.point]), xRange) } })),
      itemStyle: { color: strategyLook('uniform').color, borderColor: theme.color('card'), borderWidth: 1 },
      label: { show: uniform.length <= 12, color: theme.color('text'), fontSize: 12, textBorderColor: theme.color('card'), textBorderWidth: 3 },
      labelLayout: { hideOverlap: true },
    });
  }
  if (reference) {
    const line = (factor, name, type) => ({
      yAxis: reference * factor, name, lineStyle: { type, color: theme.color('quiet'), width: factor === 1 ? 1.6 : 1.1 },
      label: { show: factor === 1.02 || (factor === 1.01 && view.upTo === 'near'), formatter: name, position: 'end', color: theme.color('quiet'), fontSize: 12 },
    });
    names.push('full precision');
    series.push({
      name: 'full precision', type: 'scatter', symbol: 'triangle', symbolSize: 13, itemStyle: { color: '#c8322b' }, z: 7,
      // At the right end where it is too large for the axis, as in the paper's figure its corner.
      data: [{ value: [Math.min(unit.of(report.model.bytes) || Infinity, xRange[1]), reference], full: true }],
      tooltip: { formatter: () => tip('Full precision', [['Perplexity', formatFixed(reference, 2)], report.model.bytes > 0 && ['Size of the files', formatBytes(report.model.bytes)]]) },
      markLine: { silent: true, symbol: 'none', data: [line(1, '', 'solid'), line(1.01, '+1 %', 'dashed'), line(1.02, '+2 %', 'dashed')] },
    });
  }
  const top = legendHeight(names, width);
  return {
    grid: { left: 62, right: 44, top: top + 6, bottom: 48 },
    legend: { data: names },
    tooltip: { formatter: ({ data }) => (data && data.point >= 0 ? pointTip(report, data.point) : '') },
    xAxis: { type: 'value', name: 'Size of the files (' + unit.name + ')', nameGap: 30, min: xRange[0], max: xRange[1], axisLabel: kInnerLabels },
    yAxis: { type: 'value', name: 'Perplexity on the search\u2019s text', nameGap: 46, min: yRange[0], max: yRange[1], axisLabel: kInnerLabels },
    series,
  };
}

function qualitySentence(report) {
  const { points } = report;
  if (!isNumber(report.model.loss)) return 'Perplexity of every strategy\u2019s front models by the size of their files.';
  const within = (share) => report.front.find((i) => points.loss[i] - report.model.loss <= Math.log1p(share));
  const [one, two] = [within(0.01), within(0.02)];
  const name = (i) => formatBytes(points.bytes[i]) + ' (' + formatFixed(points.bits[i], 2) + ' bits)';
  let text = 'The lines are full precision\u2019s perplexity (' + formatFixed(Math.exp(report.model.loss), 2) +
    (report.model.bytes > 0 ? ', ' + formatBytes(report.model.bytes) : '') + ') and losses of 1\u00a0% and 2\u00a0%. ';
  if (one === undefined && two === undefined) text += 'No measured model is within 2\u00a0% of full precision.';
  else if (one === undefined) text += 'The smallest model within 2\u00a0% takes ' + name(two) + '; none is within 1\u00a0%.';
  else text += 'The smallest model within 1\u00a0% takes ' + name(one) + ', the smallest within 2\u00a0% ' + name(two) + '.';
  return text;
}

function makeQuality(report) {
  if (!report.points.loss || report.front.length === 0) return false;
  showSection('quality', qualitySentence(report));
  // Where no model is that near to full precision, there is only one view.
  const near = isNumber(report.model.loss) && report.front.some((i) => report.points.loss[i] - report.model.loss <= Math.log(kNear));
  const view = viewOf('quality', { upTo: 'near' });
  const plot = makePlot('quality-chart', (width) => qualityOption(report, near ? view : { upTo: 'all' }, width), () => qualitySentence(report),
    ({ data }) => { if (data && data.point >= 0) selection.select(data.point); });
  makeChoice('quality-y', near ? [['near', 'Up to +15 %'], ['all', 'All']] : [], view.upTo, (value) => { view.upTo = value; plot.update(); });
  return true;
}

/** Held-out text: the models that were picked beside the uniform ones. */
function makeHeldout(report) {
  const models = report.heldout.filter((one) => isNumber(one[report.divergence]));
  if (models.length === 0) return false;
  const value = (one) => one[report.divergence];
  const uniform = models.filter((one) => one.uniform);
  const picked = models.filter((one) => !one.uniform);
  let won = 0, compared = 0;
  for (const one of picked) {
    // The best uniform model of at most the same size is what it has to beat.
    const rivals = uniform.filter((rival) => rival.bytes <= one.bytes);
    if (rivals.length === 0) continue;
    ++compared;
    if (value(one) <= Math.min(...rivals.map(value))) ++won;
  }
  const tokens = Math.max(...models.map((one) => one.tokens));
  const sentence = 'Measured on ' + formatCount(tokens) + ' tokens of other text. ' + (compared > 0
    ? (won === compared ? (compared === 1 ? 'The picked model is' : 'All ' + compared + ' picked models are')
      : won + ' of ' + compared + ' picked models are') + ' at least as close to full precision as the best uniform model of at most the same size.' : '');
  showSection('heldout', sentence);
  makePlot('heldout-chart', (width) => {
    const xRange = axisRange(models.map((one) => one.bits), false);
    const item = (one) => ({ value: [one.bits, value(one)], model: one });
    const series = [['picked', picked, strategyLook('front').color, 'circle', 9], ['uniform', uniform, strategyLook('uniform').color, 'diamond', 13]]
      .filter(([, list]) => list.length > 0)
      .map(([name, list, color, symbol, symbolSize]) => ({
        name, type: name === 'picked' && list.length > 1 ? 'line' : 'scatter', symbol, symbolSize, showSymbol: true,
        data: [...list].sort((a, b) => a.bits - b.bits).map((one) => ({ ...item(one), label: { position: labelSide(one.bits, xRange) } })),
        itemStyle: { color }, lineStyle: { width: 1.5, color },
        label: { show: name === 'uniform', formatter: ({ data }) => data.model.label.replace(/^uniform /, ''), color: theme.color('text'),
          fontSize: 12, textBorderColor: theme.color('card'), textBorderWidth: 3 },
        labelLayout: { hideOverlap: true },
      }));
    const positive = models.every((one) => value(one) > 0);
    const yRange = axisRange(models.map(value), positive);
    return {
      grid: { left: 62, right: 20, top: 38, bottom: 48 },
      legend: { data: series.map((one) => one.name) },
      tooltip: { formatter: ({ data }) => tip(data.model.label, [['Size of the files', formatBytes(data.model.bytes)], [report.divergenceName, formatNumber(value(data.model)) + ' nats'],
        ['Perplexity', formatFixed(Math.exp(data.model.loss), 2)]]) },
      xAxis: { type: 'value', name: 'Average bits per quantized weight', nameGap: 30, min: xRange[0], max: xRange[1], axisLabel: kInnerLabels },
      yAxis: { ...(positive ? logAxis(yRange, 3) : valueAxis(yRange)), name: report.divergenceName + ' (nats per token)', nameGap: 46 },
      series,
    };
  }, () => sentence);
  fillTable(document.getElementById('heldout-table'), ['Model', 'Bits', 'Files', 'Divergence', 'Perplexity', 'Same top token'],
    [...models].sort((a, b) => a.bytes - b.bytes).map((one) => [
      one.label, formatFixed(one.bits, 3), formatBytes(one.bytes),
      formatNumber(value(one)) + (one.standardError > 0 ? ' ± ' + formatNumber(one.standardError, 2) : ''),
      formatFixed(Math.exp(one.loss), 2), formatPercent(one.agreement),
    ]).concat(isNumber(report.model.heldoutLoss)
      ? [['full precision', '–', report.model.bytes > 0 ? formatBytes(report.model.bytes) : '–', '0', formatFixed(Math.exp(report.model.heldoutLoss), 2), '100\u00a0%']] : []));
  return true;
}

/** Zero-shot tasks: every model that was judged, by their average as AMQ takes it. */
function makeTasks(report) {
  const models = report.tasks;
  if (models.length === 0) return false;
  const names = [...new Set(models.flatMap((one) => one.tasks.map((task) => task.name)))];
  // Only scores on the same items can be compared: those that most models share, the others are marked.
  const shares = (data) => models.filter((one) => one.data === data).length;
  const common = models.map((one) => one.data).reduce((best, data) => (shares(data) > shares(best) ? data : best));
  const others = models.some((one) => one.data !== common);
  const best = models.filter((one) => one.data === common).reduce((a, b) => (b.average > a.average ? b : a));
  showSection('tasks', 'Average by AMQ\u2019s rule: acc_norm of tasks that have it, else acc; \u00b1 standard errors. Best: '
    + best.model + ' with ' + formatPercent(best.average) + '.' + (others ? ' Models with * were judged by other items: do not compare them.' : ''));
  const cell = (value, error) => formatFixed(100 * value, 2) + (error > 0 ? ' \u00b1 ' + formatFixed(100 * error, 2) : '');
  fillTable(document.getElementById('tasks-table'), ['Model', 'Bits', 'Size', ...names, 'Average'],
    models.map((one) => [
      one.model + (one.data === common ? '' : ' *'), formatFixed(one.bits, 3), formatBytes(one.bytes),
      ...names.map((name) => {
        const task = one.tasks.find((candidate) => candidate.name === name);
        return task ? cell(task.value, task.standardError) : '\u2013';
      }),
      cell(one.average, one.standardError),
    ]));
  return true;
}

/** The searches' hypervolumes on common places of the axis: median, least and most. */
function convergenceCurves(report, axis) {
  const at = axis === 'passes' ? 1 : 0;
  return searchesByStrategy(report).map(([strategy, searches]) => {
    const runs = searches.map((search) => search.progress).filter((progress) => progress.length > 0);
    if (strategy === 'uniform' || runs.length === 0) return null;
    const first = Math.max(1e-3, Math.min(...runs.map((run) => run[0][at])));
    const last = Math.max(...runs.map((run) => run[run.length - 1][at]));
    const places = 120;
    const xs = Array.from({ length: last > first ? places : 1 }, (_, i) => first * (last / first) ** (i / (places - 1)));
    const values = xs.map((x) => runs.map((run) => {
      // The latest that had been reached by then; a run that has ended keeps its value.
      let low = -1;
      for (let k = 0; k < run.length && run[k][at] <= x * (1 + 1e-9); ++k) low = k;
      return low < 0 ? NaN : run[low][2];
    }).filter(isNumber).sort((a, b) => a - b));
    return {
      strategy, xs, runs: runs.length,
      middle: values.map((v) => quantile(v, 0.5)), low: values.map((v) => (v.length ? v[0] : NaN)), high: values.map((v) => (v.length ? v[v.length - 1] : NaN)),
      best: Math.max(...values[values.length - 1]),
      final: quantile(values[values.length - 1], 0.5), passes: median(runs.map((run) => run[run.length - 1][1])),
    };
  }).filter((curve) => curve !== null);
}

function convergenceSentence(report) {
  const curves = convergenceCurves(report, 'passes').sort((a, b) => b.final - a.final);
  const several = curves.some((curve) => curve.runs > 1);
  let text = 'Hypervolume is the share of the plane of size and divergence that a search has covered: higher is better, and so is earlier. ';
  if (curves.length === 1) text += curves[0].strategy + ' reached ' + formatFixed(curves[0].final, 4) + ' in ' + formatNumber(curves[0].passes) + ' full passes.';
  else if (curves.length > 1) {
    const [best, next] = curves;
    text += best.strategy + ' ends highest, at ' + formatFixed(best.final, 4) + ' after ' + formatNumber(best.passes) + ' full passes';
    text += '; ' + next.strategy + ' follows with ' + formatFixed(next.final, 4) + ' after ' + formatNumber(next.passes) + '.';
  }
  if (several) text += ' Lines are medians over seeds, bands reach from the worst to the best.';
  return text;
}

function makeConvergence(report) {
  if (!report.searches.some((search) => search.strategy !== 'uniform' && search.progress.length > 1)) return false;
  showSection('convergence', convergenceSentence(report));
  const view = viewOf('convergence', { x: 'passes' });
  const plot = makePlot('convergence-chart', (width) => {
    const curves = convergenceCurves(report, view.x);
    const series = [];
    for (const curve of curves) {
      const color = strategyLook(curve.strategy).color;
      series.push({
        name: curve.strategy, type: 'line', step: 'end', symbol: 'circle', symbolSize: 5, showSymbol: curve.xs.length === 1, z: 3,
        data: curve.xs.map((x, i) => [x, curve.middle[i]]), itemStyle: { color }, lineStyle: { width: 2.2, color },
      });
      if (curve.runs > 1) series.push(bandSeries(curve.strategy, curve.xs, curve.low, curve.high, color));
    }
    // Every search begins at nothing; what tells them apart is near the end.
    const finals = curves.map((curve) => curve.final);
    const floor = Math.max(0, Math.max(...finals) - 2.2 * (Math.max(...finals) - Math.min(...finals) || 0.1));
    const names = curves.map((curve) => curve.strategy);
    const xRange = axisRange(curves.flatMap((curve) => [curve.xs[0], curve.xs[curve.xs.length - 1]]), true);
    const top = legendHeight(names, width);
    return {
      grid: { left: 62, right: 24, top: top + 6, bottom: 48 },
      legend: { data: names },
      tooltip: {
        trigger: 'axis', formatter: (items) => tip((view.x === 'passes' ? formatNumber(items[0].axisValue) + ' full passes' : formatCount(items[0].axisValue) + ' evaluations'),
          [...new Map(items.filter((one) => one.seriesType === 'line').map((one) => [one.seriesName, [one.seriesName, formatFixed(one.value[1], 4)]])).values()]),
      },
      xAxis: { ...logAxis(xRange, width / 180), name: view.x === 'passes' ? 'Cost (passes of the whole model over the text of the search)' : 'Evaluations', nameGap: 30 },
      yAxis: { type: 'value', name: 'Hypervolume (share of 1)', nameGap: 46, min: floor, max: (value) => value.max + 0.06 * (value.max - floor), axisLabel: kInnerLabels },
      series,
    };
  }, () => convergenceSentence(report));
  makeChoice('convergence-x', [['passes', 'By cost'], ['evaluations', 'By evaluations']], view.x, (value) => { view.x = value; plot.update(); });
  return true;
}

/** Predictions of every strategy that made some: [strategy, [[predicted, measured, point]]]. */
function predictions(report) {
  return searchesByStrategy(report).map(([strategy, searches]) => {
    const pairs = [];
    for (const search of searches) {
      if (!search.predicted) continue;
      search.steps.forEach((point, step) => {
        const [predicted, measured] = [search.predicted[step], report.divergences[point]];
        if (isNumber(predicted) && isNumber(measured) && predicted > 0 && measured > 0) pairs.push([predicted, measured, point]);
      });
    }
    return [strategy, pairs];
  }).filter(([, pairs]) => pairs.length > 1);
}

function predictionSentence(groups) {
  return 'On the line a prediction came true; above it the model suffered more. ' + groups.map(([strategy, pairs]) => {
    const off = median(pairs.map(([predicted, measured]) => measured / predicted)) - 1;
    return strategy + ': rank correlation ' + formatFixed(spearman(pairs.map((p) => p[0]), pairs.map((p) => p[1])), 3) + ' over ' + formatCount(pairs.length) +
      ' predictions, typically ' + (Math.abs(off) < 0.005 ? 'right' : formatPercent(Math.abs(off), 0) + (off > 0 ? ' too low' : ' too high'));
  }).join('; ') + '.';
}

const kEqual = 'predicted = measured';
const kRoundNames = { hypervolume: 'Hypervolume', rmse: 'RMSE of the predictor (nats)', spearman: 'Spearman\u2019s rank correlation', kendall: 'Kendall\u2019s rank correlation' };

function makePredictions(report) {
  const groups = predictions(report);
  const rounds = report.searches.filter((search) => search.rounds.names.length > 0);
  if (groups.length === 0 && rounds.length === 0) return false;
  showSection('prediction', groups.length > 0 ? predictionSentence(groups) : 'What the strategies noted of their rounds.');
  document.getElementById('prediction-chart').hidden = groups.length === 0;
  if (groups.length > 0) {
    makePlot('prediction-chart', (width) => {
      const range = axisRange(groups.flatMap(([, pairs]) => pairs.flatMap((pair) => [pair[0], pair[1]])), true);
      const xRange = axisRange(groups.flatMap(([, pairs]) => pairs.map((pair) => pair[0])), true);
      const yRange = axisRange(groups.flatMap(([, pairs]) => pairs.map((pair) => pair[1])), true);
      const series = groups.map(([strategy, pairs]) => {
        const look = strategyLook(strategy);
        return {
          name: strategy, type: 'scatter', symbol: look.symbol, symbolSize: pairs.length > 1000 ? 3.5 : 5, z: strategy === 'front' ? 4 : 2,
          data: pairs.map(([predicted, measured, point]) => ({ value: [predicted, measured], point })),
          itemStyle: { color: look.color, opacity: pairs.length > 1000 ? 0.3 : 0.6 },
        };
      });
      series.push({
        name: kEqual, type: 'line', data: [[range[0], range[0]], [range[1], range[1]]], symbol: 'none', silent: true, z: 5,
        itemStyle: { color: theme.color('text') }, lineStyle: { color: theme.color('text'), width: 1.2, type: 'dashed' },
      });
      const names = series.map((one) => one.name);
      return {
        grid: { left: 62, right: 24, top: legendHeight(names, width) + 6, bottom: 48 },
        legend: { data: names },
        tooltip: { formatter: ({ data, seriesName }) => (data && data.point >= 0 ? tip(seriesName, [['Predicted', formatNumber(data.value[0]) + ' nats'], ['Measured', formatNumber(data.value[1]) + ' nats']]) : '') },
        xAxis: { ...logAxis(xRange, width / 180), name: 'Predicted divergence (nats per token)', nameGap: 30 },
        yAxis: { ...logAxis(yRange, 3), name: 'Measured divergence (nats per token)', nameGap: 46 },
        series,
      };
    }, () => predictionSentence(groups), ({ data }) => { if (data && data.point >= 0) selection.select(data.point); });
  }
  makeRounds(rounds);
  return true;
}

/** What a strategy noted of its rounds, a small plot for each number. */
function makeRounds(searches) {
  const counters = ['round', 'evaluations', 'evaluation', 'points', 'archive', 'front'];
  const names = [...new Set(searches.flatMap((search) => search.rounds.names))].filter((name) => !counters.includes(name));
  const values = (search, name) => {
    const column = search.rounds.columns[search.rounds.names.indexOf(name)];
    const round = search.rounds.columns[search.rounds.names.indexOf('round')];
    return column ? column.map((value, i) => [round ? round[i] : i + 1, value]).filter((pair) => isNumber(pair[1])) : [];
  };
  const drawn = names.filter((name) => searches.some((search) => values(search, name).length > 1));
  if (drawn.length === 0) return;
  document.getElementById('rounds-figure').hidden = false;
  const holder = document.getElementById('rounds');
  drawn.forEach((name) => {
    const title = kRoundNames[name] || name;
    if (!document.getElementById('round-' + name)) {
      holder.append(element('div', { class: 'figure' }, element('div', { class: 'chart', id: 'round-' + name })));
    }
    makePlot('round-' + name, () => {
      const series = searches.map((search) => ({
        name: search.strategy, type: 'line', symbol: 'none', data: values(search, name), itemStyle: { color: strategyLook(search.strategy).color },
        lineStyle: { width: 1.4, color: strategyLook(search.strategy).color },
      }));
      return {
        grid: { left: 58, right: 12, top: 30, bottom: 42 },
        legend: { data: [...new Set(searches.map((search) => search.strategy))] },
        tooltip: { trigger: 'axis', formatter: (items) => tip('Round ' + items[0].axisValue, items.map((one) => [one.seriesName, formatNumber(one.value[1], 4)])) },
        xAxis: { type: 'value', name: 'Round', nameGap: 26, min: 'dataMin', max: 'dataMax', splitLine: { show: false } },
        yAxis: { type: 'value', name: title, nameGap: 44, scale: true, splitNumber: 4, axisLabel: { formatter: formatTick } },
        series,
      };
    }, () => title + ' by round');
  });
}
