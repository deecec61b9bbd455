// The demo page around the widget: how the server is, and a snippet that copies itself.

/** @param {string} id */
const find = (id) => /** @type {HTMLElement} */ (document.getElementById(id));

const copy = find("copy");
copy.addEventListener("click", async () => {
  const snippet = find("snippet");
  try {
    await navigator.clipboard.writeText(snippet.textContent ?? "");
    copy.textContent = "Copied";
    setTimeout(() => (copy.textContent = "Copy"), 2000);
  } catch {
    getSelection()?.selectAllChildren(snippet); // no clipboard by plain http: ready for Ctrl+C
  }
});

const WORDS = /** @type {Record<string, string>} */ ({
  ok: "All is well",
  degraded: "It serves, but somebody should look",
  unavailable: "It takes no messages at the moment",
});

/** Say how the server is; the link beside it leads to the details. */
async function showHealth() {
  const health = find("health");
  try {
    const { status } = await (await fetch("health")).json();
    health.dataset.status = String(status);
    health.textContent = WORDS[status] ?? "Unknown";
  } catch {
    health.textContent = "It can't be reached";
  }
}

void showHealth();
