// The browser's clock: how fine it is, and how to time what is shorter than twenty of its steps.

const ENOUGH = 20;

/** The smallest step that performance.now() is seen to make, in ms. */
export function resolution(looks = 40) {
  let smallest = Infinity, last = performance.now();
  for (let seen = 0; seen < looks; ) {
    const now = performance.now();
    if (now > last) {
      smallest = Math.min(smallest, now - last);
      last = now;
      seen++;
    }
  }
  return smallest;
}

/** How many runs have to be timed together, so that together they take twenty steps of the clock. */
export function batchOf(eachMs, resolutionMs) {
  return Math.max(1, Math.ceil((ENOUGH * resolutionMs) / Math.max(eachMs, resolutionMs / 1000)));
}

/** One sample in ns: the mean of `batch` consecutive runs. */
export async function sample(run, batch) {
  const started = performance.now();
  for (let index = 0; index < batch; index++) await run();
  return Math.max(0, Math.round(((performance.now() - started) * 1e6) / batch));
}
