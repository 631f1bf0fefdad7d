/* Copies the text of the element that a `[data-copy]` button names, and says so on the button. */
"use strict";

(() => {
  const copy = async (button) => {
    const source = document.getElementById(button.dataset.copy);
    try {
      await navigator.clipboard.writeText(source.textContent);
      button.textContent = "Copied";
    } catch {
      // Without a secure connection there is no clipboard: the reader copies what is selected.
      document.getSelection().selectAllChildren(source);
      button.textContent = "Selected";
    }
  };

  for (const button of document.querySelectorAll("[data-copy], [data-with-script]")) {
    button.hidden = false;
  }
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-copy]");
    if (button !== null) {
      copy(button);
    }
  });
})();
