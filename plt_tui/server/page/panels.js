/* What the panels of the page hold, as elements made from the values of events.
 *
 * Keeps nothing and asks for nothing. Invariant: words from the run go into text nodes and attributes, never into markup. */

import { float } from "./curves.js";
import { bytes, clock, count, duration, percent, value, whole } from "./words.js";

const PARTS = { data: "data", forward: "forward", backward: "backward", comm: "exchange", optim: "optimizer" };
const LEVELS = ["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"];
const TONES = { error: "bad", warning: "warning", info: "accent" };
const [MOST_METERS, MOST_BARS] = [8, 64];

/** An element with text and elements in it; `about`: its properties, and its data attributes under `data`. */
export function make(tag, { data = {}, ...properties } = {}, ...inside) {
  const element = Object.assign(document.createElement(tag), properties);
  Object.assign(element.dataset, data);
  element.append(...inside);
  return element;
}

function pair(left, right) { return make("div", { className: "pair" }, make("span", {}, ...left), make("span", {}, right)); }

function isKnown(number) { return number !== null && number !== undefined; }

function meter(share, label, isHot = false) {
  const fill = make("i");
  fill.style.width = `${Math.min(100, 100 * share)}%`;
  return make("div", { className: isHot ? "meter hot" : "meter", role: "img", ariaLabel: `${label}: ${percent(share)}` }, fill);
}

/** How far the run is, and what it is: `facts` of /run, `step` and `tokens` as the stream tells them. */
export function factWords({ facts, step, tokens, progress }, isTraining) {
  const fact = (strong, words) => make("span", {}, make("b", {}, strong), ` ${words}`);
  const many = (number, word) => number && fact(number, number === 1 ? word : `${word}s`);
  const { task, done, total, unit } = progress ?? {};
  const started = { dateStyle: "medium", timeStyle: "short" };
  return [
    task && fact(task, total ? `${percent(done / total)} of ${count(total)} ${unit}` : ""),
    facts.target_step && fact(whole(step), `of ${whole(facts.target_step)} steps (${Math.floor((100 * step) / facts.target_step)} %)`),
    facts.eta_s && isTraining && fact(duration(facts.eta_s), "left"),
    tokens && fact(count(tokens), "tokens"),
    isKnown(facts.epoch) && fact(float(facts.epoch).toFixed(2), "epochs"),
    facts.params && fact(count(facts.params), "parameters"),
    facts.world_size && fact(facts.world_size, `${facts.world_size === 1 ? "rank" : "ranks"} on ${facts.device}`),
    many(facts.checkpoints, "checkpoint"),
    many(facts.restarts, "restart"),
    facts.started_at && make("span", {}, "started ", make("b", {}, new Date(facts.started_at * 1000).toLocaleString("en-GB", started))),
  ].filter(Boolean);
}

export function alertItems(alerts) {
  return alerts.map(({ level, text }) => make("li", { data: { tone: TONES[level] ?? "warning" } }, text));
}

/** The last evaluation, and the best. `evals` is not empty. */
export function heldOutRows(evals) {
  const last = evals.at(-1);
  const best = evals.reduce((one, other) => (other.loss < one.loss || Number.isNaN(one.loss) ? other : one));
  const rows = {
    Loss: value(last.loss),
    Best: `${value(best.loss)} at ${whole(best.step)}`,
    Perplexity: value(float(last.perplexity)),
    "Bits per byte": value(float(last.bits_per_byte)),
    Accuracy: percent(float(last.accuracy)),
  };
  return Object.entries(rows).map(([name, words]) => make("div", {}, make("dt", {}, name), make("dd", {}, words)));
}

/** Each rank: what it does, how long a step takes it, and how much of that is which part. */
export function rankItems(ranks) {
  return ranks.map((rank) => {
    const parts = Object.keys(PARTS).map((part) => [part, rank[`${part}_ms`] ?? 0]);
    const words = parts.map(([part, ms]) => `${PARTS[part]} ${ms.toFixed(1)} ms`).join(", ");
    const pieces = parts.map(([part, ms]) => {
      const piece = make("i", { className: part });
      piece.style.flex = `${ms} 0 0`;
      return piece;
    });
    const size = rank.memory_bytes ? ` · ${bytes(rank.memory_bytes)}` : "";
    return make("li", {}, pair([make("b", {}, `rank ${rank.rank}`), ` ${rank.doing}`], `${(rank.step_ms ?? 0).toFixed(1)} ms${size}`),
      make("div", { className: "meter", role: "img", title: words, ariaLabel: words }, ...pieces));
  });
}

