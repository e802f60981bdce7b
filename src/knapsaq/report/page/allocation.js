// Heat maps of allocations: block by linear, coloured by bits (MXQ's figures 6 and 7).

/** "q_proj" of "self_attn.q_proj" where no other module ends so. */
function shortModule(report, module) {
  const tail = module.slice(module.lastIndexOf('.') + 1);
  return report.modules.filter((other) => other.slice(other.lastIndexOf('.') + 1) === tail).length === 1 ? tail : module;
}

/** Schemes that some variable may take, with the bits that they take there: ascending. */
function schemesInUse(report) {
  const bits = new Map();
  for (const variable of report.variables) {
    for (const level of variable.levels) if (!bits.has(level.choice)) bits.set(level.choice, level.bits);
  }
  return [...bits].map(([choice, value]) => ({ choice, bits: value, name: shortScheme(report.menu[choice].name) })).sort((a, b) => a.bits - b.bits);
}

function bitsRange(report) {
  const schemes = schemesInUse(report);
  return schemes.length > 0 ? [schemes[0].bits, schemes[schemes.length - 1].bits] : [0, 1];
}

/** A legend of schemes where they have room, else a ramp of bits. `dimension`: of the cells' values, the bits. */
function bitsLegend(report, width, dimension) {
  const schemes = schemesInUse(report);
  const [least, most] = bitsRange(report);
  const common = { dimension, orient: 'horizontal', left: 'center', top: 0, textStyle: { color: theme.color('text'), fontSize: 12 } };
  if (dimension === 3 && schemes.reduce((sum, one) => sum + 36 + 7 * one.name.length, 0) < width) {
    return {
      ...common, type: 'piecewise', itemWidth: 14, itemHeight: 12, itemGap: 12, showLabel: true, selectedMode: false, itemSymbol: 'roundRect',
      pieces: schemes.map((one) => ({ value: one.choice, label: one.name, color: bitsColor(one.bits, least, most) })),
    };
  }
  return {
    ...common, dimension: 2, type: 'continuous', min: least, max: most, calculable: false, itemWidth: 12, itemHeight: Math.min(180, width / 2.5),
    text: [formatFixed(most, 2) + ' bits', formatFixed(least, 2)],
    inRange: { color: kBitsRamp },
  };
}

/** Room for names beside an axis, of so many pixels a letter. */
function labelWidth(names, letter) {
  return 16 + Math.ceil(letter * Math.max(8, ...names.map((name) => name.length)));
}

