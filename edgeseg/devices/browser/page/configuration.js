// One configuration in its frame, seen from the page.

const kept = new Map();
const START_MS = 20_000;

/** The WebAssembly that a configuration fetches, once for all frames. */
async function runtimeFiles(item, base) {
  const threads = item.threads > 1, gpu = item.options.accelerator === "webgpu";
  const names = {
    onnx: [gpu ? "dist/ort-wasm-simd-threaded.asyncify.wasm" : "dist/ort-wasm-simd-threaded.wasm"],
    tflite: [threads ? "wasm/litert_wasm_threaded_internal.wasm" : "wasm/litert_wasm_internal.wasm"],
  }[item.backend] ?? [];
  for (const name of names) {
    const path = `${base}${item.backend}/${name}`;
    if (kept.has(path)) continue;
    const response = await fetch(path);
    if (!response.ok) throw new Error(`${path}: ${response.status}`);
    kept.set(path, await response.blob());
  }
  return kept;
}

export class Configuration {
  constructor(item, runtimes, stepMs) {
    this.item = item;
    this.runtimes = runtimes;
    this.stepMs = stepMs;
  }

  /** Make the frame, load the runtime and the artifact in it, run once; returns the record `loaded`. */
  async load(model, frames) {
    const {item} = this, threads = item.threads || 1;
    if (threads > 1 && !self.crossOriginIsolated) {
      throw new Error("this page has one thread: it is not cross-origin isolated (that takes HTTPS, or localhost)");
    }
    if (item.options.accelerator === "webgpu" && !navigator.gpu) throw new Error("this browser has no WebGPU here");
    const files = await runtimeFiles(item, this.runtimes.base);
    await this.open();
    const version = this.runtimes.versions[item.backend];
    const how = item.options.accelerator === "webgpu" ? "WebGPU" : `WebAssembly, ${threads} thread${threads > 1 ? "s" : ""}`;
    return this.call("load", {
      item, frames, stepMs: this.stepMs, base: this.runtimes.base, kept: files,
      runtime: `${version} (${how})`, model: new Uint8Array(model),
    });
  }

  open() {
    const frame = document.createElement("iframe");
    frame.src = "/frame.html";
    frame.title = this.item.key;
    frame.className = "configuration";
    this.frame = frame;
    return new Promise((resolve, reject) => {
      const late = setTimeout(() => reject(new Error("the frame did not start")), START_MS);
      const begin = ({source, data, origin}) => {
        if (source !== frame.contentWindow || data !== "frame" || origin !== location.origin) return;
        removeEventListener("message", begin);
        clearTimeout(late);
        const {port1, port2} = new MessageChannel();
        this.port = port1;
        port1.onmessage = () => resolve();
        frame.contentWindow.postMessage("begin", location.origin, [port2]);
      };
      addEventListener("message", begin);
      document.body.append(frame);
    });
  }

  /** One call into the frame; one at a time. */
  call(name, given = {}) {
    return new Promise((resolve, reject) => {
      this.port.onmessage = ({data}) => ("error" in data ? reject(new Error(data.error)) : resolve(data.value));
      this.port.postMessage({call: name, ...given});
    });
  }

  close() {
    this.port?.close();
    this.frame?.remove();
  }
}
