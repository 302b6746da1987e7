// The camera demo: the background of the live picture is blurred or replaced by the chosen artifact's mask, on this device.

import {Configuration} from "/configuration.js";

const WIDTH = 640;
const BLUR_PX = 12;
const SMOOTH = 0.9;

/** Runs until `stop`. */
export class Camera {
  /**
   * @param canvas Where the picture goes.
   * @param rate Told of frames a second and milliseconds of the network with what is around it.
   */
  constructor(canvas, rate) {
    this.canvas = canvas;
    this.rate = rate;
    this.effect = "blur";
  }

  /** Open the camera. */
  async start() {
    if (!navigator.mediaDevices) throw new Error("a camera takes HTTPS, or localhost");
    this.stream = await navigator.mediaDevices.getUserMedia({video: {facingMode: "user", width: {ideal: WIDTH}}, audio: false});
    this.video = document.createElement("video");
    Object.assign(this.video, {srcObject: this.stream, muted: true, playsInline: true});
    await this.video.play();
    const {videoWidth, videoHeight} = this.video;
    this.size = {width: Math.min(WIDTH, videoWidth), height: Math.round((Math.min(WIDTH, videoWidth) * videoHeight) / videoWidth)};
    Object.assign(this.canvas, this.size);
    this.grab = layer(this.size);
    this.person = layer(this.size);
  }

  /** Load another artifact; the one before goes on until it is there. */
  async choose(item, model, runtimes) {
    const next = new Configuration(item, runtimes, 0.1);
    try {
      await next.load(model, []);
    } catch (error) {
      next.close();
      throw error;
    }
    this.ready?.close();
    this.ready = next;
  }

  /** Frame after frame. */
  async run() {
    this.running = true;
    let frameMs = 0, netMs = 0, last = performance.now();
    while (this.running) {
      if (!this.ready || document.hidden) {
        await new Promise((resolve) => setTimeout(resolve, 100));
        last = performance.now();
        continue;
      }
      this.grab.drawImage(this.video, 0, 0, this.size.width, this.size.height);
      const image = this.grab.getImageData(0, 0, this.size.width, this.size.height);
      const {mask, ms} = await this.ready.call("predict", {frame: {...this.size, pixels: image.data, step: 4}});
      this.compose(image, mask);
      await new Promise(requestAnimationFrame);
      const now = performance.now();
      frameMs = frameMs ? SMOOTH * frameMs + (1 - SMOOTH) * (now - last) : now - last;
      netMs = netMs ? SMOOTH * netMs + (1 - SMOOTH) * ms : ms;
      last = now;
      this.rate(1000 / frameMs, netMs);
    }
  }

  compose(image, mask) {
    for (let index = 0; index < mask.length; index++) if (!mask[index]) image.data[index * 4 + 3] = 0;
    this.person.putImageData(image, 0, 0);
    const to = this.canvas.getContext("2d"), {width, height} = this.size;
    if (this.effect === "blur") {
      to.filter = `blur(${BLUR_PX}px)`;
      to.drawImage(this.grab.canvas, 0, 0);
      to.filter = "none";
    } else if (this.effect === "colour") {
      to.fillStyle = "#00b140";
      to.fillRect(0, 0, width, height);
    } else {
      const sky = to.createLinearGradient(0, 0, 0, height);
      sky.addColorStop(0, "#30306e");
      sky.addColorStop(0.6, "#e0697b");
      sky.addColorStop(1, "#fbc88d");
      to.fillStyle = sky;
      to.fillRect(0, 0, width, height);
    }
    to.drawImage(this.person.canvas, 0, 0);
  }

  /** Close the camera; a kept artifact stays loaded. */
  stop(keep = false) {
    this.running = false;
    this.stream?.getTracks().forEach((track) => track.stop());
    if (keep) return;
    this.ready?.close();
    this.ready = null;
  }
}

function layer({width, height}) {
  const canvas = document.createElement("canvas");
  Object.assign(canvas, {width, height});
  return canvas.getContext("2d", {willReadFrequently: true});
}
