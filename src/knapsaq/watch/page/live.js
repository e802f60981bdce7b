// The page of a run, from `knapsaq watch`: asks its server once a second what the run does, loads the report's data when
// there are new ones, and draws both. A server that is gone is waited for.

const kPollMilliseconds = 1000;
const kHiddenMilliseconds = 5000;
/** Drawing takes less than a twentieth of the time: the search may run on the same machine. */
const kDrawRest = 20;

const live = {
  state: null,  // the server's latest answer
  etag: '',
  dataTag: '',  // of the data that are drawn
  report: null,
  lost: false,  // the server does not answer
  nextDraw: 0,
  timer: 0,
  polling: false,
  message: '',  // the latest answer to a button
};

const liveBy = (id) => document.getElementById('live-' + id);

// What the server is asked.

async function pollState() {
  const response = await fetch('state', {
    cache: 'no-store', headers: live.etag ? { 'If-None-Match': live.etag } : {}, signal: AbortSignal.timeout(10000),
  });
  if (response.status === 304) return;
  if (!response.ok) throw new Error('state: ' + response.status);
  const state = await response.json();
  // The server is of another version now, and so is its page.
  if (live.state && live.state.version !== state.version) location.reload();
  live.etag = response.headers.get('ETag') || '';
  live.state = state;
}

/** The data, or null where nothing is measured yet. */
async function loadData() {
  const response = await fetch('data', { cache: 'no-store', signal: AbortSignal.timeout(60000) });
  if (!response.ok) return null;
  live.dataTag = (response.headers.get('ETag') || '').replaceAll('"', '');
  return response.json();
}

function showData(data) {
  const start = performance.now();
  live.report = updateReport(data, proposedPoint);
  showBest();
  live.nextDraw = performance.now() + Math.max(kPollMilliseconds, kDrawRest * (performance.now() - start));
}

async function poll() {
  if (live.polling) return;
  live.polling = true;
  clearTimeout(live.timer);
  let data = null;
  try {
    await pollState();
    const tag = live.state.data;
    if (tag && tag !== live.dataTag && !document.hidden && performance.now() >= live.nextDraw) data = await loadData();
    live.lost = false;
  } catch (error) {
    live.lost = true;
  }
  live.polling = false;
  live.timer = setTimeout(poll, document.hidden || live.lost ? kHiddenMilliseconds : kPollMilliseconds);
  if (data) showData(data);
  showState();
}

/** Asks for an action; resolves to [worked, what the server says]. */
async function act(name, body) {
  try {
    const response = await fetch(name, { method: 'POST', headers: { 'X-Knapsaq': 'watch', 'Content-Type': 'application/json' }, body: JSON.stringify(body) });
    return [response.ok, (await response.json()).message];
  } catch (error) {
    return [false, 'The server of this page does not answer.'];
  }
}

// What is shown.

const kWords = {
  running: ['Running', ''],
  stopped: ['Stopped', 'The run was interrupted. Nothing measured is lost: the same command goes on with it.'],
  finished: ['Finished', ''],
  failed: ['Failed', ''],
  killed: ['Ended without a word', 'The process that worked on this run is gone. Nothing measured is lost: the same command goes on with it.'],
  unknown: ['Nobody at work', ''],
  lost: ['No connection', ''],
};

function messageOf(state) {
  if (live.lost) {
    return 'The server of this page does not answer: it has ended, or this machine sleeps. ' +
      (state ? 'Start it again with ' + state.command + '; this page then goes on by itself.' : '');
  }
  if (live.message) return live.message;
  if (state.problem) return 'The measurements cannot be read: ' + state.problem;
  if (state.state === 'failed') {
    const { log } = state.status;
    return log.length > 0 ? log[log.length - 1][1] : '';
  }
  if (state.state === 'unknown' && !state.archive) return 'Nothing has been done in this folder yet.';
  return kWords[state.state][1];
}