/** One point's heat map; `compact` for the panel, else with cell labels and each block's memory below. */
function allocationOption(report, point, width, compact) {
  const levels = report.allocation(point) || [];
  const [least, most] = bitsRange(report);
  const modules = report.modules;
  const rowHeight = compact ? 17 : 30;
  const left = labelWidth(modules.map((module) => shortModule(report, module)), compact ? 6.1 : 6.9);
  const mapHeight = rowHeight * modules.length;
  const cellWidth = (width - left - 16) / Math.max(1, report.blocks.length);
  const cells = [];
  const memory = new Array(report.blocks.length).fill(0);
  report.linears.forEach((linear, l) => {
    const variable = report.variableOf[l];
    if (variable < 0 || levels[variable] === undefined) return;
    const level = report.variables[variable].levels[levels[variable]];
    const block = report.blocks.indexOf(linear.block);
    memory[block] += (level.bits * linear.parameters) / 8;
    cells.push({
      value: [block, modules.indexOf(linear.module), level.bits, level.choice],
      linear: l,
      label: { color: inkOn(bitsColor(level.bits, least, most)), formatter: String(report.menu[level.choice].bits) },
    });
  });
  const blockLabels = report.blockNames;
  const legend = bitsLegend(report, width, 3);
  const top = 34;
  const unit = Math.max(...memory, 1) >= kMiB ? ['MiB', kMiB] : ['KiB', 1024];
  const axisX = (gridIndex, named) => ({
    type: 'category', data: blockLabels, gridIndex, name: named ? 'Block' : '', nameGap: 26, splitArea: { show: false }, splitLine: { show: false },
    axisTick: { show: false }, axisLabel: { show: named },
  });
  const option = {
    height: top + mapHeight + (compact ? 46 : 150),
    grid: [{ left, right: 16, top, height: mapHeight }],
    visualMap: { ...legend, seriesIndex: 0 },
    tooltip: {
      formatter: (params) => {
        if (params.data && params.data.linear !== undefined) {
          const linear = report.linears[params.data.linear];
          const variable = report.variables[report.variableOf[params.data.linear]];
          const level = variable.levels[levels[report.variableOf[params.data.linear]]];
          return tip(linear.name, [
            ['Scheme', report.menu[level.choice].name],
            ['Bits per weight', formatFixed(level.bits, 3)],
            ['Memory', formatBytes(Math.round((level.bits * linear.parameters) / 8))],
            isNumber(level.error) && [variable.linears.length > 1 ? 'Local error (tie group)' : 'Local error', formatNumber(level.error)],
          ]);
        }
        return tip('Block ' + blockLabels[params.dataIndex], [['Memory of its linears', formatBytes(Math.round(memory[params.dataIndex]))]]);
      },
    },
    xAxis: [axisX(0, compact)],
    yAxis: [{
      type: 'category', data: modules.map((module) => shortModule(report, module)), inverse: true, axisTick: { show: false },
      splitLine: { show: false }, axisLabel: { fontSize: compact ? 11 : 12.5, hideOverlap: false, interval: 0 }, name: compact ? '' : '',
    }],
    series: [{
      type: 'heatmap', data: cells, label: { show: cellWidth >= 16, fontSize: compact ? 10.5 : 12.5 },
      itemStyle: { borderColor: theme.color('card'), borderWidth: cellWidth > 8 ? 1.5 : 0.5 },
      emphasis: { itemStyle: { borderColor: theme.color('text'), borderWidth: 1.5 } },
    }],
  };
  if (!compact) {
    option.grid.push({ left, right: 16, top: top + mapHeight + 14, height: 90 });
    option.xAxis.push(axisX(1, true));
    option.yAxis.push({
      type: 'value', gridIndex: 1, name: 'Memory (' + unit[0] + ')', nameGap: 44, min: 0, splitNumber: 3, axisLabel: { formatter: formatTick },
    });
    option.series.push({
      type: 'bar', xAxisIndex: 1, yAxisIndex: 1, barWidth: '60%', data: memory.map((bytes) => bytes / unit[1]),
      itemStyle: { color: theme.color('accent'), opacity: 0.75 },
    });
  }
  return option;
}

/** At most so many of the front's points, evenly. */
function someOfFront(report, most) {
  const known = report.front.filter((point) => report.allocation(point) !== null);
  if (known.length <= most) return known;
  return Array.from({ length: most }, (_, i) => known[Math.round((i * (known.length - 1)) / (most - 1))]);
}

