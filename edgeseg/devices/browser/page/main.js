// The page: what will be measured, Start, the live bar, results, masks, camera.

import {Bench} from "/bench.js";
import {Camera} from "/camera.js";
import * as client from "/client.js";
import {hello} from "/device.js";
import * as results from "/results.js";

const byId = (id) => document.getElementById(id);

/** What the page is doing, for style sheets and tests: loading, ready, running, done, failed. */
function state(name) {
  document.body.dataset.state = name;
}

function notice(text, bad = false) {
  Object.assign(byId("notice"), {textContent: text, hidden: !text, className: bad ? "notice bad" : "notice"});
}

function plural(count, word) {
  return `${count} ${word}${count === 1 ? "" : "s"}`;
}

function showPlan(plan, self) {
  byId("artifacts").replaceChildren(...plan.artifacts.map((one) => {
    const item = document.createElement("li"), size = document.createElement("span");
    size.textContent = `${(one.size_bytes / 1e6).toFixed(2)} MB`;
    item.append(one.name, size);
    return item;
  }));
  const pictures = plan.images ? `, masks over ${plan.images} ${plan.synthetic ? "synthetic " : ""}pictures` : "";
  byId("about").textContent = `${plan.threads.map((one) => plural(one, "thread")).join(" and ")}, ` +
    `about ${plan.budget_s < 90 ? plural(Math.round(plan.budget_s), "second") : plural(Math.round(plan.budget_s / 60), "minute")} of timing${pictures}.`;
  const {device} = self;
  const facts = [
    ["device", device.board], ["browser", device.browser], ["cores", device.cores],
    ["threads", device.isolated === "yes" ? "yes" : "one only: not cross-origin isolated"],
    ["WebGPU", device.webgpu ? device.webgpu + (device.webgpu_software === "yes" ? " (software)" : "") : "no"],
    ["clock", `steps of ${device.timer_ns / 1000} µs`],
  ];
  byId("device").replaceChildren(...facts.flatMap(([name, value]) => {
    const term = document.createElement("dt"), text = document.createElement("dd");
    term.textContent = name;
    text.textContent = value;
    return [term, text];
  }));
  byId("where").textContent = `edgeseg ${plan.edgeseg}`;
  byId("plan").hidden = false;
}

function showProgress({what, share}, started) {
  byId("doing").textContent = what[0].toUpperCase() + what.slice(1);
  byId("bar").value = share;
  const seconds = (performance.now() - started) / 1000;
  byId("left").textContent = share > 0.03 ? `about ${Math.max(1, Math.round((seconds / share) * (1 - share)))} s left` : "";
}

/** The screen stays on while it measures, where the browser lets a page ask for that. */
async function stayAwake() {
  const ask = () => navigator.wakeLock?.request("screen").catch(() => {});
  document.addEventListener("visibilitychange", () => document.hidden || document.body.dataset.state !== "running" || ask());
  await ask();
}

async function measure(plan, self, camera) {
  state("running");
  byId("plan").hidden = byId("camera").hidden = true;
  byId("progress").hidden = false;
  notice("");
  await stayAwake();
  await client.join(self);
  addEventListener("pagehide", client.wave);
  const bench = new Bench(plan.runtimes, self.device.timer_ns / 1e6, results);
  bench.hello = self;
  const started = performance.now();
  for (;;) {
    for (const order of await client.orders()) {
      if (order.show) showProgress(order.show, started);
      else if (order.stop) bench.stop(order.worker);
      else if (order.end) return finish(order, camera);
      else await client.answer(order.id, [...(await bench.do(order)), {kind: "done", item: order.command?.item ?? ""}]);
    }
  }
}

async function finish(order, camera) {
  removeEventListener("pagehide", client.wave);
  const best = results.final(order.end.rows);
  byId("progress").hidden = true;
  const failed = order.end.rows.filter((row) => row.failure).length;
  notice(failed ? `Done; ${plural(failed, "row")} could not be measured.` : "Done. The results are on the computer.", failed > 0);
  // The server ends once it is answered: what the camera needs is fetched before.
  await camera.keep(best).catch(() => {});
  state("done");
  await client.answer(order.id, []);
  client.leave();
}

function offerCamera(plan) {
  const choice = byId("camera-artifact");
  choice.replaceChildren(...plan.artifacts.map((one, index) => new Option(one.name.slice(one.name.indexOf("/") + 1), index)));
  const camera = new Camera(byId("live"), (rate, ms) => {
    byId("rate").textContent = `${rate.toFixed(1)} frames / s, ${ms.toFixed(1)} ms a mask`;
    byId("stage").dataset.live = "yes";
  });
  let kept = false;
  const load = async () => {
    if (kept) return;
    const one = plan.artifacts[choice.value];
    const item = {key: one.name, backend: one.backend, spec: one.spec, threads: 1, options: {}, slowdown: 1};
    await camera.choose(item, await client.file(one.file), plan.runtimes);
  };
  const button = byId("camera-start");
  const close = () => {
    camera.stop(kept);
    byId("stage").hidden = true;
    button.textContent = "Open the camera";
  };
  button.onclick = async () => {
    if (camera.running) return close();
    button.disabled = true;
    try {
      await camera.start();
      await load();
      byId("stage").hidden = false;
      button.textContent = "Close the camera";
      camera.run().catch((error) => {
        close();
        notice(`The camera stopped: ${error.message}`, true);
      });
    } catch (error) {
      close();
      notice(`The camera cannot be used: ${error.message}`, true);
    } finally {
      button.disabled = false;
    }
  };
  choice.onchange = () => camera.running && load().catch((error) => notice(error.message, true));
  byId("camera-effect").onchange = ({target}) => (camera.effect = target.value);
  byId("camera").hidden = !isSecureContext || !plan.artifacts.length;
  byId("start").addEventListener("click", () => camera.running && close());
  return {
    /** Load this artifact now and offer it alone: it works without the server. */
    async keep(name) {
      const index = plan.artifacts.findIndex((one) => one.name === name);
      if (index < 0 || !isSecureContext) return;
      choice.value = index;
      await load();
      kept = true;
      choice.replaceChildren(choice.selectedOptions[0]);
      byId("camera").hidden = false;
    },
  };
}

async function main() {
  const plan = await client.welcome();
  const self = await hello();
  showPlan(plan, self);
  const camera = offerCamera(plan);
  if (!isSecureContext) notice("Without HTTPS there is one thread, no WebGPU and no camera.");
  state("ready");
  const begin = () => measure(plan, self, camera).catch(fail);
  byId("start").addEventListener("click", begin, {once: true});
  if (client.joinedBefore()) begin();
}

function fail(error) {
  byId("progress").hidden = true;
  const refused = error instanceof client.Refused;
  notice(refused ? `The computer refused this page (${error.message}). Open the link again as it was printed.`
    : `The connection is lost: ${error.message}`, true);
  state("failed");
}

main().catch(fail);
