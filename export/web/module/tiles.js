// Where the tiles of a panorama lie, and what the network computes for one. Lengths are LR pixels.
// The same rules as engines/panorama/regions.py: regions start on the grid of the attention windows, columns continue
// around the circle, and a tile at one pole takes the halo of the other pole along, glued on.

/** The tiles of a panorama of `height` x `width`; `side`, `halo` and `align` as Python's Grid has them;
 * the network extends an image's rows to a multiple of `extension`. */
export class Grid {
  constructor(height, width, side, halo, align, extension) {
    this.height = height;
    this.width = width;
    this.halo = up(halo, align);
    this.align = align;
    this.extension = extension;
    this.side = Math.max(up(side, align), align);
    // Where the last window holds columns of both ends, no narrower region can imitate it: one column of tiles.
    this.columnSide = width % align === 0 ? this.side : width;
    this.rows = Math.ceil(height / this.side);
    this.columns = Math.ceil(width / this.columnSide);
  }

  /** A tile by its number: what it keeps, in LR pixels. */
  kept(tile) {
    const row = Math.floor(tile / this.columns);
    const column = tile % this.columns;
    return {
      row, column,
      top: row * this.side, bottom: Math.min((row + 1) * this.side, this.height),
      left: column * this.columnSide, right: Math.min((column + 1) * this.columnSide, this.width),
    };
  }

  /** What is computed for a tile: pieces [first, last) of rows, [first, last) of columns, where the kept part lies in
   * it, and the graph's input `omitted` (rows missing above, below, between the pieces, and where). */
  region(tile) {
    const { top, bottom, left, right } = this.kept(tile);
    const { pieces, above } = this.#rowPieces(top, bottom);
    const whole = right - left + 2 * this.halo >= this.width;
    const columns = whole ? [left, left + this.width] : [left - this.halo, right + this.halo];
    const first = pieces[0], last = pieces[pieces.length - 1];
    // Latitudes are of the extended image: every region that does not end with the last row leaves the extension out.
    const height = last[1] === this.height ? this.height : up(this.height, this.extension);
    const omitted = [first[0], height - last[1], 0, 0];
    if (pieces.length === 2) {
      omitted[2] = last[0] - first[1];
      omitted[3] = first[1] - first[0];
    }
    return { pieces, columns, omitted, top: above, left: left - columns[0], rows: bottom - top, across: right - left };
  }

  #rowPieces(start, stop) {
    const { height, halo, align } = this;
    const first = start - halo, last = stop + halo;
    // The window at a pole is displaced across it: a region that comes near takes the pole along.
    const top = first < align, bottom = last > Math.floor((height - 1) / align) * align;
    const far = align > 1 ? Math.max(halo, align) : 0; // without windows the poles know nothing of each other
    const below = Math.floor((height - far) / align) * align;
    if ((top && (bottom || last > below)) || (bottom && first < far)) return { pieces: [[0, height]], above: start };
    if (top) return { pieces: far ? [[0, last], [below, height]] : [[0, last]], above: start };
    if (bottom) return { pieces: far ? [[0, far], [first, height]] : [[first, height]], above: far + start - first };
    return { pieces: [[first, last]], above: start - first };
  }
}

/** The tiles that a camera sees, nearest to the middle of the view first. directionAt(x, y) gives the direction
 * [right, up, forward] of a point of the view, x and y in [-1, 1]. */
export function visible(grid, directionAt, steps = 24) {
  const nearest = new Map();
  for (let i = 0; i <= steps; i++) {
    for (let j = 0; j <= steps; j++) {
      const x = (2 * j) / steps - 1, y = (2 * i) / steps - 1;
      const [right, above, forward] = directionAt(x, y);
      const longitude = Math.atan2(right, forward), latitude = Math.atan2(above, Math.hypot(right, forward));
      const u = (longitude / (2 * Math.PI) + 0.5) * grid.width, v = (0.5 - latitude / Math.PI) * grid.height;
      const distance = x * x + y * y;
      // A pixel around for interpolation; near a pole a step of the view is many columns wide, so the row is filled.
      const spread = Math.min(grid.width / 2, 1 + (grid.width / steps) * 0.3 / Math.max(Math.cos(latitude), 1e-3));
      for (const row of new Set([clamp(v - 1, grid.height), clamp(v + 1, grid.height)])) {
        const line = Math.floor(row / grid.side);
        const from = Math.floor(u - spread), to = Math.floor(u + spread);
        for (let at = from; ; at = Math.min(at + grid.columnSide, to)) {
          const column = Math.floor((((at % grid.width) + grid.width) % grid.width) / grid.columnSide);
          const tile = line * grid.columns + column;
          if (!(nearest.get(tile) <= distance)) nearest.set(tile, distance);
          if (at >= to) break;
        }
      }
    }
  }
  return [...nearest].sort((one, other) => one[1] - other[1]).map(([tile]) => tile);
}

const up = (length, align) => Math.ceil(length / align) * align;
const clamp = (row, height) => Math.min(Math.max(Math.floor(row), 0), height - 1);
