// Files of one model, whoever made them, judged on one text by the full-precision model.

const kFileMeasures = {
  mean: ['Mean KL', (file) => file.mean],
  kl99: ['99 % KL', (file) => file.kl99],
  kl999: ['99.9 % KL', (file) => file.kl999],
  flips: ['Flips', (file) => file.flips],
};

/** Whether no smaller or equal file is at least as close to the full model. */
function isBestOfItsSize(files, file) {
  return isNumber(file.mean) && files.every((other) => other === file || !isNumber(other.mean) || other.bytes > file.bytes || other.mean > file.mean);
}

function filesSentence(report) {
  const { files } = report;
  const best = files.filter((file) => isBestOfItsSize(files, file)).length;
  return files.length + (files.length === 1 ? ' file' : ' files') + ' on ' + formatCount(report.tokens) + ' tokens in ' + formatCount(report.windows) +
    ' windows. Further left is smaller, further down is closer to the full model. ' + (files.length > 1
      ? (best === files.length ? 'Each is' : best === 1 ? 'One of them is' : best + ' of them are') +
        ' closer to it than every other file of at most the same bytes (filled).' : '');
}

function fileTip(report, file) {
  const rival = file.rival === null ? null : report.files[file.rival];
  return tip(file.name, [['Size', formatBytes(file.bytes) + ', ' + formatFixed(file.bits, 3) + ' bits per weight'],
    ['Mean KL', formatNumber(file.mean, 4) + ' \u00b1 ' + formatNumber(file.standardError, 2)], ['99 % KL', formatNumber(file.kl99)],
    ['99.9 % KL', formatNumber(file.kl999)], ['Flips of the top token', formatPercent(file.flips, 2)], ['Perplexity', formatFixed(file.perplexity, 3)],
    rival && ['Beside ' + rival.name, signed(file.difference) + ' \u00b1 ' + formatNumber(file.differenceError, 2)]]);
}

function signed(value) {
  return (value > 0 ? '+' : value < 0 ? '\u2212' : '') + formatNumber(Math.abs(value));
}

function filesOption(report, view) {
  const unit = { name: 'MB', of: (bytes) => bytes / 1e6 };
  const [name, value] = kFileMeasures[view.y];
  const shown = report.files.filter((file) => isNumber(value(file)) && value(file) > 0);
  const xRange = axisRange(shown.map((file) => unit.of(file.bytes)), false) || [0, 1];
  const yRange = axisRange(shown.map(value), true) || [0.01, 1];
  const color = strategyLook('front').color;
  const best = (file) => isBestOfItsSize(report.files, file);
  // Above the line that leads to the next one.
  const item = (file) => ({
    value: [unit.of(file.bytes), value(file)], file,
    label: { position: 'top', align: labelSide(unit.of(file.bytes), xRange) === 'left' ? 'right' : 'left' },
    itemStyle: { color: best(file) ? color : theme.color('card'), borderColor: color, borderWidth: 2 },
  });
  const series = [{
    type: 'scatter', z: 5, symbol: 'circle', symbolSize: 11, data: shown.map(item),
    label: { show: true, formatter: ({ data }) => data.file.name, color: theme.color('text'), fontSize: 12, textBorderColor: theme.color('card'), textBorderWidth: 3 },
    labelLayout: { hideOverlap: true },
  }, {
    type: 'line', step: 'end', z: 3, symbol: 'none', silent: true, lineStyle: { width: 1.5, color, opacity: 0.6 },
    data: shown.filter(best).sort((a, b) => a.bytes - b.bytes).map((file) => [unit.of(file.bytes), value(file)]),
  }];
  return {
    grid: { left: 66, right: 20, top: 16, bottom: 48 },
    tooltip: { formatter: ({ data }) => (data && data.file ? fileTip(report, data.file) : '') },
    xAxis: { type: 'value', name: 'Size of the file (' + unit.name + ')', nameGap: 30, min: xRange[0], max: xRange[1], axisLabel: kInnerLabels },
    yAxis: { ...logAxis(yRange, 3), name: view.y === 'flips' ? 'Share of tokens' : name + ' (nats)', nameGap: 50 },
    series,
  };
}

function makeFiles(report) {
  const { files } = report;
  if (files.length === 0) return false;
  showSection('files', filesSentence(report));
  const view = viewOf('files', { y: 'mean' });
  const plot = makePlot('files-chart', () => filesOption(report, view), () => filesSentence(report));
  makeChoice('files-y', Object.entries(kFileMeasures).map(([key, [name]]) => [key, name]), view.y, (key) => { view.y = key; plot.update(); });
  fillTable(document.getElementById('files-table'),
    ['File', 'Bytes', 'Bits per weight', 'Mean KL', '99 % KL', '99.9 % KL', 'Flips', 'Perplexity',
      { text: 'Beside the best of at most its bytes', class: 'text', title: 'Mean difference of KL on the same tokens, with its standard error; below 0 it is closer to the full model' }],
    files.map((file) => [
      { text: file.name, class: isBestOfItsSize(files, file) ? 'text strong' : 'text' }, formatCount(file.bytes), formatFixed(file.bits, 3),
      isNumber(file.mean) ? formatNumber(file.mean, 4) + ' \u00b1 ' + formatNumber(file.standardError, 2) : 'not finite',
      formatNumber(file.kl99), formatNumber(file.kl999), formatPercent(file.flips, 2), formatFixed(file.perplexity, 3),
      { text: file.rival === null ? '' : signed(file.difference) + ' \u00b1 ' + formatNumber(file.differenceError, 2) + '  ' + files[file.rival].name, class: 'text' },
    ]).concat(isNumber(report.model.loss)
      ? [[{ text: 'reference', class: 'text' }, formatCount(report.model.bytes), '', '0', '', '', '', formatFixed(Math.exp(report.model.loss), 3), '']] : []));
  return true;
}
