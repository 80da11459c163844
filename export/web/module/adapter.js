// Photo Sphere Viewer's door to a panorama of which only some tiles are sharp: one sphere whose shader looks each pixel
// up. Sharp tiles are bilinear, seam and poles included; where none is yet, the LR picture is bicubic.
import { AbstractAdapter } from "@photo-sphere-viewer/core";
import {
  DataArrayTexture, DataTexture, GLSL3, IntType, Mesh, NearestFilter, RedIntegerFormat, RGBAFormat, ShaderMaterial,
  SphereGeometry, UnsignedByteType,
} from "three";

const VERTEX = `
  out vec3 place;
  void main() {
    place = position;
    gl_Position = projectionMatrix * modelViewMatrix * vec4(position, 1.0);
  }`;

const FRAGMENT = `
  precision highp float;
  precision highp int;
  precision highp sampler2D;
  precision highp sampler2DArray;
  precision highp isampler2D;
  uniform sampler2D lr;
  uniform sampler2DArray tiles;
  uniform isampler2D slots;      // of each tile; -1: not decoded
  uniform ivec2 size;            // of the decoded panorama
  uniform ivec2 side;            // of a tile
  uniform float scale;
  uniform float opacity;
  in vec3 place;
  out vec4 colour;
  const float PI = 3.14159265358979;

  // A pixel's neighbours: columns continue around the circle, beyond a pole lies the same row half a circle away.
  ivec2 around(ivec2 at, ivec2 whole) {
    if (at.y < 0 || at.y >= whole.y) at.x += whole.x / 2;
    return ivec2(((at.x % whole.x) + whole.x) % whole.x, clamp(at.y, 0, whole.y - 1));
  }

  bool sharp(ivec2 at, out vec3 value) {
    at = around(at, size);
    ivec2 tile = at / side;
    int slot = texelFetch(slots, tile, 0).r;
    if (slot < 0) return false;
    value = texelFetch(tiles, ivec3(at - tile * side, slot), 0).rgb;
    return true;
  }

  vec4 cubic(float t) {          // Catmull-Rom
    return vec4(((2.0 - t) * t - 1.0) * t, (3.0 * t - 5.0) * t * t + 2.0, ((4.0 - 3.0 * t) * t + 1.0) * t,
                (t - 1.0) * t * t) / 2.0;
  }

  vec3 bicubic(vec2 at) {
    ivec2 whole = textureSize(lr, 0);
    ivec2 base = ivec2(floor(at));
    vec4 across = cubic(at.x - float(base.x)), down = cubic(at.y - float(base.y));
    vec3 sum = vec3(0.0);
    for (int i = 0; i < 4; i++)
      for (int j = 0; j < 4; j++)
        sum += across[j] * down[i] * texelFetch(lr, around(base + ivec2(j - 1, i - 1), whole), 0).rgb;
    return clamp(sum, 0.0, 1.0);
  }

  void main() {
    vec3 ray = normalize(place);
    vec2 turn = vec2(atan(-ray.x, ray.z) / (2.0 * PI) + 0.5, 0.5 - atan(ray.y, length(ray.xz)) / PI);
    vec2 at = turn * vec2(size) - 0.5;
    ivec2 base = ivec2(floor(at));
    vec2 part = at - vec2(base);
    vec3 a, b, c, d;
    bool all4 = sharp(base, a) && sharp(base + ivec2(1, 0), b) && sharp(base + ivec2(0, 1), c)
      && sharp(base + ivec2(1, 1), d);
    vec3 value = all4 ? mix(mix(a, b, part.x), mix(c, d, part.x), part.y) : bicubic((at + 0.5) / scale - 0.5);
    colour = vec4(value, opacity);
  }`;

/** The textures of one panorama: what PSV calls a panorama's data. `slots` bounds the memory. */
export class Tiles {
  constructor({ picture, grid, scale, size, slots }) {
    this.grid = grid;
    this.size = size;
    this.scale = scale;
    this.side = [scale * grid.columnSide, scale * grid.side];
    this.capacity = Math.min(slots, grid.rows * grid.columns);
    this.held = new Map(); // tile to slot, the least recently shown first
    this.free = Array.from({ length: this.capacity }, (_, slot) => slot);
    this.lr = texture(new DataTexture(new Uint8Array(picture.pixels.buffer), picture.width, picture.height, RGBAFormat));
    const [wide, high] = this.side;
    this.layers = texture(new DataArrayTexture(new Uint8Array(4 * wide * high * this.capacity), wide, high, this.capacity));
    const empty = new Int32Array(grid.rows * grid.columns).fill(-1);
    this.slots = texture(new DataTexture(empty, grid.columns, grid.rows, RedIntegerFormat, IntType));
    this.slots.internalFormat = "R32I";
  }

