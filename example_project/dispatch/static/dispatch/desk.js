// Keeps the desk's page live: asks for its state every two seconds and writes it into the page.
// Stops while the tab is hidden or the reader pauses it. All text goes in as text, never as markup.
"use strict";

const PAUSE = 2000; // milliseconds between two looks

const main = document.querySelector("main[data-state-url]");
const pause = main.querySelector("[data-pause]");

function element(tag, text, properties = {}) {
  const made = Object.assign(document.createElement(tag), properties);
  if (text !== null) made.textContent = text;
  return made;
}

function grouped(count) {
  return typeof count === "number" ? count.toLocaleString("en-GB") : count;
}

function row(...parts) {
  const item = element("li", null);
  item.append(...parts);
  return item;
}

const draw = {
  maps: (map) => {
    const item = row(element("img", null, {
      src: map.url, alt: `Airports of ${map.country}`, width: 480, height: 360,
    }));
    item.className = "panel";
    return item;
  },
  mails: (mail) => row(element("a", mail.subject, { href: mail.url }), element("span", mail.to)),
  ledger: (entry) => row(
    element("span", `${entry.flight} · ${entry.route}`),
    element("span", `€ ${entry.amount}`, { className: "money" }),
  ),
  problems: (problem) => row(element("span", `line ${problem.line}`), element("span", problem.reason)),
  failures: (failure) => row(
    element("a", `${failure.task}: ${failure.reason}`, { href: failure.url }),
    element("span", failure.error),
  ),
};

const shown = {};

function fill(name, items) {
  const fingerprint = JSON.stringify(items);
  if (shown[name] === fingerprint) return; // leaves pictures and the reader's selection alone
  shown[name] = fingerprint;
  const list = main.querySelector(`[data-list="${name}"]`);
  const children = items.map(draw[name]);
  if (!children.length) children.push(element("li", list.dataset.empty, { className: "empty" }));
  list.replaceChildren(...children);
}

function fillCounts(name, counts) {
  const entries = Object.entries(counts).map(([label, count]) => {
    const entry = element("div", null);
    entry.append(element("dt", label), element("dd", grouped(count)));
    return entry;
  });
  if (entries.length) main.querySelector(`[data-list="${name}"]`).replaceChildren(...entries);
}

function outcomesUrl(filters) {
  return `${main.dataset.outcomesUrl}?${new URLSearchParams(filters)}`;
}

function show(board) {
  fillCounts("shift", board.shift.slots);
  main.querySelector('[data-text="shift-last"]').textContent = board.shift.last || "none yet";
  if (!board.job) return;
  const { id, source, stage, request_id } = board.job;
  if (main.dataset.job !== String(id)) {
    location.reload(); // another job has begun, and its bar is the server's to draw
    return;
  }
  const line = main.querySelector('[data-text="stage"]');
  const text = `Job ${id}, ${source}: ${stage}`;
  if (line.textContent !== text) line.textContent = text;
  for (const [state, count] of Object.entries(board.states)) {
    main.querySelector(`[data-state="${state}"]`).textContent = grouped(count);
    main.querySelector(`[data-link="${state}"]`).href = outcomesUrl({ request_id, state });
  }
  const request = main.querySelector("[data-request]");
  request.hidden = false;
  Object.assign(request.querySelector("a"), { textContent: request_id, href: outcomesUrl({ request_id }) });
  fillCounts("totals", board.totals);
  for (const name of Object.keys(draw)) fill(name, board[name]);
}

async function look() {
  const connection = main.querySelector('[data-text="connection"]');
  if (!document.hidden && !pause.checked) {
    try {
      const response = await fetch(main.dataset.stateUrl);
      if (!response.ok) throw new Error(`HTTP ${response.status}`);
      show(await response.json());
      connection.textContent = "";
    } catch (error) {
      connection.textContent = `The desk does not answer (${error.message}). Trying again.`;
    }
  }
  setTimeout(look, PAUSE);
}

look();
