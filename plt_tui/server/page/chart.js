/* One curve on a canvas, as sharp as the screen is.
 *
 * Draws what it is given and keeps nothing. Invariant: each bucket's least and greatest value is drawn, so a spike of one step
 * is seen in a hundred thousand; a value that is no finite number is a red line over the whole height. */

import { tick, whole } from "./words.js";

const FOOT = 22;
const TOP = 6;

/** Colour of the page's theme. */
function color(name) { return getComputedStyle(document.documentElement).getPropertyValue(name).trim(); }

/** `points`: buckets of `curves.js`; `held`: {step, loss} of evaluations; `pointed`: the bucket that is read off, or null;
 * `without`: what to say where there are no points.
 *
 * Returns what says which step lies at a pixel, or null when there is nothing to draw. */
export function drawChart(canvas, chart, points, { held = [], pointed = null, isLog = false, without = "" }) {
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  canvas.width = Math.round(width * devicePixelRatio);
  canvas.height = Math.round(height * devicePixelRatio);
  if (!width) return null;
  const pen = canvas.getContext("2d");
  pen.scale(canvas.width / width, canvas.height / height);
  pen.font = `11px ${getComputedStyle(document.body).fontFamily}`;
  if (!points.length) return drawWords(pen, without, width / 2, height / 2);
  pen.lineJoin = "round";
  const y = scale(...rangeOf(chart, points, held, isLog), height - FOOT, TOP, isLog, Math.max(3, Math.round(height / 55)));
  const left = Math.ceil(Math.max(24, ...y.ticks.map((at) => pen.measureText(tick(at)).width))) + 8;
  const first = points[0].first > 1 ? points[0].first : 0;
  const last = Math.max(points.at(-1).step, first + 1);
  const x = scale(first, last, left, width - 5, false, Math.max(2, Math.round(width / 120)));
  drawAxes(pen, x, y, left, width, height);
  pen.save();
  pen.beginPath();
  pen.rect(left, 0, width - left, height - FOOT + 2);
  pen.clip();
  drawCurve(pen, chart, points, x, y);
  if (held.length) drawHeld(pen, held, x, y);
  if (pointed) drawPointed(pen, chart, pointed, x, y);
  pen.restore();
  if (chart.fallsIn) drawFall(pen, chart, points, x, y);
  return { step: (pixel) => first + ((pixel - left) / (x(last) - left)) * (last - first) };
}

function drawWords(pen, words, x, y) {
  pen.fillStyle = color("--muted");
  pen.textAlign = "center";
  pen.fillText(words, x, y);
  return null;
}

/** How many of the first buckets may begin above the picture: the fall of the first steps would press the rest flat. */
function numFalling(chart, points) { return chart.fallsIn && points.length >= 100 && points[0].first <= 1 ? Math.ceil(points.length / 50) : 0; }

/** Least and greatest finite value that must be seen, with some room. */
function rangeOf(chart, points, held, isLog) {
  let [low, high] = [Infinity, -Infinity];
  const see = (number) => {
    if (!Number.isFinite(number) || (isLog && number <= 0)) return;
    low = Math.min(low, number);
    high = Math.max(high, number);
  };
  for (const { last, min, max } of points.slice(isLog ? 0 : numFalling(chart, points))) [last, min, max].forEach((row) => see(row[chart.measure]));
  held.forEach(({ loss }) => see(loss));
  if (low > high) return isLog ? [1, 10] : [0, 1];
  if (isLog) return low < high ? [low / 1.02, high * 1.02] : [low / 1.2, high * 1.2];
  if (chart.fromZero && low >= 0) return [0, high * 1.08 || 1];
  const room = (high - low) * 0.05 || Math.abs(high) * 0.1 || 1;
  return [low - room, high + room];
}

/** A function from values to pixels, with `ticks`: about `most` round values between `low` and `high`. */
function scale(low, high, start, stop, isLog, most) {
  const place = isLog ? Math.log10 : (number) => number;
  const [from, to] = [place(low), place(high)];
  const pixel = (number) => start + ((place(number) - from) / (to - from)) * (stop - start);
  return Object.assign(pixel, { start, high, ticks: isLog ? logTicks(low, high, most) : roundTicks(low, high, most) });
}

function roundTicks(low, high, most) {
  const power = 10 ** Math.floor(Math.log10((high - low) / most));
  const step = power * ([1, 2, 5].find((factor) => factor * power * most >= (high - low) * 0.999) ?? 10);
  const ticks = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) ticks.push(i * step + 0); // -0 + 0 is 0
  return ticks;
}

function logTicks(low, high, most) {
  const powers = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++) powers.push(power);
  const factors = powers.length > most ? [1] : [1, 2, 5];
  const ticks = powers.flatMap((power) => factors.map((factor) => factor * 10 ** power)).filter((at) => at >= low && at <= high);
  return ticks.length > 2 ? ticks : roundTicks(low, high, most);
}

