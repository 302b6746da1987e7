"use strict";

const sections = JSON.parse(document.getElementById("data").textContent);

/* Tables: a click sorts, another turns the order round; what was not measured stays last. */
for (const table of document.querySelectorAll("table.results")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
    const direction = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
    const number = head.dataset.kind === "number";
    const body = table.tBodies[0];
    const rows = [...body.rows].sort((one, other) => {
      const [a, b] = [one, other].map(row => row.cells[column].dataset.value);
      if (a === "" || b === "") return (a === "") - (b === "");
      return direction * (number ? a - b : a.localeCompare(b));
    });
    body.append(...rows);
    heads.forEach(other => other.setAttribute("aria-sort", "none"));
    head.setAttribute("aria-sort", direction === 1 ? "ascending" : "descending");
  }));
}

/* Masks: one slider moves the border between the reference's mask and the artifact's in all pictures. */
for (const gallery of document.querySelectorAll(".gallery")) {
  const [select, slider, flips] = ["select", "input[type=range]", "input[type=checkbox]"].map(name => gallery.querySelector(name));
  const pictures = gallery.querySelector(".pictures");
  const show = () => {
    pictures.style.setProperty("--cut", slider.value + "%");
    pictures.classList.toggle("plain", !flips.checked);
    for (const figure of pictures.children) figure.hidden = figure.dataset.artifact !== select.value;
  };
  for (const control of [select, slider, flips]) control.addEventListener("input", show);
  show();
}

/* Plots. Colours tell the backends apart, shapes the precisions, so that neither is needed alone. */
const palette = ["#6c52e8", "#e0812b", "#1f9d76", "#d4477f", "#3b8fd9"];
const shapes = { fp32: "circle", fp16: "square", int8: "diamond" };
const backends = [...new Set(sections.flatMap(section => section.variants.map(one => one.backend)))].sort();
const colour = one => palette[backends.indexOf(one.backend) % palette.length];
const symbol = one => shapes[one.precision] || "cross";
const value = name => {
  const probe = document.body.appendChild(document.createElement("i"));
  probe.style.color = `var(${name})`;
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
};

function layout(x, y, more = {}) {
  const [ink, soft, line] = ["--ink", "--soft", "--line"].map(value);
  const axis = title => ({ title: { text: title }, gridcolor: line, zerolinecolor: line, linecolor: line, tickcolor: line,
    tickfont: { color: soft }, automargin: true });
  return { paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: ink, size: 12 },
    modebar: { bgcolor: "rgba(0,0,0,0)", color: soft, activecolor: ink }, margin: { l: 60, r: 20, t: 34, b: 60 }, showlegend: false,
    hoverlabel: { bgcolor: value("--card"), bordercolor: line, font: { color: ink } },
    ...more, xaxis: { ...axis(x), ...more.xaxis }, yaxis: { ...axis(y), ...more.yaxis } };
}

const config = { responsive: true, displaylogo: false, modeBarButtonsToRemove: ["select2d", "lasso2d"] };
const error = (triple, on) => ({ type: "data", symmetric: false, visible: triple[1] !== null, color: on, thickness: 1.2, width: 3,
  array: [triple[2] === null ? 0 : triple[2] - triple[0]], arrayminus: [triple[1] === null ? 0 : triple[0] - triple[1]] });

function pareto(element, variants) {
  const points = variants.filter(one => one.ms[0] !== null && one.miou[0] !== null);
  if (!points.length) return empty(element, "mIoU was not measured");
  const front = points.filter(one => one.frontier === "on").sort((a, b) => a.ms[0] - b.ms[0]);
  const traces = [{ x: front.map(one => one.ms[0]), y: front.map(one => one.miou[0]), mode: "lines", name: "frontier",
    line: { shape: "hv", color: value("--accent"), dash: "dot", width: 1.5 }, hoverinfo: "skip" }];
  for (const one of points) {
    traces.push({ x: [one.ms[0]], y: [one.miou[0]], name: one.label, mode: "markers",
      marker: { size: 11, color: colour(one), symbol: symbol(one) + (one.frontier === "off" ? "-open" : "") + (one.threads > 1 ? "-dot" : ""),
        line: { width: 1.5, color: colour(one) } },
      error_x: error(one.ms, colour(one)),
      error_y: error(one.miou, colour(one)),
      hovertemplate: `<b>${one.name}</b><br>%{x:.2f} ms [${fixed(one.ms[1], 2)} … ${fixed(one.ms[2], 2)}]<br>` +
        `mIoU %{y:.4f} [${fixed(one.miou[1], 4)} … ${fixed(one.miou[2], 4)}]<br>${one.mb.toFixed(2)} MB<extra></extra>` });
  }
  /* A hundredth of a point must not look like a difference: the axis spans half a point at least. */
  const ends = points.flatMap(one => one.miou).filter(number => number !== null);
  const [low, high] = [Math.min(...ends), Math.max(...ends)];
  const half = Math.max(0.0025, 0.55 * (high - low));
  return Plotly.react(element, traces, layout("median latency of the network, ms", "dataset mIoU",
    { yaxis: { range: [(low + high) / 2 - half, (low + high) / 2 + half] } }), config);
}