  /** Bytes that tiles may take, on the GPU and again beside it. */
  get bytes() {
    return this.layers.image.data.byteLength;
  }

  /** Marks tiles as shown now, so that they stay the longest; gives those that are missing. */
  show(tiles) {
    const kept = tiles.slice(0, this.capacity);
    for (const tile of [...kept].reverse()) {
      if (!this.held.has(tile)) continue;
      const slot = this.held.get(tile);
      this.held.delete(tile);
      this.held.set(tile, slot);
    }
    return kept.filter((tile) => !this.held.has(tile));
  }

  add(tile, pixels, width, height) {
    if (this.held.has(tile)) return;
    let slot = this.free.pop();
    if (slot === undefined) {
      const [oldest, its] = this.held.entries().next().value;
      this.held.delete(oldest);
      this.slots.image.data[oldest] = -1;
      slot = its;
    }
    const [wide, high] = this.side;
    const layer = this.layers.image.data.subarray(4 * wide * high * slot, 4 * wide * high * (slot + 1));
    for (let y = 0; y < height; y++) layer.set(pixels.subarray(4 * width * y, 4 * width * (y + 1)), 4 * wide * y);
    this.held.set(tile, slot);
    this.slots.image.data[tile] = slot;
    this.slots.needsUpdate = true;
    this.layers.addLayerUpdate(slot);
    this.layers.needsUpdate = true;
  }

  dispose() {
    for (const one of [this.lr, this.layers, this.slots]) one.dispose();
  }
}

export class TilesAdapter extends AbstractAdapter {
  static id = "dinn360";
  static supportsDownload = false;

  supportsTransition() {
    return false;
  }

  supportsPreload() {
    return false;
  }

  textureCoordsToSphericalCoords({ textureX, textureY }, { size }) {
    const yaw = (textureX / size[0] - 0.5) * 2 * Math.PI;
    return { yaw: yaw < 0 ? yaw + 2 * Math.PI : yaw, pitch: (0.5 - textureY / size[1]) * Math.PI };
  }

  sphericalCoordsToTextureCoords({ yaw, pitch }, { size }) {
    const turn = yaw / (2 * Math.PI) + 0.5;
    return { textureX: (turn - Math.floor(turn)) * size[0], textureY: (0.5 - pitch / Math.PI) * size[1] };
  }

  async loadTexture(tiles) {
    return { panorama: tiles, texture: tiles, panoData: { isEquirectangular: true, size: tiles.size } };
  }

  createMesh() {
    const uniforms = Object.fromEntries(
      ["lr", "tiles", "slots", "size", "side", "scale"].map((name) => [name, { value: null }]),
    );
    const material = new ShaderMaterial({
      uniforms: { ...uniforms, opacity: { value: 1 } },
      vertexShader: VERTEX, fragmentShader: FRAGMENT, glslVersion: GLSL3,
      depthTest: false, depthWrite: false, transparent: true,
    });
    return new Mesh(new SphereGeometry(10, 32, 16).scale(-1, 1, 1), material);
  }

  setTexture(mesh, { texture: tiles }) {
    const { uniforms } = mesh.material;
    uniforms.lr.value = tiles.lr;
    uniforms.tiles.value = tiles.layers;
    uniforms.slots.value = tiles.slots;
    uniforms.size.value = tiles.size;
    uniforms.side.value = tiles.side;
    uniforms.scale.value = tiles.scale;
  }

  setTextureOpacity(mesh, opacity) {
    mesh.material.uniforms.opacity.value = opacity;
  }

  disposeTexture({ texture: tiles }) {
    tiles?.dispose();
  }

  disposeMesh(mesh) {
    mesh.geometry.dispose();
    mesh.material.dispose();
  }
}

/** Values as they are: no filter, no colour space, no copies in other sizes. */
function texture(made) {
  made.minFilter = made.magFilter = NearestFilter;
  made.generateMipmaps = false;
  made.unpackAlignment = 1;
  made.type = made.format === RedIntegerFormat ? IntType : UnsignedByteType;
  made.needsUpdate = true;
  return made;
}