/** Cores, memory, GPUs and disk, as the event "gauges" tells them. */
export function machineParts(machine) {
  const { memory_used_bytes: used, memory_total_bytes: total, disk_free_bytes: free, cpu_throttled: throttled, gpus } = machine;
  const note = (words, hot) => make("p", { className: hot ? "note hot" : "note" }, words);
  return [
    make("div", {}, ...coreParts(machine)),
    throttled > 0.05 && note(`held back by its quota for ${percent(throttled)} of the time`, true),
    make("div", {}, pair([make("b", {}, "memory")], `${bytes(used)} of ${bytes(total)}`), meter(used / total, "memory in use", used > 0.92 * total)),
    ...gpus.map((gpu) => make("div", {}, ...gpuParts(gpu), ...[gpu.throttled && `slower than it could be: ${gpu.throttled}`, gpu.reason].filter(Boolean).map((words) => note(words, true)))),
    isKnown(free) && pair([make("b", {}, "disk")], `${bytes(free)} free`),
    !gpus.length && machine.gpu_reason && note(`no GPU: ${machine.gpu_reason}`),
  ].filter(Boolean);
}

function coreParts({ cores, cpu_quota: quota, cpu_used: used }) {
  const shares = cores.map((use) => (Number.isFinite(float(use)) ? float(use) / 100 : 0));
  const mean = shares.reduce((sum, share) => sum + share, 0) / (shares.length || 1);
  const ofQuota = isKnown(quota) && `${isKnown(used) ? used.toFixed(1) : "?"} of ${Number(quota.toFixed(2))}`;
  const words = pair([make("b", {}, "cores")], ofQuota || `${percent(mean)} of ${shares.length}`);
  if (shares.length > MOST_BARS) return [words, meter(mean, "cores in use")];
  if (shares.length > MOST_METERS) return [words, coreBars(shares)];
  return [words, make("div", { className: "few" }, ...shares.map((share, i) => meter(share, `use of core ${i}`)))];
}

function coreBars(shares) {
  const bars = shares.map((share) => {
    const fill = make("i");
    fill.style.height = `${100 * share}%`;
    return make("span", {}, fill);
  });
  return make("div", { className: "cores", role: "img", ariaLabel: `use of each core: ${shares.map(percent).join(", ")}` }, ...bars);
}

function gpuParts({ index, name, utilisation, memory_used_bytes: used, memory_total_bytes: total, temperature_c: heat, power_w: power }) {
  const words = [
    isKnown(total) && `${bytes(used ?? 0)} of ${bytes(total)}`,
    isKnown(heat) && `${Math.round(heat)} °C`,
    isKnown(power) && `${Math.round(power)} W`,
  ];
  return [
    pair([make("b", {}, `GPU ${index}`), ` ${name ?? ""}`], isKnown(utilisation) ? `${Math.round(utilisation)} %` : ""),
    ...(isKnown(utilisation) ? [meter(utilisation / 100, `use of GPU ${index}`)] : []),
    make("p", { className: "note" }, words.filter(Boolean).join(" · ")),
  ];
}

/** A log line: [Unix seconds, source, level, text]; `key` tells it from others. */
export function logLine([time, source, level, text]) {
  const key = JSON.stringify([time, source, text]);
  const words = [make("time", {}, clock(time)), "  ", make("span", { className: "source" }, source), "  ", text];
  return make("p", { className: LEVELS.includes(level) ? level : "INFO", key }, ...words);
}

/** Lines that are redrawn and have no end yet, by [source, text]; one without text has ended, and comes among the others. */
export function openLines(lines) {
  return lines.filter(([, text]) => text).map(([source, text]) => make("p", {}, make("span", { className: "source" }, source), "  ", text));
}
