// The result table and the masks, as they come.

const BRAND = [15, 118, 110];

const rows = new Map();
const samples = new Map();
const pictures = new Map();

const byId = (id) => document.getElementById(id);

function short(name) {
  return name.slice(name.indexOf("/") + 1);
}

function rowOf(key) {
  let row = rows.get(key);
  if (!row) {
    row = byId("rows").insertRow();
    const head = document.createElement("th");
    head.scope = "row";
    const [name, setting] = short(key).split("@");
    head.append(name);
    const small = document.createElement("small");
    small.textContent = /^\d+$/.test(setting) ? `${setting} thread${setting === "1" ? "" : "s"}` : setting;
    head.append(small);
    row.append(head);
    for (let cell = 0; cell < 4; cell++) row.insertCell().textContent = "–";
    row.dataset.key = key;
    rows.set(key, row);
    byId("results").hidden = false;
  }
  return row;
}

function median(values) {
  const sorted = [...values].sort((a, b) => a - b), middle = sorted.length >> 1;
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/** A record of the bench: the median so far. */
export function record(item, found) {
  const row = rowOf(item.key);
  if (found.kind !== "slice") return;
  const own = samples.get(item.key) ?? {infer: [], prepare: [], finish: []};
  own.infer.push(...found.infer_ns);
  own.prepare.push(...found.prepare_ns);
  own.finish.push(...found.finish_ns);
  samples.set(item.key, own);
  const milliseconds = median(own.infer) / 1e6;
  row.cells[1].textContent = digits(milliseconds);
  row.dataset.finished = "yes";
  if (own.prepare.length) {
    row.cells[2].textContent = digits(1000 / (milliseconds + (median(own.prepare) + median(own.finish)) / 1e6));
  }
}

/** The host's final rows, with what it made of the masks; returns the name of the fastest artifact. */
export function final(found) {
  let best = null;
  for (const one of found) {
    const row = rowOf(one.variant);
    if (one.failure) {
      while (row.cells.length > 1) row.deleteCell(-1);
      const cell = row.insertCell();
      cell.colSpan = 4;
      cell.className = "bad";
      cell.textContent = one.failure;
      continue;
    }
    if (one.median_ms !== null) row.cells[1].textContent = digits(one.median_ms);
    if (one.fps !== null) row.cells[2].textContent = digits(one.fps);
    if (one.miou !== null) row.cells[3].textContent = one.miou.toFixed(3);
    if (one.agreement !== null) row.cells[4].textContent = percent(one.agreement);
    if (one.median_ms !== null && (best === null || one.median_ms < best.ms)) best = {ms: one.median_ms, row};
  }
  best?.row.classList.add("best");
  return best?.row.dataset.key.split("@")[0] ?? "";
}

/** Rounded down, so that 100 means all of them. */
function percent(share) {
  return share === 1 ? "100" : (Math.floor(share * 1e4) / 100).toFixed(2);
}

function digits(value) {
  return value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2);
}

/** A mask that was just made here, beside its photo; one picture is shown, with every artifact's mask of it. */
export function mask(item, frame, classes) {
  const name = short(item.key).split("@")[0];
  if (!pictures.size) {
    byId("masks").hidden = false;
    draw("photo", frame, null);
    pictures.set("photo", frame);
  }
  if (pictures.has(name) || !same(frame, pictures.get("photo"))) return;
  pictures.set(name, frame);
  draw(name, frame, classes);
}

/** The same picture: the page may have fetched it once more for another artifact. */
function same(one, other) {
  if (one === other) return true;
  if (one.width !== other.width || one.height !== other.height) return false;
  for (let index = 0; index < one.pixels.length; index += 997) if (one.pixels[index] !== other.pixels[index]) return false;
  return true;
}

function draw(name, frame, classes) {
  const {width, height, pixels} = frame;
  const figure = document.createElement("figure"), canvas = document.createElement("canvas");
  Object.assign(canvas, {width, height});
  const image = new ImageData(width, height);
  for (let index = 0; index < width * height; index++) {
    const person = classes === null || classes[index] > 0;
    for (let channel = 0; channel < 3; channel++) {
      const value = pixels[index * 3 + channel];
      image.data[index * 4 + channel] = person ? value : value * 0.2 + BRAND[channel] * 0.8;
    }
    image.data[index * 4 + 3] = 255;
  }
  canvas.getContext("2d").putImageData(image, 0, 0);
  const caption = document.createElement("figcaption");
  caption.textContent = name;
  figure.append(canvas, caption);
  byId("gallery").append(figure);
}