/** Mean bits of every kind of linear, or of every block, in all models of the front. */
function alongOption(report, rows, width) {
  const left = rows === 'module' ? labelWidth(report.modules.map((module) => shortModule(report, module)), 6.9) : 56;
  const front = someOfFront(report, Math.max(10, Math.min(120, Math.floor((width - left) / 5))));
  const names = rows === 'module' ? report.modules : report.blockNames;
  const rowOf = (linear) => (rows === 'module' ? report.modules.indexOf(linear.module) : report.blocks.indexOf(linear.block));
  const cells = [];
  front.forEach((point, column) => {
    const levels = report.allocation(point);
    const bits = new Array(names.length).fill(0);
    const weights = new Array(names.length).fill(0);
    report.linears.forEach((linear, l) => {
      const variable = report.variableOf[l];
      if (variable < 0) return;
      bits[rowOf(linear)] += report.variables[variable].levels[levels[variable]].bits * linear.parameters;
      weights[rowOf(linear)] += linear.parameters;
    });
    names.forEach((_, row) => { if (weights[row] > 0) cells.push({ value: [column, row, bits[row] / weights[row]], point }); });
  });
  const rowHeight = Math.max(8, Math.min(30, 330 / names.length));
  const mapHeight = rowHeight * names.length;
  return {
    height: 34 + mapHeight + 54,
    grid: { left, right: 16, top: 34, height: mapHeight },
    visualMap: bitsLegend(report, width, 2),
    tooltip: {
      formatter: ({ data }) => tip(formatFixed(report.points.bits[data.point], 3) + ' bits in all, ' + formatBytes(report.points.bytes[data.point]),
        [[(rows === 'module' ? '' : 'block ') + names[data.value[1]], formatFixed(data.value[2], 2) + ' bits']]),
    },
    xAxis: {
      type: 'category', data: front.map((point) => formatFixed(report.points.bits[point], 2)), name: 'Models of the front: average bits per weight', nameGap: 30,
      axisTick: { show: false }, splitLine: { show: false },
    },
    yAxis: {
      type: 'category', data: rows === 'module' ? names.map((module) => shortModule(report, module)) : names.map(String), inverse: true,
      axisTick: { show: false }, splitLine: { show: false }, name: rows === 'module' ? '' : 'Block', nameGap: 30,
      axisLabel: rows === 'module' ? { interval: 0, hideOverlap: false, fontSize: 12.5 } : {},
    },
    series: [{
      type: 'heatmap', data: cells, itemStyle: { borderWidth: 0 },
      emphasis: { itemStyle: { borderColor: theme.color('text'), borderWidth: 1 } },
    }],
  };
}

function allocationSentence(report, point) {
  const levels = report.allocation(point);
  const sums = new Map();
  report.linears.forEach((linear, l) => {
    const variable = report.variableOf[l];
    if (!levels || variable < 0) return;
    const sum = sums.get(linear.module) || { bits: 0, weights: 0 };
    sum.bits += report.variables[variable].levels[levels[variable]].bits * linear.parameters;
    sum.weights += linear.parameters;
    sums.set(linear.module, sum);
  });
  const order = [...sums].map(([module, sum]) => [shortModule(report, module), sum.bits / sum.weights]).sort((a, b) => b[1] - a[1]);
  if (order.length < 2) return 'Every cell is a linear; the colour is how many bits each of its weights takes.';
  const [high, low] = [order[0], order[order.length - 1]];
  if (high[1] - low[1] < 0.005) return 'Every cell is a linear; all of the selected model take the same bits.';
  return 'Every cell is a linear; the darker, the more bits. In the selected model ' + high[0] + ' gets the most (' + formatFixed(high[1], 2) +
    ' bits on average), ' + low[0] + ' the fewest (' + formatFixed(low[1], 2) + ').';
}

function makeAllocation(report) {
  if (report.front.length === 0 || report.linears.length === 0) return false;
  const title = document.getElementById('allocation-title');
  const says = (point) => {
    setText(title, 'The selected model: ' + formatFixed(report.points.bits[point], 3) + ' bits per weight, ' + formatBytes(report.points.bytes[point]));
    showSection('allocation', allocationSentence(report, point));
  };
  says(selection.point);
  const plot = makePlot('allocation-chart', (width) => allocationOption(report, selection.point, width, false),
    () => allocationSentence(report, selection.point));
  selection.onChange((point) => {
    if (report.allocation(point) === null) return;
    says(point);
    plot.update();
  });
  const few = someOfFront(report, 3).length < 2;
  document.getElementById('along-figure').hidden = few;
  if (few) return true;
  const view = viewOf('along', { rows: 'module' });
  const along = makePlot('along-chart', (width) => alongOption(report, view.rows, width),
    () => 'Mean bits of every kind of linear in the models of the front, from the smallest to the largest',
    ({ data }) => { if (data && data.point >= 0) selection.select(data.point); });
  makeChoice('along-rows', [['module', 'By linear'], ['block', 'By block']], view.rows, (value) => { view.rows = value; along.update(); });
  return true;
}
