// Before anything is drawn: the theme that was chosen here earlier, and a place where errors are seen.
try { document.documentElement.dataset.theme = localStorage.getItem('knapsaq-theme') || ''; } catch (ignored) { /* files may have no storage */ }
window.addEventListener('error', (event) => {
  document.documentElement.dataset.error = event.message;
  const box = document.getElementById('failure');
  if (box) { box.hidden = false; box.textContent = 'The script of this page failed: ' + event.message; }
});
