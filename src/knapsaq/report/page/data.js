'use strict';
// The run's data as ReportData::to_json writes it, made comfortable: columns instead of records, allocations as strings
// of digits that are only read for the points somebody looks at.

const kDigits = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz-_';

/** Completes the data in their own object. */
function prepareReport(report) {
  const points = report.points;
  const count = points.bytes.length;
  report.count = count;
  report.divergences = points[report.divergence] || new Array(count).fill(null);
  report.divergenceName = report.divergence === 'kl' ? 'KL divergence' : 'Jensen-Shannon divergence';
  report.searches.forEach((search) => { search.steps = search.steps || []; });

  // Where every point's allocation begins in the string; -1 for one that was left out.
  const digits = report.variables.length * points.width;
  const dropped = new Set(points.dropped);
  const offsets = new Int32Array(count);
  for (let i = 0, next = 0; i < count; ++i) {
    offsets[i] = dropped.has(i) ? -1 : next;
    if (!dropped.has(i)) next += digits;
  }
  /** Levels of all variables, or null. */
  report.allocation = (i) => {
    if (offsets[i] < 0) return null;
    const levels = new Uint8Array(report.variables.length);
    for (let v = 0, at = offsets[i]; v < levels.length; ++v) {
      for (let k = 0; k < points.width; ++k) levels[v] = levels[v] * 64 + kDigits.indexOf(points.allocations[at++]);
    }
    return levels;
  };

  /** Tells a point apart from all others of the run, also when the run has got further and the point another index. */
  report.keyOf = (i) => (offsets[i] < 0 ? points.bytes[i] + ' bytes' : points.allocations.slice(offsets[i], offsets[i] + digits)) +
    '/' + points.windows[i];

  report.variableOf = new Int32Array(report.linears.length).fill(-1);
  report.variables.forEach((variable, v) => {
    for (const linear of variable.linears) report.variableOf[linear] = v;
    for (const level of variable.levels) {
      // Average bits per weight, metadata included.
      level.bits = (8 * level[1]) / Math.max(1, variable.parameters);
      level.choice = level[0];
      level.bytes = level[1];
      level.nominal = level[2];
      level.error = level[3];
    }
  });
  // Rows and columns of the heat maps, in the order of the forward pass.
  report.modules = [...new Set(report.linears.map((linear) => linear.module))];
  report.blocks = [...new Set(report.linears.map((linear) => linear.block))].sort((a, b) => a - b);
  // Embedding and output head are in no block.
  report.blockNames = report.blocks.map((block) => (block < 0 ? 'ends' : String(block)));

  // A point of a search belongs to the strategy that asked for it first.
  report.searchOf = new Int32Array(count).fill(-1);
  report.stepOf = new Int32Array(count).fill(-1);
  report.searches.forEach((search, s) => search.steps.forEach((point, step) => {
    if (report.searchOf[point] >= 0) return;
    report.searchOf[point] = s;
    report.stepOf[point] = step;
  }));
  report.strategies = [...new Set(report.searches.map((search) => search.strategy))];
  report.isFull = (i) => points.windows === null || points.windows[i] === report.windows;
  report.onFront = new Set(report.front);

  /** The scheme's name if all linears have the same one, else null. */
  report.uniformScheme = (i) => {
    const levels = report.allocation(i);
    if (!levels || levels.length === 0) return null;
    const choice = report.variables[0].levels[levels[0]].choice;
    return report.variables.every((variable, v) => variable.levels[levels[v]].choice === choice)
      ? report.menu[choice].name : null;
  };
  // Uniform models are the landmarks of the plots. Few points can be one: those of a uniform search, or all.
  report.uniform = [];
  for (let i = 0; i < count; ++i) {
    if (!report.isFull(i)) continue;
    const name = report.uniformScheme(i);
    if (name !== null) report.uniform.push({ point: i, name: shortScheme(name) });
  }
  return report;
}

/** "gptq:b3g128" without the method where all schemes of the menu have the same. */
function shortScheme(name) {
  return name.replace(/^[a-z0-9_]+:/, '');
}

/** Median of numbers; NaN of none. */
function median(values) {
  return quantile([...values].sort((a, b) => a - b), 0.5);
}

/** Of ascending values, linear between them. */
function quantile(sorted, share) {
  if (sorted.length === 0) return NaN;
  const at = share * (sorted.length - 1);
  const low = Math.floor(at);
  const high = Math.min(low + 1, sorted.length - 1);
  return sorted[low] + (at - low) * (sorted[high] - sorted[low]);
}

/** Ranks from 1, ties sharing their mean. */
function ranks(values) {
  const order = values.map((_, i) => i).sort((a, b) => values[a] - values[b]);
  const result = new Float64Array(values.length);
  for (let i = 0; i < order.length;) {
    let j = i;
    while (j + 1 < order.length && values[order[j + 1]] === values[order[i]]) ++j;
    for (let k = i; k <= j; ++k) result[order[k]] = (i + j) / 2 + 1;
    i = j + 1;
  }
  return result;
}

/** Spearman's rank correlation. */
function spearman(a, b) {
  const x = ranks(a);
  const y = ranks(b);
  const mean = (a.length + 1) / 2;
  let xy = 0, xx = 0, yy = 0;
  for (let i = 0; i < x.length; ++i) {
    xy += (x[i] - mean) * (y[i] - mean);
    xx += (x[i] - mean) ** 2;
    yy += (y[i] - mean) ** 2;
  }
  return xy / Math.sqrt(xx * yy);
}
