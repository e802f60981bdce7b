// The study: strategies compared over independent runs, as the metaheuristic paper does.

function studySentence(study) {
  const sign = study.largerIsBetter ? -1 : 1;
  const best = study.groups.reduce((a, b) => (sign * b.value.median < sign * a.value.median ? b : a));
  const shown = study.tests.filter((test) => test.holm < 0.05).length;
  return 'Each strategy ran ' + best.runs + ' times with ' + formatCount(study.evaluations) + ' evaluations. ' + best.strategy + ' has the best median, ' +
    formatNumber(best.value.median, 4) + '; ' + (shown === 0 ? 'no pair differs' : shown + ' of ' + study.tests.length + ' pairs differ') +
    ' significantly (Wilcoxon rank-sum, Holm-adjusted p < 0.05).';
}

/** Mean bits of a run's weights in every block. */
function bitsByBlock(report, bits) {
  const sums = new Map(report.blocks.map((block) => [block, [0, 0]]));
  report.linears.forEach((linear, l) => {
    const variable = report.variableOf[l];
    if (variable < 0 || !isNumber(bits[variable])) return;
    const sum = sums.get(linear.block);
    sum[0] += bits[variable] * linear.parameters;
    sum[1] += linear.parameters;
  });
  return report.blocks.map((block) => sums.get(block)[0] / sums.get(block)[1]);
}

