// Linears one by one: what the model suffers from each, and what their weights look like (MXQ's figure 2).

const kModuleColors = [
  ['#0a5fb4', '#62aef7', 'circle'], ['#3b9bc9', '#8fd3f4', 'rect'], ['#00865f', '#2fbf93', 'triangle'], ['#b98500', '#e6b73a', 'diamond'],
  ['#b2528f', '#de92c2', 'circle'], ['#7a4a2b', '#c39a7d', 'rect'], ['#d55e00', '#f08a3c', 'triangle'], ['#5b4bb0', '#a79bf0', 'diamond'],
];

/** Variables by the kinds of linears in them: [name, [[block, variable]]]. */
function variablesByKind(report) {
  const kinds = new Map();
  report.variables.forEach((variable, v) => {
    const modules = [...new Set(variable.linears.map((l) => shortModule(report, report.linears[l].module)))];
    const name = modules.length <= 3 ? modules.join(' + ') : modules.slice(0, 2).join(' + ') + ' + ' + (modules.length - 2) + ' more';
    if (!kinds.has(name)) kinds.set(name, []);
    kinds.get(name).push([report.linears[variable.linears[0]].block, v]);
  });
  return [...kinds];
}

function sensitivitySentence(report, one) {
  const known = one.values.map((value, v) => [value, v]).filter(([value]) => isNumber(value)).sort((a, b) => b[0] - a[0]);
  const middle = median(known.map(([value]) => value));
  const [top, v] = known[0];
  let text = 'Divergence when this one alone takes few bits. ' + report.variables[v].name + ' matters most: ' + formatNumber(top) + ', ' +
    formatNumber(top / middle, 2) + ' times the median.';
  if (isNumber(one.threshold)) {
    const above = known.filter(([value]) => value > one.threshold).length;
    text += ' ' + above + ' of ' + known.length + ' lie above the dashed line and are kept at many bits.';
  }
  return text;
}

function makeSensitivity(report) {
  const all = report.sensitivities.filter((one) => one.values.some(isNumber));
  if (all.length === 0) return false;
  const view = viewOf('sensitivity', { which: 0 });
  const says = () => showSection('sensitivity', sensitivitySentence(report, all[view.which]));
  says();
  const kinds = variablesByKind(report);
  const plot = makePlot('sensitivity-chart', (width) => {
    const one = all[view.which];
    const positive = one.values.every((value) => !isNumber(value) || value > 0);
    const names = kinds.map(([name]) => name);
    const series = kinds.map(([name, places], k) => {
      const [light, dark, symbol] = kModuleColors[k % kModuleColors.length];
      const color = theme.isDark() ? dark : light;
      return {
        name, type: 'line', symbol, symbolSize: report.blocks.length > 40 ? 4 : 7, itemStyle: { color }, lineStyle: { color, width: 1.4, opacity: 0.8 },
        data: places.filter(([, v]) => isNumber(one.values[v])).map(([block, v]) => ({ value: [report.blocks.indexOf(block), one.values[v]], variable: v })),
      };
    });
    if (isNumber(one.threshold)) {
      series[0].markLine = {
        silent: true, symbol: 'none', lineStyle: { type: 'dashed', color: theme.color('text'), width: 1.2 },
        label: { formatter: 'threshold ' + formatNumber(one.threshold), position: 'insideEndTop', color: theme.color('quiet'), fontSize: 12 },
        data: [{ yAxis: one.threshold }],
      };
    }
    const range = axisRange([...one.values, one.threshold], positive);
    return {
      grid: { left: 62, right: 24, top: legendHeight(names, width) + 6, bottom: 48 },
      legend: { data: names },
      tooltip: { formatter: ({ data }) => (data && data.variable >= 0 ? tip(report.variables[data.variable].name, [['Divergence', formatNumber(data.value[1]) + ' nats']]) : '') },
      xAxis: { type: 'category', data: report.blockNames, name: 'Block', nameGap: 28, splitLine: { show: false } },
      yAxis: { ...(positive ? logAxis(range, 3) : valueAxis(range)), name: 'Divergence (nats per token)', nameGap: 46 },
      series,
    };
  }, () => sensitivitySentence(report, all[view.which]));
  if (all.length > 1) makeChoice('sensitivity-by', all.map((one, i) => [i, one.strategy]), view.which, (value) => { view.which = value; says(); plot.update(); });
  return true;
}