function drawAxes(pen, x, y, left, width, height) {
  pen.fillStyle = color("--muted");
  pen.strokeStyle = color("--grid");
  pen.textBaseline = "middle";
  pen.textAlign = "right";
  for (const tickAt of y.ticks) {
    const at = Math.round(y(tickAt)) + 0.5;
    stroke(pen, [[left, at], [width, at]]);
    pen.fillText(tick(tickAt), left - 7, at);
  }
  pen.textAlign = "center";
  for (const step of x.ticks.filter(Number.isInteger)) {
    const words = whole(step);
    const half = pen.measureText(words).width / 2;
    pen.fillText(words, Math.min(Math.max(x(step), half), width - half), height - 8);
  }
}

function stroke(pen, places) {
  pen.beginPath();
  places.forEach(([x, y], i) => (i ? pen.lineTo(x, y) : pen.moveTo(x, y)));
  pen.stroke();
}

function dot(pen, x, y, radius) {
  pen.beginPath();
  pen.arc(x, y, radius, 0, 2 * Math.PI);
  pen.fill();
}

/** Faintly all single steps, and of each bucket all between its least and greatest; over them the running mean. */
function drawCurve(pen, chart, points, x, y) {
  const values = points.map(({ last }) => last[chart.measure]);
  const radius = chart.isNoisy ? Math.floor(points.length / 60) : 0;
  pen.strokeStyle = color(chart.hue);
  pen.globalAlpha = 0.45;
  drawExtremes(pen, chart, points, x, y);
  if (radius) drawLine(pen, points, points.map(({ first, step }, i) => (first === step ? values[i] : NaN)), x, y);
  pen.globalAlpha = 1;
  pen.lineWidth = 2;
  drawLine(pen, points, radius ? means(means(values, radius), radius) : values, x, y);
  pen.fillStyle = color(chart.hue);
  if (points.length < 3) points.forEach(({ step }, i) => Number.isFinite(values[i]) && dot(pen, x(step), y(values[i]), 3));
  pen.lineWidth = 1;
  drawBroken(pen, chart, points, x, y);
}

function drawExtremes(pen, chart, points, x, y) {
  pen.beginPath();
  for (const { step, min, max } of points) {
    if (!(min[chart.measure] < max[chart.measure])) continue;
    const bottom = y(min[chart.measure]);
    pen.moveTo(x(step), Number.isFinite(bottom) ? bottom : y.start);
    pen.lineTo(x(step), y(max[chart.measure]));
  }
  pen.stroke();
}

function drawLine(pen, points, values, x, y) {
  let isOpen = false;
  pen.beginPath();
  values.forEach((number, i) => {
    const [across, up] = [x(points[i].step), y(number)];
    if (!Number.isFinite(up)) isOpen = false;
    else if (isOpen) pen.lineTo(across, up);
    else { isOpen = true; pen.moveTo(across - 1, up); pen.lineTo(across, up); } // one between others that are none is seen too
  });
  pen.stroke();
}

function drawBroken(pen, chart, points, x, y) {
  pen.strokeStyle = color("--bad");
  for (const { step, max, last } of points) {
    if (Number.isFinite(max[chart.measure]) && Number.isFinite(last[chart.measure])) continue;
    stroke(pen, [[x(step), TOP], [x(step), y.start]]);
  }
}

function drawHeld(pen, held, x, y) {
  const places = held.map(({ step, loss }) => [x(step), y(loss)]).filter(([, up]) => Number.isFinite(up));
  pen.strokeStyle = pen.fillStyle = color("--eval");
  pen.lineWidth = 1.5;
  stroke(pen, places);
  if (places.length <= 80) places.forEach(([across, up]) => dot(pen, across, up, 2.75));
}

/** Say how high the curve was where it comes in from above. */
function drawFall(pen, chart, points, x, y) {
  const falling = points.slice(0, numFalling(chart, points));
  const highest = Math.max(...falling.map(({ max }) => max[chart.measure]).filter(Number.isFinite), y.high);
  if (highest <= y.high) return;
  pen.textAlign = "left";
  pen.fillStyle = color("--muted");
  pen.fillText(`↑ from ${chart.words(highest)}`, x(falling.at(-1).step) + 12, TOP + 6);
}

function drawPointed(pen, chart, { step, last }, x, y) {
  const across = Math.round(x(step)) + 0.5;
  const up = y(last[chart.measure]);
  pen.lineWidth = 1;
  pen.strokeStyle = color("--muted");
  pen.globalAlpha = 0.6;
  stroke(pen, [[across, TOP], [across, y.start]]);
  pen.globalAlpha = 1;
  pen.fillStyle = color(chart.hue);
  if (!Number.isFinite(up)) return;
  dot(pen, across, up, 4);
  pen.strokeStyle = color("--card");
  pen.lineWidth = 1.5;
  pen.stroke();
}

/** Running means over `radius` neighbours on both sides; fewer near the start, which is steep. */
function means(values, radius) {
  const [sums, counts] = [[0], [0]];
  values.forEach((number, i) => {
    const isNumber = Number.isFinite(number);
    sums.push(sums[i] + (isNumber ? number : 0));
    counts.push(counts[i] + (isNumber ? 1 : 0));
  });
  return values.map((number, i) => {
    const reach = Math.min(radius, i >> 2);
    const [from, to] = [i - reach, Math.min(i + reach + 1, values.length)];
    return Number.isFinite(number) ? (sums[to] - sums[from]) / (counts[to] - counts[from]) : NaN;
  });
}
