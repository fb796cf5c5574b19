/* Numbers and times as people read them, the same as in the terminal. Pure. Invariant: every function takes any float. */

export function whole(number) { return Math.round(number).toLocaleString("en-US"); }

function threeDigits(number) {
  const size = Math.abs(number);
  return String(Number(number.toFixed(size >= 99.95 ? 0 : size >= 9.995 ? 1 : 2)));
}

/** "250", "1.5k", "1.23M" */
export function count(number) {
  if (!Number.isFinite(number)) return value(number);
  const units = [[1e12, "T"], [1e9, "B"], [1e6, "M"], [1e3, "k"]];
  const [power, unit] = units.find(([size]) => Math.abs(number) >= size * 0.9995) ?? [1, ""];
  return threeDigits(number / power) + unit;
}

/** A measured value: "2.312", "0.0120", "3.00e-4", "NaN" */
export function value(number) {
  if (Number.isNaN(number)) return "NaN";
  if (!Number.isFinite(number)) return number > 0 ? "inf" : "-inf";
  if (number === 0) return "0";
  const exponent = Number(number.toExponential(3).split("e")[1]);
  if (exponent < -3 || exponent > 4) return number.toExponential(2).replace("e+", "e");
  return number.toFixed(exponent < -1 ? 2 - exponent : 3 - Math.max(exponent, 0));
}

export function bytes(number) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let [scaled, unit] = [number, 0];
  for (; Math.abs(scaled) >= 999.5 && unit < units.length - 1; unit++) scaled /= 1024;
  return `${threeDigits(scaled)} ${units[unit]}`;
}

/** "42s", "12m 05s", "1h 02m", "3d 04h" */
export function duration(seconds) {
  const s = Math.round(seconds);
  const two = (number) => String(Math.floor(number)).padStart(2, "0");
  if (!Number.isFinite(s)) return "?";
  if (s < 60) return `${s}s`;
  if (s < 3600) return `${Math.floor(s / 60)}m ${two(s % 60)}s`;
  if (s < 86400) return `${Math.floor(s / 3600)}h ${two((s / 60) % 60)}m`;
  return `${Math.floor(s / 86400)}d ${two((s / 3600) % 24)}h`;
}

/** A round number beside an axis. */
export function tick(number) {
  const size = Math.abs(number);
  if (size >= 1000) return count(number);
  return size < 1e-3 && size > 0 ? number.toExponential(1).replace(".0e", "e") : String(Number(number.toPrecision(4)));
}

export function clock(unixSeconds) { return new Date(unixSeconds * 1000).toTimeString().slice(0, 8); }

export function percent(share) { return `${Number((share * 100).toFixed(share < 0.1 ? 1 : 0))} %`; }
