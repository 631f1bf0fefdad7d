/*
 * Keeps parts of a page up to date: every element with `data-live` and an id is replaced by its
 * namesake of the same page, fetched again every `data-live` seconds.
 *
 * A hidden tab fetches nothing, nor does a page whose `[data-live-pause]` button is pressed. A part
 * stays as it is while the focus or a selection is inside it. What opened or closed stays so.
 */
"use strict";

(() => {
  const parts = () => [...document.querySelectorAll("[data-live][id]")];
  let isPaused = false;
  let timer = 0;

  const isAtWork = (part) => {
    const focused = document.activeElement;
    const selection = document.getSelection();
    return (
      part.contains(focused) ||
      (!selection.isCollapsed && part.contains(selection.anchorNode))
    );
  };

  const put = (fresh, old) => {
    const opened = new Set([...old.querySelectorAll("details[open][id]")].map((each) => each.id));
    for (const details of fresh.querySelectorAll("details[id]")) {
      details.open = opened.has(details.id);
    }
    old.replaceWith(document.adoptNode(fresh));
    fresh.dispatchEvent(new CustomEvent("tasks:fresh", { bubbles: true }));
  };

  const refresh = async () => {
    const response = await fetch(location.href, { headers: { "X-Requested-With": "live" } });
    if (!response.ok || response.redirected) {
      return;
    }
    const page = new DOMParser().parseFromString(await response.text(), "text/html");
    for (const old of parts()) {
      const fresh = page.getElementById(old.id);
      if (fresh === null || isAtWork(old)) {
        continue;
      }
      put(fresh, old);
    }
  };

  const wait = () => {
    clearTimeout(timer);
    const seconds = Math.min(...parts().map((part) => Number(part.dataset.live) || 3));
    if (!isPaused && !document.hidden && Number.isFinite(seconds)) {
      timer = setTimeout(turn, seconds * 1000);
    }
  };

  const turn = async () => {
    try {
      await refresh();
    } catch {
      // The server is away for a moment; the next turn asks again.
    }
    wait();
  };

  document.addEventListener("visibilitychange", () => (document.hidden ? clearTimeout(timer) : turn()));
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-live-pause]");
    if (button !== null) {
      isPaused = !isPaused;
      button.setAttribute("aria-pressed", String(isPaused));
      wait();
    }
  });
  wait();
})();
