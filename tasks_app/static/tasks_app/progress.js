/*
 * Keeps the bars of {% task_progress %} up to date until their outcomes are final.
 *
 * Server-sent events are read with fetch, not with EventSource: that sends no headers, and a token in
 * an address gets into logs. A bar polls instead where events do not come: after an error, where the
 * server answers with JSON, and beyond the first bars of a page, since a browser keeps few
 * connections to a server. A hidden tab asks nothing.
 *
 * Each change is told as the event "tasks:progress", the end as "tasks:final"; `detail` is the status.
 */
"use strict";

(() => {
  const STREAMS = 2; // of one page
  const SHORTEST = 1000; // milliseconds between two looks
  const LONGEST = 30000; // milliseconds between two looks at a server that does not answer
  const bars = new Set();
  let streams = 0;

  class Gone extends Error {}

  class Bar {
    constructor(root) {
      this.root = root;
      this.version = root.dataset.taskVersion;
      this.polls = false;
      this.pause = SHORTEST;
      this.timer = 0;
      this.asked = null;
      root.querySelector("form")?.addEventListener("submit", (event) => this.cancel(event));
    }

    get isFinal() {
      return ["succeeded", "failed", "cancelled", "expired"].includes(this.root.dataset.taskState);
    }

    headers(more) {
      const token = this.root.dataset.taskToken;
      return token ? { ...more, Authorization: `Bearer ${token}` } : more;
    }

    // Looking

    go() {
      this.stop();
      if (!this.isFinal && !document.hidden && this.root.isConnected) {
        this.look();
      }
    }

    stop() {
      clearTimeout(this.timer);
      this.asked?.abort();
      this.asked = null;
    }

    async look() {
      const asked = new AbortController();
      this.asked = asked;
      const streaming = !this.polls && streams < STREAMS;
      streams += streaming;
      try {
        await (streaming ? this.listen(asked.signal) : this.poll(asked.signal));
      } catch (error) {
        if (error instanceof Gone || asked.signal.aborted) {
          return;
        }
        this.polls = true;
        this.pause = Math.min(this.pause * 2, LONGEST);
      } finally {
        streams -= streaming;
      }
      if (this.asked === asked) {
        this.timer = setTimeout(() => this.go(), this.pause);
      }
    }

    async ask(address, headers, signal) {
      const response = await fetch(address, {
        headers: this.headers(headers), signal, cache: "no-store", credentials: "same-origin",
      });
      if (response.status === 204 || response.status === 404) {
        throw new Gone(); // told to the end already, or not ours to see any more
      }
      if (!response.ok) {
        throw new Error(`HTTP ${response.status}`);
      }
      return response;
    }

    async poll(signal) {
      const response = await this.ask(this.root.dataset.taskStatus, { Accept: "application/json" }, signal);
      await this.read(response);
    }

    async read(response) {
      this.pause = Math.max((Number(response.headers.get("Retry-After")) || 0) * 1000, SHORTEST);
      this.show(await response.json());
    }

    async listen(signal) {
      const wanted = { Accept: "text/event-stream", "Last-Event-ID": this.version };
      const response = await this.ask(this.root.dataset.taskEvents, wanted, signal);
      if (!(response.headers.get("Content-Type") ?? "").startsWith("text/event-stream")) {
        this.polls = true;
        await this.read(response);
        return;
      }
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      let rest = "";
      for (let part = await reader.read(); !part.done; part = await reader.read()) {
        const blocks = (rest + part.value).split("\n\n");
        rest = blocks.pop();
        blocks.forEach((block) => this.take(block));
      }
    }

    take(block) {
      const fields = new Map(block.split("\n").map((line) => {
        const end = line.indexOf(":");
        return [line.slice(0, end), line.slice(end + 1).trim()];
      }));
      this.pause = Number(fields.get("retry")) || this.pause;
      this.version = fields.get("id") ?? this.version;
      if (fields.has("data")) {
        this.show(JSON.parse(fields.get("data")));
      }
    }

    // Showing

    show(status) {
      const { root } = this;
      if (this.isFinal) {
        return; // the answer to a cancellation came first
      }
      const part = (name) => root.querySelector(`.tasks-progress-${name}`);
      const before = [root.dataset.taskState, root.dataset.taskQuarter].join();
      root.dataset.taskState = status.state;
      root.dataset.taskQuarter = status.share === null ? "" : Math.floor(status.share * 4);
      if (status.share === null) {
        part("bar").removeAttribute("value");
      } else {
        part("bar").value = status.share;
      }
      part("text").textContent = status.text;
      if ([root.dataset.taskState, root.dataset.taskQuarter].join() !== before) {
        part("said").textContent = `${root.getAttribute("aria-label")}: ${status.text}`;
      }
      this.tell("tasks:progress", status);
      if (status.is_final) {
        part("cancel")?.remove();
        this.tell("tasks:final", status);
      }
    }

    tell(name, detail) {
      this.root.dispatchEvent(new CustomEvent(name, { bubbles: true, detail }));
    }

    async cancel(event) {
      event.preventDefault();
      const form = event.target;
      const button = form.querySelector("button");
      button.disabled = true;
      try {
        const response = await fetch(form.action, {
          method: "POST", body: new FormData(form), headers: this.headers({ Accept: "application/json" }),
        });
        if (!response.ok && response.status !== 409) {
          throw new Error(`HTTP ${response.status}`);
        }
        const status = await response.json();
        this.show(status);
        this.root.querySelector(".tasks-progress-said").textContent = status.refusal ?? status.text;
      } catch {
        button.disabled = false;
        this.root.querySelector(".tasks-progress-text").textContent = "It could not be cancelled. Try again.";
      }
    }
  }

  const start = (root) => {
    for (const bar of bars) {
      if (!bar.root.isConnected) {
        bar.stop();
        bars.delete(bar);
      }
    }
    const known = new Set([...bars].map((bar) => bar.root));
    for (const found of root.querySelectorAll("[data-task-progress]")) {
      if (!known.has(found)) {
        const bar = new Bar(found);
        bars.add(bar);
        bar.go();
      }
    }
  };

  if (window.tasksProgress) {
    return; // linked twice
  }
  window.tasksProgress = { start };
  document.addEventListener("visibilitychange", () => {
    bars.forEach((bar) => (document.hidden ? bar.stop() : bar.go()));
  });
  document.addEventListener("tasks:fresh", () => start(document));
  start(document);
})();
