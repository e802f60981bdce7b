// What each step after the search gained in the written models: codes of the bank, corrected codes, tuning.

const kStepNames = { bank: 'codes of the search', corrected: 'corrected codes', tuned: 'tuned' };
const kStepColors = { bank: '#8a8f98', corrected: '#4c78a8', tuned: '#2a9d5c' };

function stepsSentence(report) {
  const gains = report.written.map((model) => model.steps[model.steps.length - 1].divergence / model.steps[0].divergence);
  const share = (gain) => formatPercent(1 - gain);
  return 'The bytes and schemes of a model are those that the search chose; corrected codes and tuned scales bring it closer to full precision. ' +
    (gains.length === 1 ? 'The written model\u2019s divergence on held-out text is ' + share(gains[0]) + ' below that of the codes that were searched on.'
      : 'Divergence on held-out text fell by ' + share(Math.max(...gains)) + ' to ' + share(Math.min(...gains)) + '.');
}

function makeSteps(report) {
  const models = report.written.filter((model) => model.steps.length > 1 && model.steps.every((step) => isNumber(step.divergence)));
  if (models.length === 0) return false;
  const some = { ...report, written: models };
  showSection('steps', stepsSentence(some));
  const names = ['bank', 'corrected', 'tuned'].filter((name) => models.some((model) => model.steps.some((step) => step.name === name)));
  makePlot('steps-chart', () => ({
    grid: { left: 62, right: 20, top: 38, bottom: 48 },
    legend: { data: names.map((name) => kStepNames[name]) },
    tooltip: {
      formatter: ({ data }) => (data ? tip(data.model.model, [['Step', kStepNames[data.step.name]], ['Size of the files', formatBytes(data.model.bytes)],
        [report.divergenceName, formatNumber(data.step.divergence) + ' nats'], ['Perplexity', formatFixed(data.step.perplexity, 2)]]) : ''),
    },
    xAxis: { type: 'category', data: models.map((model) => formatFixed(model.bits, 2)), name: 'Average bits per quantized weight', nameLocation: 'middle', nameGap: 30 },
    yAxis: { type: 'value', min: 0, name: report.divergenceName + ' (nats per token)', nameGap: 46 },
    series: names.map((name) => ({
      name: kStepNames[name], type: 'bar', barMaxWidth: 42, itemStyle: { color: kStepColors[name] },
      data: models.map((model) => {
        const step = model.steps.find((one) => one.name === name);
        return step ? { value: step.divergence, step, model } : '-';
      }),
    })),
  }), () => stepsSentence(some));
  fillTable(document.getElementById('steps-table'), ['Model', 'Step', 'Divergence', 'Of the search\u2019s', 'Perplexity', 'Same top token'],
    models.flatMap((model) => model.steps.map((step, i) => [
      i === 0 ? model.model + ' (' + formatBytes(model.bytes) + ', ' + model.effort + ')' : '', kStepNames[step.name] || step.name,
      formatNumber(step.divergence) + (step.standardError > 0 ? ' \u00b1 ' + formatNumber(step.standardError, 2) : ''),
      formatPercent(step.divergence / model.steps[0].divergence), formatFixed(step.perplexity, 2), formatPercent(step.agreement),
    ])));
  return true;
}
