// The worker: takes the host's job and commands, and answers with records (edgeseg/core/job.py, core/measurement.py).

import * as client from "/client.js";
import {Configuration} from "/configuration.js";

const KEPT_FRAMES = 16;

export class Bench {
  /**
   * @param runtimes {base, versions} of the welcome.
   * @param stepMs The clock's resolution.
   * @param seen Told of records and masks, for the page to show.
   */
  constructor(runtimes, stepMs, seen) {
    this.runtimes = runtimes;
    this.stepMs = stepMs;
    this.seen = seen;
    this.workers = new Map();
    this.pictures = new Map();
  }

  /** Carry out one order of the host; returns the records of its answer. */
  async do(order) {
    if (order.job) {
      this.stop(order.worker);
      const frames = await Promise.all(order.job.frames.map((path) => this.picture(path)));
      this.workers.set(order.worker, {items: new Map(order.job.items.map((item) => [item.key, item])), frames, ready: new Map()});
      return [this.hello];
    }
    const {command} = order, worker = this.workers.get(order.worker);
    try {
      if (!worker?.items.has(command.item)) throw new Error(`the job has no item ${command.item}`);
      return await this.carryOut(command, worker);
    } catch (error) {
      return [{kind: "failed", item: command.item, reason: String(error?.message ?? error)}];
    }
  }

  async carryOut(command, worker) {
    const item = worker.items.get(command.item);
    if (command.do === "load" || command.do === "close") {
      worker.ready.get(item.key)?.close();
      worker.ready.delete(item.key);
    }
    if (command.do === "close") return [];
    if (command.do === "load") {
      const ready = new Configuration(item, this.runtimes, this.stepMs);
      try {
        const record = await ready.load(await client.file(item.file), worker.frames);
        worker.ready.set(item.key, ready);
        this.seen.record(item, record);
        return [record];
      } catch (error) {
        ready.close();
        throw error;
      }
    }
    const ready = worker.ready.get(item.key);
    if (!ready) throw new Error(`${item.key} is not loaded`);
    if (command.do === "measure") {
      const {runs, warmups, around} = command;
      const record = await undisturbed(() => ready.call("measure", {runs, warmups, around}));
      this.seen.record(item, record);
      return [record];
    }
    const found = [];
    for (const name of command.frames) {
      const frame = await this.picture(name);
      const {record, mask} = await ready.call("mask", {name, frame});
      found.push(record);
      this.seen.mask(item, frame, mask);
    }
    return found;
  }

  /** A picture from the host: height, width, then RGB. The last ones are kept: each artifact gets the same. */
  async picture(path) {
    let found = this.pictures.get(path);
    if (!found) {
      const content = await client.file(path), head = new DataView(content);
      found = {height: head.getUint32(0, true), width: head.getUint32(4, true), pixels: new Uint8Array(content, 8)};
      this.pictures.set(path, found);
      while (this.pictures.size > KEPT_FRAMES) this.pictures.delete(this.pictures.keys().next().value);
    }
    return found;
  }

  stop(name) {
    for (const ready of this.workers.get(name)?.ready.values() ?? []) ready.close();
    this.workers.delete(name);
  }
}

/** A measurement during which the page was never hidden: a browser slows down what nobody looks at. */
async function undisturbed(measure) {
  for (;;) {
    await visible();
    let hidden = false;
    const note = () => (hidden ||= document.hidden);
    document.addEventListener("visibilitychange", note);
    const record = await measure();
    document.removeEventListener("visibilitychange", note);
    if (!hidden) return record;
  }
}

function visible() {
  if (!document.hidden) return Promise.resolve();
  return new Promise((resolve) => {
    const look = () => {
      if (document.hidden) return;
      document.removeEventListener("visibilitychange", look);
      resolve();
    };
    document.addEventListener("visibilitychange", look);
  });
}
