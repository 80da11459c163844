// An LR picture with the record that downscaling left in it, and a model with what its file says.

/** A user's mistake: one line that names the file, what was expected and what was found. */
export class Problem extends Error {}

/** { pixels: Uint8ClampedArray RGBA, width, height, record: object or null, coarseness } of a picture at `url`. */
export async function loadPicture(url) {
  const blob = await fetched(url, "a picture", (response) => response.blob());
  let bitmap;
  try {
    // The values of the file, not what a colour profile or alpha makes of them: the network hides detail in them.
    bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  } catch {
    throw new Problem(`${url}: expected a picture (PNG), found something else`);
  }
  const { width, height } = bitmap;
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d", { willReadFrequently: true, colorSpace: "srgb" });
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  const { data } = context.getImageData(0, 0, width, height);
  const bytes = new Uint8Array(await blob.arrayBuffer());
  return { pixels: data, width, height, record: readRecord(bytes), coarseness: readCoarseness(bytes) };
}

/** What a model's sidecar says: { scale, align, halo, extension, sha256, selfTest }. */
export async function loadModel(url) {
  const told = await fetched(sidecar(url), `the file that says what ${url} is`, (response) => response.json());
  const number = (key) => (/^[1-9]\d*$/.test(told?.[key]) ? Number(told[key]) : NaN);
  const model = {
    scale: number("scale"), align: number("tile_align"), halo: number("halo"),
    extension: number("tile_extension") || 1,
    sha256: told?.checkpoint_sha256 ?? "", selfTest: told?.self_test,
  };
  if (told?.direction !== "up" || told?.ops !== "web" || !model.selfTest || [model.scale, model.align, model.halo].some(Number.isNaN)) {
    throw new Problem(`${url}: expected an upscaling graph of python -m export web, found something else`);
  }
  return model;
}

/** The record says which model made a picture: "" where it is this one, else what is wrong; throws where it cannot be
 * upscaled by this model. */
export function checkRecord(url, picture, model) {
  const record = picture.record;
  if (!record) return `${url}: was not made by downscale (or its record is lost): sharpened as any picture`;
  if (record.scale !== model.scale) {
    throw new Problem(`${url}: was downscaled by ${record.scale}, the model upscales by ${model.scale}`);
  }
  if (record.model && model.sha256 && record.model !== model.sha256) {
    const [made, found] = [record.model, model.sha256].map((hash) => hash.slice(0, 12));
    throw new Problem(`${url}: was downscaled by the model ${made}, found the model ${found}`);
  }
  return "";
}

/** The bytes of a model. */
export const loadGraph = (url) => fetched(url, "an ONNX file", (response) => response.arrayBuffer());

async function fetched(url, what, read) {
  let response;
  try {
    response = await fetch(url);
  } catch {
    throw new Problem(`${url}: expected ${what}, found no such file on this server`);
  }
  if (!response.ok) throw new Problem(`${url}: expected ${what}, found none (${response.status})`);
  try {
    return await read(response);
  } catch {
    throw new Problem(`${url}: expected ${what}, found something else`);
  }
}

const sidecar = (url) => url.replace(/\.onnx(?=$|[?#])/, ".json");

const UNKNOWN = 4; // coarseness of a lossy file that doesn't tell it, as engines/panorama/coding.py has it

/** log2 of the mean luma quantisation step: of a JPEG from its table, 0 of PNG and lossless WebP. */
export function readCoarseness(bytes) {
  const name = (at) => String.fromCharCode(...bytes.subarray(at, at + 4));
  if (bytes[0] === 0x89 && name(1).startsWith("PNG")) return 0;
  if (name(8) === "WEBP") {
    const view = new DataView(bytes.buffer, bytes.byteOffset);
    for (let at = 12; at + 8 <= bytes.length; at += 8 + ((view.getUint32(at + 4, true) + 1) & ~1)) {
      if (name(at) === "VP8L") return 0;
      if (name(at) === "VP8 ") return UNKNOWN;
    }
    return UNKNOWN;
  }
  if (bytes[0] !== 0xff || bytes[1] !== 0xd8) return UNKNOWN;
  for (let at = 2; at + 4 <= bytes.length && bytes[at] === 0xff && bytes[at + 1] !== 0xda;) {
    const end = at + 2 + 256 * bytes[at + 2] + bytes[at + 3];
    for (let from = at + 4; bytes[at + 1] === 0xdb && from < end;) {
      const size = bytes[from] >> 4 ? 2 : 1;
      if ((bytes[from] & 15) === 0) {
        let sum = 0;
        for (let i = 0; i < 64; i++) sum += size === 1 ? bytes[from + 1 + i] : 256 * bytes[from + 1 + 2 * i] + bytes[from + 2 + 2 * i];
        return Math.log2(Math.max(1, sum / 64));
      }
      from += 1 + 64 * size;
    }
    at = end;
  }
  return UNKNOWN;
}

function readRecord(bytes) {
  const view = new DataView(bytes.buffer);
  if (bytes.length < 8 || view.getUint32(0) !== 0x89504e47) return null;
  const text = new TextDecoder("latin1");
  for (let at = 8; at + 12 <= bytes.length;) {
    const length = view.getUint32(at);
    const content = bytes.subarray(at + 8, at + 8 + length);
    if (text.decode(bytes.subarray(at + 4, at + 8)) === "tEXt") {
      const end = content.indexOf(0);
      if (text.decode(content.subarray(0, end)) === "DINN360") {
        try {
          return JSON.parse(text.decode(content.subarray(end + 1)));
        } catch {
          return null;
        }
      }
    }
    at += 12 + length;
  }
  return null;
}
