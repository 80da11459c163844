// Decodes tiles off the page's thread. WebGPU is taken where it computes a known tile rightly, else WebAssembly.
// in:  { open: { graph, runtimes, picture, coarseness, grid, model, backends } }, { wanted: [tile, …] }
// out: { ready: { backend, notes } }, { problem }, { tile, pixels, width, height, milliseconds }
import { Grid } from "./tiles.js";

let session, ort, grid, picture, coarse, scale;
let wanted = [];
let busy = false;

self.onmessage = async ({ data }) => {
  try {
    if (data.open) await open(data.open);
    if (data.wanted) wanted = data.wanted;
    if (session && !busy) await work();
  } catch (error) {
    self.postMessage({ problem: `the tiles cannot be decoded: ${firstLine(error)}` });
  }
};

async function open({ graph, runtimes, picture: lr, coarseness, grid: shape, model, backends }) {
  picture = lr;
  coarse = coarseness;
  scale = model.scale;
  grid = new Grid(...shape);
  const notes = [];
  for (const backend of backends) {
    try {
      if (backend === "webgpu" && !(await navigator.gpu?.requestAdapter())) throw new Error("no adapter");
      ort = await import(runtimes[backend]);
      ort.env.logLevel = "error";
      ort.env.wasm.numThreads = self.crossOriginIsolated ? Math.min(navigator.hardwareConcurrency ?? 1, 8) : 1;
      // In its own layout (NHWC), WebGPU is silently wrong for 3x3 convolutions whose input channels are a multiple of
      // 3 but not of 4.
      const provider = backend === "webgpu" ? { name: "webgpu", preferredLayout: "NCHW" } : "wasm";
      const opened = await ort.InferenceSession.create(graph, { executionProviders: [provider] });
      const wrong = await selfTest(opened, model.selfTest);
      if (wrong) {
        await opened.release();
        throw new Error(wrong);
      }
      session = opened;
      self.postMessage({ ready: { backend, notes } });
      return;
    } catch (error) {
      notes.push(`${backend}: ${firstLine(error)}`);
    }
  }
  self.postMessage({ problem: `no backend can run the model (${notes.join("; ")})` });
}

/** "" where the backend computes the known tile to one level on 1 % of its values, else how far off it is. */
async function selfTest(opened, { height, width, omitted, lr, hr }) {
  const expected = bytesOf(hr);
  const found = await run(opened, bytesOf(lr), height, width, omitted, 0);
  const plane = expected.length / 3;
  let apart = 0, most = 0;
  for (let i = 0; i < expected.length; i++) {
    const difference = Math.abs(level(found[(i % 3) * plane + Math.floor(i / 3)]) - expected[i]);
    if (difference) apart++;
    most = Math.max(most, difference);
  }
  if (most <= 1 && apart <= 0.01 * expected.length) return "";
  return `self-test: ${apart} of ${expected.length} values differ, by up to ${most} levels`;
}

/** rgb: bytes (height, width, 3). coarseness: of the picture's file, for models that ask. Gives float32 planes (3, scale * height, scale * width) in [0, 1]. */
async function run(opened, rgb, height, width, omitted, coarseness) {
  const area = height * width;
  const planes = new Float32Array(3 * area);
  for (let i = 0; i < area; i++) for (let c = 0; c < 3; c++) planes[c * area + i] = Math.fround(rgb[3 * i + c]) / 255;
  const inputs = {
    lr: new ort.Tensor("float32", planes, [1, 3, height, width]),
    omitted: new ort.Tensor("int64", BigInt64Array.from(omitted, BigInt), [4]),
  };
  if (opened.inputNames.includes("coarseness")) inputs.coarseness = new ort.Tensor("float32", [coarseness], [1]);
  const { hr } = await opened.run(inputs);
  const data = hr.data;
  hr.dispose?.();
  return data;
}

async function work() {
  busy = true;
  try {
    while (wanted.length) {
      const tile = wanted.shift();
      const started = performance.now();
      const { pixels, width, height } = await decode(tile);
      const milliseconds = performance.now() - started;
      self.postMessage({ tile, pixels, width, height, milliseconds }, [pixels.buffer]);
      await new Promise((resolve) => setTimeout(resolve)); // a newer wish comes in between two tiles
    }
  } finally {
    busy = false;
  }
}

async function decode(tile) {
  const region = grid.region(tile);
  const [from, to] = region.columns;
  const width = to - from;
  const lines = region.pieces.flatMap(([first, last]) => Array.from({ length: last - first }, (_, i) => first + i));
  const rgb = new Uint8Array(3 * lines.length * width);
  let at = 0;
  for (const row of lines) {
    for (let x = from; x < to; x++) {
      const source = 4 * (row * grid.width + (((x % grid.width) + grid.width) % grid.width));
      rgb[at++] = picture[source];
      rgb[at++] = picture[source + 1];
      rgb[at++] = picture[source + 2];
    }
  }
  const hr = await run(session, rgb, lines.length, width, region.omitted, coarse);
  const [stride, plane] = [scale * width, scale * width * scale * lines.length];
  const [high, wide] = [scale * region.rows, scale * region.across];
  const pixels = new Uint8Array(4 * high * wide).fill(255);
  for (let y = 0; y < high; y++) {
    const line = (y + scale * region.top) * stride + scale * region.left;
    for (let x = 0; x < wide; x++) {
      for (let c = 0; c < 3; c++) pixels[4 * (y * wide + x) + c] = level(hr[c * plane + line + x]);
    }
  }
  return { pixels, width: wide, height: high };
}

/** An 8-bit level, rounded half to even as numpy does. */
function level(value) {
  const scaled = Math.fround(value * 255);
  const low = Math.floor(scaled), rest = scaled - low;
  const rounded = rest === 0.5 ? low + (low & 1) : Math.round(scaled);
  return Math.min(Math.max(rounded, 0), 255);
}

const bytesOf = (base64) => Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
const firstLine = (error) => String(error?.message ?? error).split("\n")[0];
