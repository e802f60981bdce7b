// Before anything is drawn: the theme that was chosen here earlier, and a place where errors are seen.
try { document.documentElement.dataset.theme = localStorage.getItem('knapsaq-theme') || ''; } catch (ignored) { /* files may have no storage */ }
function showFailure(message) {
  document.documentElement.dataset.error = message;
  const box = document.getElementById('failure');
  if (box) { box.hidden = false; box.textContent = 'The script of this page failed: ' + message; }
}
window.addEventListener('error', (event) => showFailure(event.message));
window.addEventListener('unhandledrejection', (event) => showFailure(String(event.reason)));