const kPercentiles = ['0', '99', '99.9', '99.99', '100'];

function weightsSentence(report) {
  const known = report.linears.filter((linear) => isNumber(linear.kurtosis));
  const top = known.reduce((a, b) => (b.kurtosis > a.kurtosis ? b : a));
  return 'Percentiles of the weights\u2019 magnitudes (areas, left axis) and their kurtosis (line, right axis; 3 for a normal distribution): tall areas and a high kurtosis make a linear ' +
    'hard to quantize. ' + top.name + ' has the highest kurtosis, ' + formatFixed(top.kurtosis, 1) + '.';
}

function makeWeights(report) {
  const known = report.linears.filter((linear) => linear.percentiles && isNumber(linear.kurtosis));
  if (known.length === 0) return false;
  showSection('weights', weightsSentence(report));
  const holder = document.getElementById('weights-charts');
  // The same right axis everywhere, so that the lines can be compared.
  const mostKurtosis = Math.max(...known.map((linear) => linear.kurtosis)) * 1.05;
  report.modules.forEach((module, m) => {
    const linears = report.blocks.map((block) => known.find((linear) => linear.block === block && linear.module === module));
    if (linears.every((linear) => linear === undefined)) return;
    if (!document.getElementById('weights-' + m)) {
      holder.append(element('div', { class: 'figure' }, element('h3', {}, module), element('div', { class: 'chart', id: 'weights-' + m })));
    }
    makePlot('weights-' + m, () => {
      const accent = theme.isDark() ? '#62aef7' : '#0a5fb4';
      const warm = theme.isDark() ? '#f08a3c' : '#d55e00';
      const opacities = [0, 0.75, 0.5, 0.3, 0.14];
      // From the largest to the smallest, so that the smaller areas lie on top.
      const series = [4, 3, 2, 1].map((p) => ({
        name: kPercentiles[p] + ' %', type: 'line', symbol: 'none', data: linears.map((linear) => (linear ? linear.percentiles[p] : null)),
        itemStyle: { color: accent, opacity: opacities[p] }, lineStyle: { width: 1, color: accent, opacity: Math.min(1, opacities[p] + 0.25) },
        areaStyle: { color: accent, opacity: opacities[p], origin: 'start' }, z: 6 - p,
      }));
      series.push({
        name: 'kurtosis', type: 'line', yAxisIndex: 1, symbol: 'circle', symbolSize: report.blocks.length > 24 ? 3 : 5, z: 8,
        data: linears.map((linear) => (linear ? linear.kurtosis : null)), itemStyle: { color: warm }, lineStyle: { color: warm, width: 1.8 },
      });
      return {
        grid: { left: 54, right: 50, top: 30, bottom: 40 },
        legend: { data: ['99 %', '99.9 %', '99.99 %', '100 %', 'kurtosis'], itemWidth: 11, itemHeight: 9, itemGap: 7 },
        tooltip: { trigger: 'axis', formatter: (items) => tip('Block ' + items[0].axisValue, [...items].sort((a, b) => a.seriesIndex - b.seriesIndex)
          .map((one) => [one.seriesName === 'kurtosis' ? 'kurtosis' : 'percentile ' + one.seriesName, formatNumber(one.value)])) },
        xAxis: { type: 'category', data: report.blockNames, name: 'Block', nameGap: 25, boundaryGap: linears.length < 3, splitLine: { show: false } },
        yAxis: [
          { type: 'value', name: '|weight|', nameGap: 40, min: 0, splitNumber: 3, axisLabel: { formatter: formatTick } },
          { type: 'value', name: 'Kurtosis', nameGap: 34, min: 0, max: mostKurtosis, splitNumber: 3, splitLine: { show: false }, axisLabel: { formatter: formatTick, showMaxLabel: false } },
        ],
        series,
      };
    }, () => 'Percentiles of |weight| and kurtosis of ' + module + ' by block');
  });
  return true;
}
