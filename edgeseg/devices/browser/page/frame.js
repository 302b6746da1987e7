// One configuration (runtime, threads, accelerator) in a frame of its own, because runtimes fix both at their first load.
// The page owns the frame and speaks to it through a port: {call, ...arguments} in, {value} or {error} out.

import {batchOf, resolution, sample} from "/clock.js";
import {encode} from "/mask.js";
import {toInput, toMask} from "/preprocess.js";

const SETTLE_MS = 400;
const SETTLE_RUNS = 5;
const MOST_SETTLE_MS = 2000;

let item, session, frames, tensors, stepMs;
let turn = 0;
let eachMs = 0;
let fresh = true;

/** Load the runtime and the artifact, and run it once. */
async function load(order) {
  item = order.item;
  frames = order.frames.length ? order.frames : [{height: 48, width: 64, pixels: new Uint8Array(48 * 64 * 3)}];
  stepMs = order.stepMs;
  // The page keeps the runtime's files: a browser caches nothing behind a certificate that nobody signed.
  const fetched = order.kept, direct = self.fetch.bind(self);
  self.fetch = (what, options) => {
    const blob = fetched.get(new URL(what?.url ?? what, location.href).pathname);
    return blob ? Promise.resolve(new Response(blob, {headers: {"Content-Type": blob.type}})) : direct(what, options);
  };
  const begun = performance.now();
  const {open} = await import(`/${item.backend}.js`);
  const runtime = await open({base: order.base, threads: item.threads || 1, accelerator: item.options.accelerator});
  const imported = performance.now();
  session = await runtime.load(order.model, item.spec);
  const loaded = performance.now();
  tensors = frames.map((frame) => toInput(frame, item.spec));
  const first = await sample(infer, 1);
  eachMs = first / 1e6;
  fresh = true;
  return {
    kind: "loaded", item: item.key, runtime: order.runtime,
    import_ns: ns(imported - begun), load_ns: ns(loaded - imported), first_ns: first,
  };
}

/** One run of the network on the next frame. */
async function infer() {
  const tensor = tensors[turn++ % tensors.length];
  const started = performance.now();
  const output = await session.run(tensor);
  if (item.slowdown > 1) {
    // The twin of a self-test has to use the processor as a slower network would.
    const until = started + (performance.now() - started) * item.slowdown;
    while (performance.now() < until);
  }
  return output;
}

/** One slice of runs. WebAssembly is compiled better while it runs: after a load it is run in before anything counts. */
async function measure({runs, warmups, around}) {
  const warmup = [];
  const begun = performance.now();
  const enough = () => warmup.length >= warmups && !(fresh && unsettled(warmup.length, performance.now() - begun));
  while (!enough()) warmup.push(await sample(infer, 1));
  fresh = false;
  if (warmup.length) eachMs = (performance.now() - begun) / warmup.length;
  const batch = Math.min(batchOf(eachMs, stepMs), runs), infers = [];
  for (let count = 0; count + batch <= runs; count += batch) infers.push(await sample(infer, batch));
  eachMs = infers.reduce((sum, one) => sum + one, 0) / infers.length / 1e6;
  const prepares = [], finishes = [];
  for (let index = 0; index < around; index++) {
    const frame = frames[(turn + index) % frames.length];
    prepares.push(await whole(() => toInput(frame, item.spec)));
    const output = plane(await session.run(tensors[(turn + index) % frames.length]), item.spec);
    finishes.push(await whole(() => toMask(output, item.spec, frame.height, frame.width)));
  }
  return {
    kind: "slice", item: item.key, warmup_ns: warmup, infer_ns: infers, prepare_ns: prepares, finish_ns: finishes, batch,
  };
}

function unsettled(count, elapsedMs) {
  return elapsedMs < MOST_SETTLE_MS && (count < SETTLE_RUNS || elapsedMs < SETTLE_MS);
}

/** One sample of a step that is not asynchronous, repeated where the clock is too coarse for it. */
async function whole(step) {
  const once = await sample(step, 1);
  const batch = batchOf(once / 1e6, stepMs);
  return batch > 1 ? sample(step, Math.min(batch, 200)) : once;
}

/** The mask of a frame, as a record and as the class indices that the page draws. */
async function mask({name, frame}) {
  const found = await predict({frame});
  return {record: await encode(item.key, name, found.mask, frame.height, frame.width, item.spec), mask: found.mask};
}

/** The mask of a frame, with the time that it took. */
async function predict({frame}) {
  const started = performance.now();
  const output = await session.run(toInput(frame, item.spec));
  const found = toMask(plane(output, item.spec), item.spec, frame.height, frame.width);
  return {mask: found, ms: performance.now() - started};
}

/** The output tensor with the height and width that it really has. */
function plane({data, shape}, spec) {
  const [height, width] = {
    nchw: shape.slice(2, 4), nhwc: shape.slice(1, 3), nhw: shape.slice(-2),
  }[spec.output_kind === "labels" && shape.length === 3 ? "nhw" : spec.output_layout];
  return {data, height: Number(height), width: Number(width)};
}

function ns(ms) {
  return Math.max(0, Math.round(ms * 1e6));
}

const calls = {load, measure, mask, predict, resolution: () => resolution()};

addEventListener("message", ({data, ports, origin}) => {
  if (origin !== location.origin || data !== "begin") return;
  const [port] = ports;
  port.onmessage = async ({data: {call, ...given}}) => {
    try {
      port.postMessage({value: await calls[call](given)});
    } catch (error) {
      port.postMessage({error: String(error?.message ?? error)});
    }
  };
  port.postMessage({value: "ready"});
});
parent.postMessage("frame", location.origin);
