// Colours and the plots' common manners.

// One colour and one symbol for every strategy, the same in all plots. Hues after Okabe and Ito ("Color Universal
// Design", 2008), which people with the common colour deficiencies tell apart; lighter ones on the dark page.
const kStrategies = {
  front: { light: '#0a5fb4', dark: '#62aef7', symbol: 'circle' },
  amq: { light: '#d55e00', dark: '#f08a3c', symbol: 'triangle' },
  mxq: { light: '#00865f', dark: '#2fbf93', symbol: 'rect' },
  ga: { light: '#b2528f', dark: '#de92c2', symbol: 'circle' },
  pso: { light: '#b98500', dark: '#e6b73a', symbol: 'triangle' },
  sa: { light: '#3b9bc9', dark: '#8fd3f4', symbol: 'rect' },
  de: { light: '#7a4a2b', dark: '#c39a7d', symbol: 'diamond' },
  random: { light: '#8a9099', dark: '#7d8694', symbol: 'circle' },
  uniform: { light: '#3c424b', dark: '#c3cad4', symbol: 'diamond' },
};
const kSpare = [
  { light: '#5b4bb0', dark: '#a79bf0', symbol: 'circle' },
  { light: '#a3313f', dark: '#ee8592', symbol: 'triangle' },
];

// Few bits pale, many bits deep blue: lightness alone carries the order.
const kBitsRamp = ['#fbeeb8', '#bfe0b4', '#66bdb9', '#2f86b8', '#2b5aa8', '#2c3b8a'];

const theme = {
  isDark() {
    const chosen = document.documentElement.dataset.theme;
    if (chosen === 'dark' || chosen === 'light') return chosen === 'dark';
    return window.matchMedia('(prefers-color-scheme: dark)').matches;
  },
  color(name) {
    return getComputedStyle(document.documentElement).getPropertyValue('--' + name).trim();
  },
};

function strategyLook(strategy) {
  let look = kStrategies[strategy];
  if (!look) {
    let sum = 0;
    for (const c of strategy) sum += c.codePointAt(0);
    look = kSpare[sum % kSpare.length];
  }
  return { color: theme.isDark() ? look.dark : look.light, symbol: look.symbol };
}

/** Colour of a number of bits between the menu's least and most. */
function bitsColor(bits, least, most) {
  const at = most > least ? (Math.min(most, Math.max(least, bits)) - least) / (most - least) : 0.5;
  const x = at * (kBitsRamp.length - 1);
  const low = Math.min(kBitsRamp.length - 2, Math.floor(x));
  const part = (hex, i) => parseInt(hex.slice(1 + 2 * i, 3 + 2 * i), 16);
  const mixed = [0, 1, 2].map((i) => Math.round(part(kBitsRamp[low], i) + (x - low) * (part(kBitsRamp[low + 1], i) - part(kBitsRamp[low], i))));
  return 'rgb(' + mixed.join(',') + ')';
}

/** Dark or light letters on that colour. */
function inkOn(rgb) {
  const [r, g, b] = rgb.match(/\d+/g).map(Number);
  return 0.299 * r + 0.587 * g + 0.114 * b > 140 ? '#1d2127' : '#ffffff';
}

/** What every plot has in common; `option` of a plot is laid over it. */
function withManners(option) {
  const axis = (one) => ({
    nameLocation: 'middle',
    ...one,
    nameTextStyle: { color: theme.color('quiet'), fontSize: 12.5, ...(one.nameTextStyle || {}) },
    axisLine: { show: true, lineStyle: { color: theme.color('line') }, ...(one.axisLine || {}) },
    axisTick: { lineStyle: { color: theme.color('line') }, ...(one.axisTick || {}) },
    axisLabel: { color: theme.color('quiet'), fontSize: 12, hideOverlap: true, ...(one.axisLabel || {}) },
    splitLine: { lineStyle: { color: theme.color('grid') }, ...(one.splitLine || {}) },
    minorSplitLine: { show: false },
  });
  const all = (axes) => (Array.isArray(axes) ? axes.map(axis) : axis(axes));
  return {
    animation: false,
    textStyle: { fontFamily: getComputedStyle(document.body).fontFamily, color: theme.color('text') },
    ...option,
    xAxis: all(option.xAxis),
    yAxis: all(option.yAxis),
    legend: option.legend && {
      top: 0, left: 'center', itemWidth: 18, itemHeight: 10, itemGap: 14,
      inactiveColor: theme.color('line'), itemStyle: { opacity: 1 },
      ...option.legend,
      textStyle: { color: theme.color('text'), fontSize: 12.5 },
    },
    tooltip: {
      trigger: 'item', confine: true, backgroundColor: theme.color('card'), borderColor: theme.color('line'), borderWidth: 1,
      padding: [8, 12], textStyle: { color: theme.color('text'), fontSize: 13 },
      extraCssText: 'box-shadow:0 4px 16px rgba(0,0,0,.18);border-radius:8px;',
      ...option.tooltip,
    },
  };
}

