// Numbers for people, and small helpers for markup. Nothing of the data ever becomes HTML unescaped.

const kMiB = 1024 * 1024;

function isNumber(value) {
  return typeof value === 'number' && Number.isFinite(value);
}

/** About `digits` significant digits, without an exponent where a reader expects none: 0.0123, 45.6, 12 345. */
function formatNumber(value, digits = 3) {
  if (!isNumber(value)) return '–';
  if (value === 0) return '0';
  const size = Math.abs(value);
  if (size < 1e-4) return value.toExponential(Math.max(0, digits - 2)).replace('e-', 'e−');
  const decimals = Math.max(0, digits - 1 - Math.floor(Math.log10(size)));
  return groupDigits(value.toFixed(Math.min(decimals, 8)));
}

/** On axes: no trailing zeros. */
function formatTick(value) {
  if (value === 0) return '0';
  const size = Math.abs(value);
  if (size < 1e-4 || size >= 1e6) return value.toExponential(0).replace('e-', 'e−').replace('e+', 'e');
  return groupDigits(String(Number(value.toPrecision(4))));
}

function formatFixed(value, decimals) {
  return isNumber(value) ? groupDigits(value.toFixed(decimals)) : '–';
}

/** Thin spaces between thousands. */
function groupDigits(text) {
  const [whole, fraction] = text.split('.');
  const grouped = whole.length < 5 ? whole : whole.replace(/\B(?=(\d{3})+$)/g, '\u2009');
  return fraction === undefined ? grouped : grouped + '.' + fraction;
}

function formatCount(value) {
  return groupDigits(String(Math.round(value)));
}

function formatBytes(bytes) {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let value = bytes;
  let unit = 0;
  for (; value >= 1024 && unit + 1 < units.length; ++unit) value /= 1024;
  return (unit === 0 ? String(value) : value.toFixed(2)) + '\u00a0' + units[unit];
}

function formatPercent(share, decimals = 1) {
  return isNumber(share) ? (100 * share).toFixed(decimals) + '\u00a0%' : '–';
}

function formatSeconds(seconds) {
  if (!isNumber(seconds)) return '–';
  if (seconds < 10) return seconds.toFixed(1) + ' s';
  if (seconds < 60) return Math.round(seconds) + ' s';
  if (seconds < 3600) return Math.floor(seconds / 60) + ' min ' + String(Math.round(seconds % 60)).padStart(2, '0') + ' s';
  return Math.floor(seconds / 3600) + ' h ' + String(Math.round((seconds % 3600) / 60)).padStart(2, '0') + ' min';
}

function formatP(p) {
  if (!isNumber(p)) return '–';
  return p < 0.0001 ? '<\u20090.0001' : formatNumber(p, 2);
}

/** Text as HTML; the plots' tooltips are HTML. */
function escaped(text) {
  return String(text).replace(/[&<>"']/g, (c) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' })[c]);
}

/** A tooltip: a title and rows of [name, value]. */
function tip(title, rows) {
  return '<b>' + escaped(title) + '</b>' + rows.filter((row) => row)
    .map(([name, value]) => '<div class="tip-row" style="display:flex;justify-content:space-between;gap:20px"><span style="opacity:.75">' +
      escaped(name) + '</span><span>' + escaped(value) + '</span></div>').join('');
}

/** element('td', {class: 'text'}, 'words', otherElement) */
function element(tag, attributes = {}, ...children) {
  const result = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === 'onclick') result.addEventListener('click', value);
    else if (value !== null) result.setAttribute(name, value);
  }
  result.append(...children);
  return result;
}

/** Fills a table: heads and rows are texts, elements, or {text, class}. */
function fillTable(table, heads, rows) {
  const cell = (tag, content) => (content && content.text !== undefined
    ? element(tag, { class: content.class || null, title: content.title || null }, content.text)
    : element(tag, {}, content));
  table.replaceChildren(
    element('thead', {}, element('tr', {}, ...heads.map((head) => cell('th', head)))),
    element('tbody', {}, ...rows.map((row) => element('tr', {}, ...row.map((content) => cell('td', content))))));
}

/** A row of buttons of which one is pressed. Called again it keeps the buttons that are there, and their focus. */
function makeChoice(id, options, chosen, onChange) {
  const group = document.getElementById(id);
  const press = (value) => [...group.children].forEach((button, i) => button.setAttribute('aria-pressed', String(options[i][0] === value)));
  group.choose = (value) => { press(value); onChange(value); };
  const names = JSON.stringify(options);
  if (group.names !== names) {
    group.names = names;
    group.replaceChildren(...options.map(([value, text]) => element('button', { type: 'button', onclick: () => group.choose(value) }, text)));
  }
  press(chosen);
}

const views = new Map();

/** What somebody chose in a section: the same object whenever the section is drawn, at first with these values. */
function viewOf(section, values) {
  if (!views.has(section)) views.set(section, values);
  return views.get(section);
}

/** Sets a text where it is another one: a text that stays the same stays selected. */
function setText(place, text) {
  if (place.textContent !== text) place.textContent = text;
}

/** Shows a section and the sentence that says what one sees there. */
function showSection(id, sentence) {
  const section = document.getElementById(id);
  section.hidden = false;
  setText(section.querySelector('.says'), sentence);
  return section;
}