function makeStudy(report) {
  const { study } = report;
  if (!study || study.groups.length === 0) return false;
  showSection('study', studySentence(study));
  const groups = study.groups.map((group) => ({ ...group, color: () => strategyLook(group.strategy).color }));

  const chart = makePlot('study-chart', (width) => {
    const series = [];
    for (const group of groups) {
      const xs = group.band.map((_, i) => i + 1).filter((_, i) => isNumber(group.band[i][2]));
      if (xs.length === 0) continue;
      const at = (which) => xs.map((x) => group.band[x - 1][which]);
      series.push({
        name: group.strategy, type: 'line', symbol: 'none', z: 3, data: xs.map((x) => [x, group.band[x - 1][2]]), itemStyle: { color: group.color() },
        lineStyle: { width: 2.2, color: group.color() },
      });
      series.push(bandSeries(group.strategy, xs, at(1), at(3), group.color()));
    }
    const values = groups.flatMap((group) => group.band.flatMap((band) => [band[1], band[3]]));
    const range = axisRange(values, false) || [0, 1];
    const names = [...groups.map((group) => group.strategy)];
    return {
      grid: { left: 66, right: 20, top: legendHeight(names, width) + 6, bottom: 48 },
      legend: { data: names },
      tooltip: {
        trigger: 'axis', formatter: (items) => tip('After ' + items[0].axisValue + ' evaluations',
          items.filter((one) => one.seriesType === 'line').map((one) => [one.seriesName + ', median', formatNumber(one.value[1], 4)])),
      },
      xAxis: { type: 'value', name: 'Evaluations', nameGap: 30, min: 1, max: study.evaluations, splitLine: { show: false }, axisLabel: { showMinLabel: true } },
      yAxis: { type: 'value', name: 'Best ' + study.valueName, nameGap: 50, min: range[0], max: range[1], axisLabel: kInnerLabels },
      series,
    };
  }, () => 'Best value so far by evaluations: medians over runs with bands between the quartiles');

  const withBits = groups.filter((group) => group.bits.length > 0);
  if (withBits.length > 0 && report.linears.length > 0) {
    const rows = withBits.flatMap((group) => group.bits.map((bits, run) => ({ group, run, blocks: bitsByBlock(report, bits) })));
    const nominal = report.variables.flatMap((variable) => variable.levels.map((level) => level.nominal));
    const [least, most] = [Math.min(...nominal), Math.max(...nominal)];
    makePlot('study-bits', (width) => {
      const rowHeight = Math.max(5, Math.min(22, 290 / rows.length));
      return {
        height: 34 + rowHeight * rows.length + 54,
        grid: { left: 62, right: 16, top: 34, height: rowHeight * rows.length },
        visualMap: {
          type: 'continuous', dimension: 2, orient: 'horizontal', left: 'center', top: 0, min: least, max: most, calculable: false, itemWidth: 12, itemHeight: Math.min(180, width / 2.5),
          text: [most + ' bits', String(least)], inRange: { color: kBitsRamp }, textStyle: { color: theme.color('text'), fontSize: 12 },
        },
        tooltip: { formatter: ({ value }) => tip(rows[value[1]].group.strategy + ', run ' + (rows[value[1]].run + 1), [['Block ' + report.blockNames[value[0]], formatFixed(value[2], 2) + ' bits']]) },
        xAxis: { type: 'category', data: report.blockNames, name: 'Block', nameGap: 28, axisTick: { show: false }, splitLine: { show: false } },
        yAxis: {
          type: 'category', inverse: true, data: rows.map((row) => row.group.strategy), axisTick: { show: false }, splitLine: { show: false }, name: '',
          // One name for all runs of a strategy, at its middle one.
          axisLabel: { interval: (i) => rows[i].run === Math.floor(rows[i].group.bits.length / 2), hideOverlap: false },
        },
        series: [{
          type: 'heatmap', itemStyle: { borderWidth: rowHeight > 8 ? 0.5 : 0, borderColor: theme.color('card') },
          data: rows.flatMap((row, r) => row.blocks.map((bits, block) => [block, r, bits])),
        }],
      };
    }, () => 'Mean bits by block in every run\u2019s outcome');
  } else {
    document.getElementById('study-bits').parentElement.hidden = true;
  }

  const dot = (group) => element('span', {}, element('span', { class: 'dot', style: 'background:' + group.color() }), group.strategy);
  const spreadText = (spread, digits) => formatNumber(spread.mean, digits) + ' ± ' + formatNumber(spread.deviation, 2);
  const best = study.largerIsBetter ? Math.max(...groups.map((group) => group.value.median)) : Math.min(...groups.map((group) => group.value.median));
  const outcomes = () => fillTable(document.getElementById('study-table'),
    ['Model', 'Runs', { text: 'Median', title: study.valueName }, 'Mean ± deviation', 'Worst to best', 'Perplexity', 'Divergence', 'Bits per weight', 'Full passes'],
    [...groups.map((group) => {
      const ends = [group.value.minimum, group.value.maximum].map((value) => formatNumber(value, 4));
      return [dot(group), String(group.runs), { text: formatNumber(group.value.median, 4), class: group.value.median === best ? 'strong' : '' }, spreadText(group.value, 4),
        (study.largerIsBetter ? ends : ends.reverse()).join(' to '), spreadText(group.perplexity, 4), spreadText(group.divergence, 3), formatFixed(group.bitsPerWeight, 3), formatNumber(group.fullPasses)];
    }), ...study.baselines.map((one) => [one.name, '–', formatNumber(one.value, 4), '–', '–', formatFixed(one.perplexity, 2), formatNumber(one.divergence), formatFixed(one.bitsPerWeight, 3), '–'])]);
  outcomes();
  // The dots' colours are the theme's.
  chart.afterUpdate = outcomes;

  fillTable(document.getElementById('study-tests'),
    ['Pair', 'p (Wilcoxon)', 'p, Holm-adjusted', 'p (exact Mann-Whitney)', { text: 'First better', title: 'Probability that a run of the first ends better than one of the second (Vargha and Delaney)' }, { text: 'Verdict at 5 %', class: 'text' }],
    study.tests.map((test) => {
      const [a, b] = [study.groups[test.a].strategy, study.groups[test.b].strategy];
      const sure = test.holm < 0.05;
      return [a + ' – ' + b, formatP(test.p), formatP(test.holm), formatP(test.exact), formatPercent(test.aBetter, 0),
        { text: sure ? (test.aBetter > 0.5 ? a : b) + ' is better' : 'no difference shown', class: sure ? 'text strong' : 'text' }];
    }));
  return true;
}
