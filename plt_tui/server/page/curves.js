/* The steps of a run as buckets, each with the last, least and greatest value of every measure; the newest are single steps.
 *
 * Knows no page. Invariants: no peak and no NaN is lost, however long the run is; at most 3 x POINTS buckets are kept. */

export const MEASURES = ["loss", "lr", "grad_norm", "tokens_per_s"];
export const POINTS = 2000;

/** A float of the API, where those that are no numbers are words; null is NaN. */
export function float(json) { return typeof json === "number" ? json : { inf: Infinity, "-inf": -Infinity }[json] ?? NaN; }

export class Curves {
  points = [];

  /** From an answer of /metrics that was asked from step `from` on. */
  static of({ columns, min, max }, from) {
    const curves = new Curves();
    const row = (table, i) => Object.fromEntries(MEASURES.map((name) => [name, float(table[name][i])]));
    let first = Math.max(1, from);
    columns.step.forEach((step, i) => {
      const last = row(columns, i);
      curves.points.push({ first: min ? first : step, step, last, min: min ? row(min, i) : last, max: max ? row(max, i) : last });
      first = step + 1;
    });
    return curves;
  }

  get step() { return this.points.at(-1)?.step ?? 0; }

  /** Add a step; one that is there already has been told twice. */
  append(row) {
    if (row.step <= this.step) return;
    this.points.push({ first: row.step, step: row.step, last: row, min: row, max: row });
    if (this.points.length > 3 * POINTS) this.#thin();
  }

  /** Forget every step after `step`; false when it lies inside a bucket. */
  cut(step) {
    while (this.step > step) {
      if (this.points.at(-1).first <= step) return false;
      this.points.pop();
    }
    return true;
  }

  /** Index of the first bucket that ends at or after `step`. */
  find(step) {
    let [low, high] = [0, this.points.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.points[middle].step < step) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  #thin() {
    const width = (this.step - this.points[0].first) / POINTS;
    const thinned = [];
    for (const point of this.points) {
      const before = thinned.at(-1);
      if (before && point.step - before.first <= width) thinned[thinned.length - 1] = merged(before, point);
      else thinned.push(point);
    }
    this.points = thinned;
  }
}

/** Two neighbours as one bucket; a NaN stays in `max`, as in the answers of the server. */
function merged(one, other) {
  const least = (a, b) => (a < b || Number.isNaN(b) ? a : b);
  const of = (pick) => Object.fromEntries(MEASURES.map((name) => [name, pick(name)]));
  return {
    first: one.first,
    step: other.step,
    last: other.last,
    min: of((name) => least(one.min[name], other.min[name])),
    max: of((name) => Math.max(one.max[name], other.max[name])),
  };
}

/** The rows of an event "steps", whose columns are base64 of little-endian float64. */
export function rowsOf({ count, columns }) {
  const names = [...MEASURES, "step", "tokens"];
  const decoded = names.map((name) => floats(columns[name]));
  return Array.from({ length: count }, (_, i) => Object.fromEntries(names.map((name, column) => [name, decoded[column][i]])));
}

function floats(base64) { return new Float64Array(Uint8Array.from(atob(base64), (char) => char.charCodeAt(0)).buffer); }