const plots = new Map();

/** A plot under the pointer holds still for so many milliseconds after the last movement: somebody reads its numbers. */
const kHold = 8000;

/**
 * A plot in the element `id`. `makeOption(width)` is asked again whenever theme or width change and when update() is
 * called; `describe()` is what screen readers are told; `onClick` gets what ECharts tells of clicks. Called again for the
 * same element it draws the new data: at once where the plot is seen, else when it is scrolled to.
 */
function makePlot(id, makeOption, describe, onClick) {
  let plot = plots.get(id);
  const isNew = plot === undefined;
  if (isNew) {
    plot = newPlot(id);
    plots.set(id, plot);
  }
  Object.assign(plot, { makeOption, describe, onClick });
  if (isNew) plot.update();
  else plot.refresh();
  return plot;
}

function newPlot(id) {
  const holder = document.getElementById(id);
  holder.setAttribute('role', 'img');
  const chart = echarts.init(holder, null, { renderer: 'canvas' });
  const plot = { chart, width: holder.clientWidth, visible: true, stale: false, touched: -Infinity };
  plot.update = () => {
    plot.stale = false;
    const option = plot.makeOption(holder.clientWidth);
    if (option.height) {
      holder.style.height = option.height + 'px';
      delete option.height;
    }
    // What was switched off in the legend stays off.
    const before = chart.getOption();
    if (before && before.legend && before.legend[0] && option.legend) {
      option.legend.selected = { ...option.legend.selected, ...before.legend[0].selected };
    }
    chart.resize();
    chart.setOption(withManners(option), { notMerge: true });
    if (plot.describe) holder.setAttribute('aria-label', plot.describe());
    if (plot.afterUpdate) plot.afterUpdate();
  };
  plot.refresh = () => {
    plot.stale = true;
    if (plot.visible && performance.now() - plot.touched > kHold) plot.update();
  };
  chart.on('click', (params) => { if (plot.onClick) plot.onClick(params); });
  holder.addEventListener('pointermove', () => { plot.touched = performance.now(); });
  holder.addEventListener('pointerleave', () => {
    plot.touched = -Infinity;
    if (plot.stale) plot.update();
  });
  new IntersectionObserver((entries) => {
    plot.visible = entries[entries.length - 1].isIntersecting;
    if (plot.visible && plot.stale) plot.update();
  }, { rootMargin: '200px' }).observe(holder);
  new ResizeObserver(() => {
    if (holder.clientWidth === plot.width || holder.clientWidth === 0) return;
    plot.width = holder.clientWidth;
    plot.update();
  }).observe(holder);
  return plot;
}

function redrawAll() {
  for (const plot of plots.values()) plot.update();
}

function makeThemeButton() {
  const button = document.getElementById('theme');
  const show = () => { button.textContent = theme.isDark() ? 'Light' : 'Dark'; };
  button.addEventListener('click', () => {
    const next = theme.isDark() ? 'light' : 'dark';
    document.documentElement.dataset.theme = next;
    try { localStorage.setItem('knapsaq-theme', next); } catch (ignored) { /* files may have no storage */ }
    show();
    redrawAll();
  });
  window.matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => { show(); redrawAll(); });
  show();
}
