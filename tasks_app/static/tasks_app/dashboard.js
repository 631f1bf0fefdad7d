/*
 * Draws the dashboard's charts with uPlot from the page's JSON, and draws new points in place when
 * live.js has put them there. The tables beside the charts say the same without this file.
 */
"use strict";

(() => {
  const COLOURS = {
    succeeded: "good",
    failed: "bad",
    "failure rate": "bad",
    "cancelled or expired": "calm",
    p50: "busy",
    p95: "warn",
  };
  const DASHES = { "cancelled or expired": [2, 3], p95: [8, 4], failed: [12, 3] };
  const HEIGHT = 200;
  const plots = new Map();

  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  const points = () => JSON.parse(document.getElementById("dashboard-points").textContent);

  const length = (seconds) => {
    if (seconds < 1) {
      return `${Number((seconds * 1000).toPrecision(3))} ms`;
    }
    if (seconds < 120) {
      return `${Number(seconds.toPrecision(3))} s`;
    }
    return seconds < 7200 ? `${Math.round(seconds / 60)} min` : `${Number((seconds / 3600).toPrecision(3))} h`;
  };

  const written = (unit) => (value) => {
    if (value === null || value === undefined) {
      return "–";
    }
    return unit === "s" ? length(value) : `${Number(value.toPrecision(3))} ${unit}`;
  };

  const drawDeploys = (plot) => {
    const { ctx, bbox } = plot;
    ctx.save();
    ctx.strokeStyle = ctx.fillStyle = colour("--tasks-warn");
    ctx.font = `${11 * devicePixelRatio}px system-ui, sans-serif`;
    ctx.setLineDash([4, 4]);
    for (const { at, version } of points().deploys) {
      const x = plot.valToPos(at, "x", true);
      if (x < bbox.left || x > bbox.left + bbox.width) {
        continue;
      }
      ctx.beginPath();
      ctx.moveTo(x, bbox.top);
      ctx.lineTo(x, bbox.top + bbox.height);
      ctx.stroke();
      const isRight = x > bbox.left + bbox.width * 0.8;
      ctx.textAlign = isRight ? "right" : "left";
      ctx.fillText(`▲ ${version.slice(0, 10)}`, x + (isRight ? -4 : 4), bbox.top + 12 * devicePixelRatio);
    }
    ctx.restore();
  };

  const series = (line, unit) => ({
    label: line.title,
    stroke: colour(`--tasks-${COLOURS[line.title] || "busy"}`),
    width: 2,
    dash: DASHES[line.title],
    spanGaps: false,
    points: { size: 5 },
    value: (plot, value) => written(unit)(value),
  });

  const axes = (unit) => {
    const look = { stroke: colour("--body-quiet-color"), grid: { stroke: colour("--tasks-line"), width: 1 } };
    const tick = unit === "s" ? length : (value) => value.toLocaleString("en");
    const sides = { size: 72, values: (plot, ticks) => ticks.map(tick) };
    return [look, { ...look, ...sides }];
  };

  const draw = (place, data) => {
    const { unit, lines } = data.charts[place.dataset.chart];
    const options = {
      width: place.clientWidth,
      height: HEIGHT,
      tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), data.zone),
      scales: { y: { range: (plot, low, high) => [0, high > 0 ? high * 1.1 : 1] } },
      axes: axes(unit),
      series: [{ label: "From" }, ...lines.map((line) => series(line, unit))],
      hooks: { draw: [drawDeploys] },
    };
    plots.get(place)?.destroy();
    plots.set(place, new uPlot(options, values(lines, data), place));
  };

  const values = (lines, data) => [data.times, ...lines.map((line) => line.values)];

  const drawAll = () => {
    const data = points();
    document.querySelectorAll("[data-chart]").forEach((place) => draw(place, data));
  };

  const renew = () => {
    const data = points();
    for (const [place, plot] of plots) {
      plot.setData(values(data.charts[place.dataset.chart].lines, data));
    }
  };

  drawAll();
  document.addEventListener("tasks:fresh", (event) => {
    if (event.target.id === "dashboard-data") {
      renew();
    }
  });
  const size = new ResizeObserver((changes) => {
    for (const { target } of changes) {
      plots.get(target)?.setSize({ width: target.clientWidth, height: HEIGHT });
    }
  });
  plots.forEach((plot, place) => size.observe(place));
  // The admin's theme is an attribute of the document, or what the system prefers.
  new MutationObserver(drawAll).observe(document.documentElement, { attributeFilter: ["data-theme"] });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
})();
