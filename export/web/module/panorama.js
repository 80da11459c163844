// <dinn360-panorama src="lr.png" model="up.onnx"></dinn360-panorama>: a small picture, sharpened where somebody looks.
import { Viewer } from "@photo-sphere-viewer/core";
import { Vector3 } from "three";
import { Tiles, TilesAdapter } from "./adapter.js";
import { checkRecord, loadGraph, loadModel, loadPicture, Problem } from "./picture.js";
import { Grid, visible } from "./tiles.js";

const SIDE = 48; // LR pixels of a tile
const MEMORY = 96; // MiB of decoded tiles
const NAMES = { webgpu: "WebGPU", wasm: "WebAssembly" };

/**
 * Attributes: src (an LR picture), model (a graph of `python -m export web`), yaw, pitch (degrees), fov (vertical,
 * degrees), memory (MiB of decoded tiles), backend ("webgpu" or "wasm": only this one).
 * Properties: state ("loading", "bicubic", "sharp", "failed"), backend, decoded (tiles so far), held (tiles now),
 * bytes (of the tile store), milliseconds (of the last tile). Events: "state" after each change.
 */
export class Dinn360Panorama extends HTMLElement {
  #worker;
  #viewer;
  #tiles;
  #waiting = 0;
  #status;
  #timer;
  state = "loading";
  backend = "";
  decoded = 0;
  milliseconds = NaN;

  get held() {
    return this.#tiles?.held.size ?? 0;
  }

  get bytes() {
    return this.#tiles?.bytes ?? 0;
  }

  async connectedCallback() {
    this.style.display ||= "block";
    this.style.position ||= "relative";
    this.#status = document.createElement("output");
    this.#status.style.cssText =
      "position:absolute;left:8px;top:8px;z-index:100;padding:2px 8px;border-radius:4px;pointer-events:none;" +
      "background:#000a;color:#fff;font:13px/1.5 system-ui,sans-serif";
    this.append(this.#status);
    try {
      await this.#open();
    } catch (error) {
      this.#fail(error instanceof Problem ? error.message : `the panorama cannot be shown: ${error?.message ?? error}`);
    }
  }

  disconnectedCallback() {
    clearTimeout(this.#timer);
    this.#worker?.terminate();
    this.#viewer?.destroy();
    this.replaceChildren();
  }

  /** The view as it is drawn now: a PNG as a data URL. */
  capture() {
    const { renderer, scene, camera } = this.#viewer.renderer;
    renderer.render(scene, camera);
    return renderer.domElement.toDataURL("image/png");
  }

  /** Looks at yaw and pitch, in degrees, with this vertical field of view. */
  look(yaw, pitch, fov = undefined) {
    this.#viewer.rotate({ yaw: (yaw * Math.PI) / 180, pitch: (pitch * Math.PI) / 180 });
    if (fov !== undefined) this.#viewer.zoom(this.#viewer.dataHelper.fovToZoomLevel(fov));
    this.#ask();
  }

  /** What is looked at: yaw and pitch in degrees, the horizontal field of view, and the size in pixels. */
  get view() {
    const { yaw, pitch } = this.#viewer.getPosition();
    const camera = this.#viewer.renderer.camera;
    const { width, height } = this.#viewer.renderer.renderer.domElement;
    const half = Math.tan((camera.fov * Math.PI) / 360) * camera.aspect;
    const degrees = (angle) => (angle * 180) / Math.PI;
    return { yaw: degrees(yaw), pitch: degrees(pitch), fov: 2 * degrees(Math.atan(half)), width, height };
  }

  async #open() {
    const src = this.#needed("src"), url = this.#needed("model");
    const shown = loadPicture(src).then((picture) => [picture]);
    const [model, [picture]] = await Promise.all([
      loadModel(url).catch((error) => shown.then(([lr]) => this.#show(lr, null)).then(() => Promise.reject(error))),
      shown,
    ]);
    this.#show(picture, model);
    const note = checkRecord(src, picture, model);
    this.#say(note ? "bicubic" : "bicubic", note || "loading the model …");
    const graph = await loadGraph(url);
    this.#worker = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
    this.#worker.onmessage = ({ data }) => this.#receive(data, note);
    this.#worker.onerror = (event) => this.#fail(`the worker cannot be started: ${event.message ?? "no reason given"}`);
    const only = this.getAttribute("backend");
    this.#worker.postMessage({
      open: {
        graph, model, picture: picture.pixels, coarseness: picture.coarseness, grid: this.#shape(picture, model),
        backends: only ? [only] : ["webgpu", "wasm"],
        runtimes: { webgpu: import.meta.resolve("onnxruntime-web/webgpu"), wasm: import.meta.resolve("onnxruntime-web/wasm") },
      },
    });
  }

  #needed(name) {
    const value = this.getAttribute(name);
    if (!value) throw new Problem(`dinn360-panorama: expected the attribute ${name}, found none`);
    return value;
  }