function runs(element, variants) {
  const measured = variants.filter(one => one.samples.length).reverse();
  if (!measured.length) return empty(element, "no latency was measured");
  const traces = measured.map(one => ({ type: "box", orientation: "h", x: one.samples, name: one.label, boxpoints: "all", jitter: 0.7,
    pointpos: 0, marker: { size: 2.5, opacity: 0.45, color: colour(one) }, line: { width: 1.3, color: colour(one) },
    fillcolor: "rgba(0,0,0,0)", hoveron: "boxes", hovertemplate: `<b>${one.name}</b>: %{x:.2f} ms<extra></extra>` }));
  const all = measured.flatMap(one => one.samples).sort((a, b) => a - b);
  const top = all[Math.floor(0.99 * (all.length - 1))] * 1.08;
  return Plotly.react(element, traces, layout("ms", "", { xaxis: { range: [0, top] } }), config);
}

function sustained(element, variants) {
  const traces = [];
  for (const one of variants.filter(one => one.stretches.length)) {
    const column = index => one.stretches.map(stretch => stretch[index]);
    traces.push({ x: column(0), y: column(1), name: one.label, mode: "lines+markers", line: { color: colour(one), dash: one.threads > 1 ? "dash" : "solid" },
      marker: { symbol: symbol(one) }, customdata: one.stretches,
      hovertemplate: `<b>${one.name}</b><br>minute %{x:.1f}: %{y:.2f} ms, p90 %{customdata[2]:.2f}<extra></extra>` });
    if (column(3).some(heat => heat !== null))
      traces.push({ x: column(0), y: column(3), name: one.label + " °C", yaxis: "y2", mode: "lines",
        line: { color: colour(one), dash: "dot", width: 1 }, hovertemplate: "%{y:.0f} °C<extra></extra>" });
    if (column(4).some(clock => clock !== null))
      traces.push({ x: column(0), y: column(4).map(clock => clock === null ? null : clock / 1000), name: one.label + " GHz", yaxis: "y3", mode: "lines",
        line: { color: colour(one), dash: "dashdot", width: 1 }, hovertemplate: "%{y:.2f} GHz<extra></extra>" });
  }
  /* The clock has a strip of its own below: three scales in one plot could not be read. */
  const clocked = traces.some(trace => trace.yaxis === "y3");
  return Plotly.react(element, traces, layout("minutes", "median ms", {
    yaxis2: { title: { text: "°C" }, overlaying: "y", side: "right", showgrid: false, automargin: true },
    ...(clocked && { yaxis: { domain: [0.3, 1] }, xaxis: { anchor: "y3" },
      yaxis3: { title: { text: "GHz" }, domain: [0, 0.2], rangemode: "tozero", showgrid: false, automargin: true } }),
  }), config);
}

const fixed = (number, digits) => number === null ? "–" : number.toFixed(digits);
const empty = (element, why) => { element.textContent = why; element.style.cssText = "height:auto;padding:1rem;color:var(--soft)"; };

/* One key for all plots, in place of a legend in each. */
function key(element, variants) {
  const marks = { circle: "●", square: "■", diamond: "◆", cross: "✚" };
  const parts = [...new Set(variants.map(one => one.backend))].sort().map(name => {
    const part = document.createElement("span");
    part.textContent = name;
    part.style.setProperty("--dot", palette[backends.indexOf(name) % palette.length]);
    part.className = "dot";
    return part;
  });
  const words = [...new Set(variants.map(one => one.precision))].sort().map(name => `${marks[shapes[name] || "cross"]} ${name}`);
  words.push("filled: on the frontier, or could be");
  if (variants.some(one => one.threads > 1)) words.push("with a dot, dashed: several threads");
  element.replaceChildren(...parts, words.join(" · "));
}

function draw() {
  sections.forEach((section, index) => {
    key(document.getElementById(`key-${index}`), section.variants);
    for (const [name, plot] of [["pareto", pareto], ["runs", runs], ["sustained", sustained]]) {
      const element = document.getElementById(`${name}-${index}`);
      if (element) plot(element, section.variants);
    }
  });
}

async function start() {
  const packed = Uint8Array.from(atob(document.getElementById("plotly").textContent), letter => letter.charCodeAt(0));
  const source = await new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"))).blob();
  const script = document.createElement("script");
  script.src = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
  await new Promise((done, failed) => { script.onload = done; script.onerror = failed; document.head.append(script); });
  draw();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  document.documentElement.dataset.ready = "yes";
}

start().catch(reason => {
  for (const element of document.querySelectorAll(".plot")) empty(element, `This browser cannot draw the plots: ${reason}`);
});
