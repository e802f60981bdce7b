// What the searches cost.

function searchName(report, search) {
  const several = report.searches.filter((one) => one.strategy === search.strategy).length > 1;
  return several ? search.strategy + ', seed ' + search.seed : search.strategy;
}

function costSentence(report) {
  const real = report.searches.filter((search) => search.steps.length > 0);
  const passes = real.reduce((sum, search) => sum + search.fullPasses, 0);
  const seconds = real.reduce((sum, search) => sum + (search.seconds || 0), 0);
  return 'A full pass is the whole model over the search\u2019s ' + formatCount(report.tokens) + ' tokens; parts count by their share. All searches together asked for ' +
    formatNumber(passes) + ' passes' + (seconds > 0 ? ', which took ' + formatSeconds(seconds) : '') + '.';
}

function makeCost(report) {
  const searches = report.searches.filter((search) => search.steps.length > 0);
  if (searches.length === 0) return false;
  showSection('cost', costSentence(report));
  const phases = [...new Set(searches.flatMap((search) => search.phases.map(([name]) => name)))];
  makePlot('cost-chart', (width) => {
    const rows = [...searches].reverse();
    const names = rows.map((search) => searchName(report, search));
    const left = Math.min(width * 0.35, 24 + 7 * Math.max(...names.map((name) => name.length)));
    const top = legendHeight(phases, width);
    const colors = kModuleColors.map(([light, dark]) => (theme.isDark() ? dark : light));
    const series = phases.map((phase, p) => ({
      name: phase, type: 'bar', stack: 'passes', barMaxWidth: 20, itemStyle: { color: colors[p % colors.length] },
      data: rows.map((search) => (search.phases.find(([name]) => name === phase) || [null, 0])[1]),
    }));
    // Nothing more, at the ends of the stacks: their sums.
    series.push({
      type: 'bar', stack: 'passes', silent: true, itemStyle: { color: 'transparent' }, data: rows.map(() => 0), tooltip: { show: false },
      label: { show: true, position: 'right', color: theme.color('text'), fontSize: 12, formatter: ({ dataIndex }) => formatNumber(rows[dataIndex].fullPasses) },
    });
    return {
      height: top + 28 * rows.length + 60,
      grid: { left, right: 60, top: top + 4, bottom: 48 },
      legend: { data: phases },
      tooltip: { formatter: ({ seriesName, value, name }) => tip(name, [[seriesName, formatNumber(value) + ' full passes']]) },
      xAxis: { type: 'value', name: 'Cost (passes of the whole model over the text of the search)', nameGap: 28, axisLabel: { formatter: formatTick } },
      yAxis: { type: 'category', data: names, axisTick: { show: false }, splitLine: { show: false }, name: '', axisLabel: { interval: 0, hideOverlap: false } },
      series,
    };
  }, () => costSentence(report));
  fillTable(document.getElementById('cost-table'),
    ['Search', 'Evaluations', 'Full passes', 'Time', 'Hypervolume', 'Front', { text: 'State', class: 'text' }, { text: 'Options', class: 'text' }],
    searches.map((search) => [
      searchName(report, search), formatCount(search.steps.length), formatNumber(search.fullPasses), search.seconds > 0 ? formatSeconds(search.seconds) : '–',
      search.progress.length > 0 ? formatFixed(search.progress[search.progress.length - 1][2], 4) : '–', formatCount(search.front.length),
      { text: search.finished ? 'finished' : 'running or interrupted', class: 'text' }, { text: search.options, class: 'text' },
    ]));
  return true;
}