  #shape(picture, model) {
    return [picture.height, picture.width, SIDE, model?.halo ?? 0, model?.align ?? 1, model?.extension ?? 1];
  }

  /** The LR picture at once, bicubic; without a model it stays so. */
  #show(picture, model) {
    const scale = model?.scale ?? 1;
    const grid = new Grid(...this.#shape(picture, model));
    const record = picture.record;
    const fits = record && record.scale === scale && Math.ceil(record.width / scale) === picture.width && Math.ceil(record.height / scale) === picture.height;
    const size = fits ? [record.width, record.height] : [scale * picture.width, scale * picture.height];
    const one = 4 * scale * scale * grid.side * grid.columnSide;
    const memory = Number(this.getAttribute("memory")) || MEMORY;
    const slots = model ? Math.min(Math.max(Math.floor((memory * 2 ** 20) / one), 4), 1024) : 1;
    this.#tiles = new Tiles({ picture, grid, scale, size, slots });
    const container = document.createElement("div");
    container.style.cssText = "width:100%;height:100%";
    this.prepend(container);
    const angle = (name) => ((Number(this.getAttribute(name)) || 0) * Math.PI) / 180;
    this.#viewer = new Viewer({
      container, adapter: TilesAdapter, panorama: this.#tiles, navbar: false, loadingTxt: "", minFov: 20, maxFov: 100,
      defaultYaw: angle("yaw"), defaultPitch: angle("pitch"), defaultTransition: null,
    });
    const fov = Number(this.getAttribute("fov"));
    this.#viewer.addEventListener("ready", () => {
      if (fov) this.#viewer.zoom(this.#viewer.dataHelper.fovToZoomLevel(fov));
      this.#ask();
    }, { once: true });
    for (const change of ["position-updated", "zoom-updated", "size-updated"]) {
      this.#viewer.addEventListener(change, () => this.#soon());
    }
  }

  #soon() {
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      this.#ask();
    }, 60);
  }

  /** Tells the worker what is looked at. */
  #ask() {
    if (!this.backend || this.state === "failed") return;
    const camera = this.#viewer.renderer.camera;
    camera.updateMatrixWorld();
    const origin = camera.getWorldPosition(new Vector3());
    const direction = (x, y) => {
      const { x: right, y: up, z: forward } = new Vector3(x, y, 0.5).unproject(camera).sub(origin);
      return [-right, up, forward];
    };
    const missing = this.#tiles.show(visible(this.#tiles.grid, direction));
    this.#waiting = missing.length;
    this.#worker.postMessage({ wanted: missing });
    this.#tell();
  }

  #receive(data, note) {
    if (data.problem) return this.#fail(data.problem);
    if (data.ready) {
      this.backend = data.ready.backend;
      this.notes = data.ready.notes;
      this.note = note;
      this.#ask();
      return;
    }
    const { tile, pixels, width, height, milliseconds } = data;
    this.#tiles.add(tile, pixels, width, height);
    this.decoded += 1;
    this.milliseconds = milliseconds;
    this.#waiting = Math.max(this.#waiting - 1, 0);
    this.#viewer.needsUpdate();
    this.#tell();
  }

  #tell() {
    const speed = Number.isNaN(this.milliseconds) ? "" : `, ${Math.round(this.milliseconds)} ms a tile`;
    const progress = this.#waiting ? `${this.#waiting} tiles to come · ` : "";
    const note = this.note ? ` · ${this.note}` : "";
    this.#say(this.#waiting ? "bicubic" : "sharp", `${progress}${NAMES[this.backend]}${speed}${note}`);
  }

  #fail(line) {
    this.#say("failed", line);
    this.#status.setAttribute("role", "alert");
  }

  #say(state, line) {
    this.state = state;
    this.#status.textContent = line;
    this.dispatchEvent(new CustomEvent("state", { detail: { state, line } }));
  }
}

customElements.define("dinn360-panorama", Dinn360Panorama);
