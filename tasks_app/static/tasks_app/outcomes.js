/*
 * Buttons that copy a text, and the one that pauses live updates: hidden where no script runs.
 *
 * Without HTTPS a browser has no clipboard for scripts; there the text is selected and copied by
 * the browser's own command.
 */
"use strict";

(() => {
  const show = (root) => {
    for (const button of root.querySelectorAll("[data-copy], [data-live-pause]")) {
      button.hidden = false;
    }
  };

  const copyBySelection = (text) => {
    const area = document.createElement("textarea");
    area.value = text;
    area.setAttribute("readonly", "");
    area.className = "visually-hidden";
    document.body.append(area);
    area.select();
    const isCopied = document.execCommand("copy");
    area.remove();
    return isCopied;
  };

  const copy = async (text) => {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      return copyBySelection(text);
    }
  };

  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copy]");
    if (button === null) {
      return;
    }
    button.textContent = (await copy(button.dataset.copy)) ? "Copied" : "Not copied";
    setTimeout(() => (button.textContent = "Copy"), 2000);
    button.focus();
  });
  document.addEventListener("tasks:fresh", (event) => show(event.target));
  show(document);
})();
