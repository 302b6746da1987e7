// What this device says of itself: the record `hello`, as the host's other workers say it.

import {resolution} from "/clock.js";

export async function hello() {
  const agent = await agentData();
  const stepMs = resolution();
  const gpu = await adapter();
  const device = {
    board: agent.model || guessModel(),
    cpu: agent.architecture ? `${agent.architecture} ${agent.bitness ?? ""}`.trim() : guessMachine(),
    cores: String(navigator.hardwareConcurrency ?? 1),
    system: agent.system || guessSystem(),
    machine: agent.architecture || guessMachine(),
    browser: agent.browser || guessBrowser(),
    id: identity(),
    screen: `${screen.width}x${screen.height}@${devicePixelRatio}`,
    secure: isSecureContext ? "yes" : "no",
    isolated: self.crossOriginIsolated ? "yes" : "no",
    timer_ns: String(Math.round(stepMs * 1e6)),
    webgpu: gpu.name,
    webgpu_software: gpu.software ? "yes" : "no",
  };
  if (navigator.deviceMemory) device.memory_bytes = String(navigator.deviceMemory * 2 ** 30);
  const power = await battery();
  if (power) device.battery = power;
  return {kind: "hello", schema_version: 1, device, software: {browser: device.browser}};
}

/** Four signs that this browser keeps, so that the results of the next run are known to be of the same device. */
function identity() {
  const fresh = () => Array.from(crypto.getRandomValues(new Uint8Array(2)), (one) => one.toString(16).padStart(2, "0")).join("");
  try {
    const known = localStorage.getItem("edgeseg-device") ?? fresh();
    localStorage.setItem("edgeseg-device", known);
    return known;
  } catch {
    return fresh();
  }
}

async function agentData() {
  const data = navigator.userAgentData;
  if (!data) return {};
  const wanted = ["model", "platformVersion", "architecture", "bitness", "fullVersionList"];
  const found = await data.getHighEntropyValues(wanted).catch(() => ({}));
  const brands = (found.fullVersionList ?? data.brands).filter((one) => !/not.?a.?brand/i.test(one.brand));
  const brand = brands.find((one) => one.brand !== "Chromium") ?? brands[0];
  return {
    ...found,
    system: `${data.platform} ${found.platformVersion ?? ""}`.trim(),
    browser: brand ? `${brand.brand} ${brand.version}` : "",
  };
}

async function adapter() {
  if (!navigator.gpu) return {name: "", software: false};
  const found = await navigator.gpu.requestAdapter({powerPreference: "high-performance"}).catch(() => null);
  if (!found) return {name: "", software: false};
  const {vendor = "", architecture = "", description = ""} = found.info ?? {};
  const name = description || `${vendor} ${architecture}`.trim() || "unnamed";
  const software = Boolean(found.info?.isFallbackAdapter ?? found.isFallbackAdapter) || /swiftshader|llvmpipe/i.test(`${name} ${architecture}`);
  return {name, software};
}

async function battery() {
  const found = await navigator.getBattery?.().catch(() => null);
  return found ? `${Math.round(found.level * 100)} %${found.charging ? ", charging" : ""}` : "";
}

function guessModel() {
  const agent = navigator.userAgent;
  if (/iPhone/.test(agent)) return "iPhone";
  if (/iPad/.test(agent) || (/Macintosh/.test(agent) && navigator.maxTouchPoints > 1)) return "iPad";
  return /Android[^;]*; ([^;)]+?)(?: Build|\))/.exec(agent)?.[1] ?? `${guessSystem().split(" ")[0]} ${guessBrowser().split(" ")[0]}`;
}

function guessSystem() {
  const agent = navigator.userAgent;
  return (
    /Android [\d.]+/.exec(agent)?.[0] ??
    /(?:iPhone )?OS ([\d_]+) like Mac/.exec(agent)?.[0].replace(/_/g, ".").replace(" like Mac", "") ??
    /Windows NT [\d.]+|Mac OS X|CrOS|Linux/.exec(agent)?.[0] ?? "unknown"
  );
}

function guessMachine() {
  return /x86_64|Win64|aarch64|armv\d\w*|arm64/i.exec(navigator.userAgent)?.[0] ?? "unknown";
}

function guessBrowser() {
  const agent = navigator.userAgent;
  const found = /(Firefox|Edg|OPR|CriOS|FxiOS|Chrome)\/([\d.]+)/.exec(agent) ?? /(Version)\/([\d.]+).*Safari/.exec(agent);
  return found ? `${found[1] === "Version" ? "Safari" : found[1]} ${found[2]}` : "unknown";
}
