// The page of a file: its data are in the page.

makeThemeButton();
const written = updateReport(JSON.parse(document.getElementById('data').textContent));
if (written.running) {
  const box = document.getElementById('running');
  box.hidden = false;
  box.textContent = written.count > 0 ? 'A search of this run is not finished: this is how far it is. Run knapsaq report again for the latest, or follow it with knapsaq watch.'
    : 'A search of this run has begun; nothing is measured yet. Run knapsaq report again later, or follow it with knapsaq watch.';
}