/** What the run does now: [text, share, what is behind it]. */
function workOf(status) {
  const { search, stage } = status;
  const speed = (rate, unit) => isNumber(rate) && rate > 0 && formatNumber(rate) + ' ' + unit + '/s';
  const left = (seconds) => isNumber(seconds) && 'about ' + formatSeconds(seconds) + ' left';
  if (stage && stage.total > 0) {
    const share = Math.min(1, stage.done / stage.total);
    return [stage.name, share, [formatPercent(share, 0), left(stage.left), speed(stage.rate, stage.unit), formatCount(stage.done) + ' of ' + formatCount(stage.total) + ' ' + stage.unit]];
  }
  if (search) {
    const share = search.expected > 0 ? Math.min(1, search.evaluations / search.expected) : null;
    const count = formatCount(search.evaluations) + (search.expected > 0 ? ' of about ' + formatCount(search.expected) : '') + ' evaluations';
    return ['Search: ' + search.strategy + (search.phase ? ', ' + search.phase : ''), share, [share !== null && formatPercent(share, 0), left(search.left), count]];
  }
  return null;
}

function showState() {
  const { state } = live;
  const word = live.lost ? 'lost' : state ? state.state : null;
  if (!word) return;
  document.getElementById('live').dataset.state = word;
  setText(liveBy('word'), kWords[word][0]);
  const message = messageOf(state);
  liveBy('message').hidden = !message;
  setText(liveBy('message'), message);
  const status = state && state.status;
  const running = word === 'running';
  const since = status && isNumber(status.started) && isNumber(status.updated) ? status.updated - status.started : null;
  setText(liveBy('since'), since === null ? '' : (running ? 'for ' : 'after ') + formatSeconds(since));

  const work = running && workOf(status);
  liveBy('work').hidden = !work;
  if (work) {
    const [text, share, details] = work;
    setText(liveBy('stage'), text);
    liveBy('bar').hidden = share === null;
    if (share !== null) {
      liveBy('bar').firstElementChild.style.width = (100 * share).toFixed(1) + '%';
      liveBy('bar').setAttribute('aria-valuenow', Math.round(100 * share));
    }
    setText(liveBy('left'), details.filter(Boolean).join(' · '));
  }
  const name = live.report ? live.report.model.name : state ? state.run.replace(/^.*\//, '') : '';
  document.title = (work && work[1] !== null ? formatPercent(work[1], 0) + ' ' : '') + name + ' - Knapsaq';
  if (!live.report && state) setText(document.getElementById('title'), name);

  const stop = liveBy('stop');
  stop.hidden = !(running && status.search && status.search.can_stop);
  stop.disabled = Boolean(state && state.stopping);
  setText(stop, stop.disabled ? 'Stopping after this round' : 'Stop after this round');
  showFacts(status, running);
  showLog(status ? status.log : []);
  if (state) showPicks(state);
}

function showFacts(status, running) {
  const facts = [];
  if (status) {
    const { search, memory, budget } = status;
    if (running && search) {
      facts.push([formatNumber(search.rate), 'evaluations per second']);
      facts.push([formatCount(search.evaluations), 'evaluations']);
      facts.push([formatNumber(search.full_passes), 'full passes']);
    }
    if (running) facts.push([formatBytes(memory.resident), 'of memory now']);
    facts.push([formatBytes(memory.peak), 'of memory at most']);
    if (budget) facts.push([formatBytes(budget.bytes), budget.of === 'files' ? 'budget of the files' : 'budget of the linears']);
  }
  const holder = liveBy('facts');
  holder.hidden = facts.length === 0;
  facts.forEach(([value, what], i) => {
    if (!holder.children[i]) holder.append(element('div', { class: 'tile' }, element('span', { class: 'value' }), element('span', { class: 'what' })));
    setText(holder.children[i].children[0], value);
    setText(holder.children[i].children[1], what);
  });
  while (holder.children.length > facts.length) holder.lastElementChild.remove();
}

function showLog(lines) {
  const list = liveBy('log');
  const names = JSON.stringify(lines);
  if (list.names === names) return;
  list.names = names;
  liveBy('log-figure').hidden = lines.length === 0;
  const atEnd = list.scrollTop + list.clientHeight >= list.scrollHeight - 8;
  list.replaceChildren(...lines.map(([time, text]) => element('li', {},
    element('time', {}, isNumber(time) ? new Date(1000 * time).toLocaleTimeString([], { hour12: false }) : ''), element('span', {}, text))));
  if (atEnd) list.scrollTop = list.scrollHeight;
}

// The best at the budget.

/** The measured point with the least divergence within the run's budget; -1 if there is none. */
function bestAtBudget(report) {
  const budget = live.state && live.state.status && live.state.status.budget;
  if (!budget) return -1;
  const linearBytes = (i) => {
    const levels = report.allocation(i);
    return levels ? report.variables.reduce((sum, variable, v) => sum + variable.levels[levels[v]].bytes, 0) : Infinity;
  };
  let best = -1;
  const look = (i) => {
    if (!report.isFull(i) || !isNumber(report.divergences[i]) || (best >= 0 && report.divergences[i] >= report.divergences[best])) return;
    if ((budget.of === 'files' ? report.points.bytes[i] : linearBytes(i)) <= budget.bytes) best = i;
  };
  // The front is of bits, which are the linears' bytes; the files' bytes may have another order.
  if (budget.of === 'files') for (let i = 0; i < report.count; ++i) look(i);
  else report.front.forEach(look);
  return best;
}

function proposedPoint(report) {
  const best = bestAtBudget(report);
  return best >= 0 ? best : firstPoint(report);
}

function showBest() {
  const { report } = live;
  const best = bestAtBudget(report);
  const holder = liveBy('best');
  holder.hidden = best < 0;
  if (best < 0) return;
  liveBy('best-facts').replaceChildren(...factsOf(report, best).flatMap(([name, value]) => [element('dt', {}, name), element('dd', {}, value)]));
  liveBy('show').onclick = () => {
    selection.select(best);
    document.getElementById('point').scrollIntoView({ block: 'nearest' });
  };
  const known = report.linears.length > 0 && report.allocation(best) !== null;
  liveBy('best-map').hidden = !known;
  if (known) makePlot('live-best-map', (width) => allocationOption(report, best, width, true), () => 'Bits of every linear of the best model at the budget');
}

// Buttons.

function makeStopButton() {
  liveBy('stop').addEventListener('click', async () => {
    liveBy('stop').disabled = true;
    const [worked, message] = await act('stop', {});
    live.message = worked ? '' : message;
    poll();
  });
}

/** Below the command in the panel of the selected point. */
function makeWriteForm() {
  const name = element('input', { type: 'text', id: 'live-output', 'aria-label': 'Name of the folder or file to write', placeholder: 'name to write', spellcheck: 'false', autocomplete: 'off' });
  const button = element('button', { type: 'button', id: 'live-write', class: 'small' }, 'Write');
  const where = element('p', { class: 'quiet', id: 'live-where' });
  const form = element('div', { id: 'live-form', hidden: '' }, element('div', { class: 'live-write' }, name, button), where, element('ul', { id: 'live-picks' }));
  document.querySelector('#point .command').after(form);
  const write = async () => {
    if (!name.value || button.disabled) return;
    const levels = live.report.allocation(selection.point);
    button.disabled = true;
    const [worked, message] = levels ? await act('pick', { levels: [...levels], output: name.value })
      : [false, 'The allocation of this point is not in the page: use the command.'];
    live.message = worked ? '' : message;
    if (worked) name.value = '';
    poll();
  };
  button.addEventListener('click', write);
  name.addEventListener('keydown', (event) => { if (event.key === 'Enter') write(); });
}

function showPicks(state) {
  liveBy('form').hidden = !state.canPick;
  liveBy('write').disabled = state.picks.some((one) => one.state === 'writing');
  setText(liveBy('where'), 'Writes exactly the selected model. Names are relative to ' + state.folder + '.');
  const list = liveBy('picks');
  const names = JSON.stringify(state.picks);
  if (list.names === names) return;
  list.names = names;
  const words = { writing: () => 'is being written', done: (one) => 'written, ' + formatBytes(one.bytes), failed: (one) => one.message };
  list.replaceChildren(...state.picks.map((one) => element('li', { class: one.state },
    one.state === 'failed' && one.message.startsWith(one.output) ? one.message : one.output + ': ' + words[one.state](one))));
}

makeThemeButton();
makeStopButton();
makeWriteForm();
document.addEventListener('visibilitychange', () => { if (!document.hidden) poll(); });
window.knapsaqLive = live;
poll();
