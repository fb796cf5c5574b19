/* The page of one run: it asks for what was, follows what is, and sends what a person wishes.
 *
 * Reads the run, its curves, evaluations, sample and logs once, then the stream of events from that record number on; after a
 * lost link it goes on where it was. No framework, and no request to anybody else. Invariants: every word from the run becomes
 * text and never markup; what may be out of date stands under "reconnecting" or "ended", never under "live". */

import { drawChart } from "./chart.js";
import { Curves, POINTS, float, rowsOf } from "./curves.js";
import { alertItems, factWords, heldOutRows, logLine, machineParts, make, openLines, rankItems } from "./panels.js";
import { clock, count, percent, value, whole } from "./words.js";

const CHARTS = [
  { id: "loss", name: "Training loss", measure: "loss", words: value, unit: "nats per token", hue: "--train", isNoisy: true, fallsIn: true },
  { id: "speed", name: "Throughput", measure: "tokens_per_s", words: count, unit: "tokens/s", hue: "--speed", isNoisy: true, fromZero: true },
  { id: "lr", name: "Learning rate", measure: "lr", words: value, unit: "", hue: "--lr", fromZero: true },
  { id: "norm", name: "Gradient norm", measure: "grad_norm", words: value, unit: "before clipping", hue: "--norm", isNoisy: true, fromZero: true },
];
const PHASES = {
  starting: ["◌", "starting", "accent"], preparing: ["◔", "preparing", "accent"], running: ["●", "training", "good"],
  paused: ["‖", "paused", "warning"], hibernated: ["☾", "hibernated", "warning"], stopping: ["◑", "stopping", "warning"],
  restarting: ["↻", "restarting", "warning"], finished: ["✔", "finished", "good"], stopped: ["■", "stopped", "warning"],
  failed: ["✖", "failed", "bad"],
};
const LINKS = { live: "live", ended: "ended", token: "token needed", connecting: "connecting" };
const DONE = { pause: "Paused", resume: "Resumed", checkpoint: "Checkpoint taken", eval: "Evaluated", sample: "Sample written", stop: "Stopped" };

const DRAW = { restMs: 500, share: 0.04 }; // the ranks may train on the machine that draws this: least rest, largest share of a core
const FRESH_MS = 10000; // what no event tells, such as the time left, is asked for this often
const SILENT_MS = 15000; // the hub tells of its machine every second: who is silent for so long is gone
const RETRY_MS = { first: 500, most: 10000 };
const ANSWER_MS = 45000; // a command is answered after 30 s at the latest
const LOG_LINES = 500;

const API = new URL("api/v1/", location.href);
const $ = (id) => document.getElementById(id);
const run = { facts: {}, step: 0, tokens: 0, evals: [], ranks: new Map(), machine: null, progress: null, viewers: [], openLines: new Map() };
const link = { state: "connecting", token: "", identity: "", seq: 0, told: 0, heard: 0, hasCaughtUp: false, takesCommands: null };
const view = { pointed: null, loads: 0, waiting: null, newLines: [] };
let curves = new Curves();

/* ---- Asking ---- */

/** The JSON at a path of the API. Throws an Error whose `status` is that of the answer, or undefined when there was none. */
async function ask(path, { headers = {}, ...options } = {}) {
  const token = link.token ? { Authorization: `Bearer ${link.token}` } : {};
  const usual = { cache: "no-store", credentials: "omit", signal: AbortSignal.timeout(ANSWER_MS) };
  const answer = await fetch(new URL(path, API), { ...usual, ...options, headers: { ...headers, ...token } });
  const body = await answer.json();
  if (!answer.ok) throw Object.assign(new Error(body.error), { status: answer.status });
  return body;
}

function firstShown() {
  const span = $("span").value;
  return span === "all" ? 0 : span === "tenth" ? Math.floor(run.step * 0.9) : Math.max(0, run.step - Number(span) + 1);
}

/** Ask for the curves anew: at the start, for another range, and when a rewind cuts through a bucket. */
async function loadCurves() {
  const mine = ++view.loads;
  const [from, waiting] = [firstShown(), []];
  view.waiting = waiting;
  try {
    const loaded = Curves.of(await ask(`metrics?from=${from}&points=${POINTS}`), from);
    if (mine !== view.loads) return;
    waiting.forEach((row) => loaded.append(row));
    curves = loaded;
    touch("curves", "facts");
  } finally {
    if (mine === view.loads) view.waiting = null;
  }
}

async function loadPast() {
  await loadCurves();
  run.evals = (await ask("evals")).map((evaluation) => ({ ...evaluation, loss: float(evaluation.loss) }));
  const [sample] = await ask("samples?last=1");
  if (sample) showSample(sample);
  const { machine, ranks } = await ask("gauges");
  Object.assign(run, { machine, ranks: new Map(ranks.map((rank) => [rank.rank, rank])) });
  $("lines").replaceChildren();
  view.newLines = [];
  addLines((await ask(`logs?lines=${LOG_LINES}`)).map(({ time, source, level, text }) => [time, source, level, text]));
  touch(...Object.keys(PANELS));
}

function takeFacts(facts) {
  if (facts.seq < link.told) return; // it was asked before what the stream has told since
  run.facts = facts;
  if (facts.step >= run.step) Object.assign(run, { step: facts.step, tokens: facts.tokens });
  touch("facts", "alerts", "evals", "curves");
}

let asking = 0;

/** Ask for the facts that events do not carry, once for all events of this moment. */
function refreshSoon() {
  if (link.state !== "live" || !link.hasCaughtUp || isOver() || document.hidden) return;
  const forget = () => {}; // a link that is lost is told by `follow`
  asking ||= setTimeout(() => { asking = 0; ask("run").then(takeFacts).catch(forget); }, DRAW.restMs);
}

/* ---- Listening ---- */

async function follow() {
  let wait = RETRY_MS.first;
  for (;;) {
    try {
      await begin();
      if (await listen()) wait = RETRY_MS.first;
      setLink(isOver() ? "ended" : "lost");
    } catch (error) {
      if (error.status === 401) { await tokenTyped(error); continue; }
      setLink(isOver() ? "ended" : "lost", error.status ? error.message : "");
    }
    await new Promise((resolve) => setTimeout(resolve, wait));
    wait = Math.min(2 * wait, RETRY_MS.most);
  }
}

/** Learn where the run is; all of its past too, unless that is known from before the link was lost. */
async function begin() {
  const facts = await ask("run");
  const index = await ask("../../", { headers: { Accept: "application/json" } });
  link.takesCommands = index.control;
  const identity = `${facts.name} ${facts.started_at}`;
  link.told = 0;
  if (identity === link.identity && facts.seq >= link.seq) return takeFacts(facts);
  Object.assign(run, { step: 0, tokens: 0, progress: null, viewers: [], openLines: new Map() });
  Object.assign(link, { identity: "", seq: facts.seq });
  curves = new Curves();
  $("sample-card").hidden = true;
  takeFacts(facts);
  await loadPast();
  link.identity = identity;
}

/** Follow the stream until it ends; true when it told anything. */
function listen() {
  const url = new URL(`stream?after=${link.seq}`, API);
  url.protocol = url.protocol.replace("http", "ws");
  const socket = new WebSocket(url, link.token ? ["plt-tui.v1", `bearer.${link.token}`] : []);
  let [heardAt, hasHeard] = [Date.now(), false];
  link.hasCaughtUp = false;
  return new Promise((resolve) => {
    const watch = setInterval(() => { if (Date.now() - heardAt > SILENT_MS) end(); }, 1000);
    const end = () => {
      clearInterval(watch);
      socket.onmessage = socket.onclose = null;
      socket.close();
      resolve(hasHeard);
    };
    socket.onclose = end;
    socket.onmessage = ({ data }) => {
      link.heard = heardAt = Date.now();
      hasHeard = true;
      if (link.state !== "live") setLink("live");
      hear(JSON.parse(data));
    };
  });
}

function hear(event) {
  link.seq = Math.max(link.seq, event.seq);
  HEARD[event.kind]?.(event);
}

const HEARD = {
  steps: takeSteps,
  run(event) { run.progress = null; goBack(event.start_step); refreshSoon(); },
  plan: refreshSoon,
  phase: enter,
  end(event) { run.facts.exit_code = event.exit_code; enter({ ...event, reason: event.reason || run.facts.reason }); },
  progress(event) { run.progress = event; touch("facts"); },
  eval: takeEval,
  sample: showSample,
  checkpoint: refreshSoon,
  command(event) { if (event.name === "rewind" && event.status === "applied") goBack(event.step); },
  rank(event) { run.ranks.set(event.rank, event); touch("ranks"); },
  gauges(event) { run.machine = event; touch("machine"); },
  logs({ lines, dropped }) { addLines(lines, dropped); },
  open_line({ source, text }) { run.openLines.set(source, text); touch("logs"); },
  alert(event) {
    const others = run.facts.alerts.filter(({ topic }) => topic !== event.topic);
    run.facts.alerts = event.text ? [...others, event] : others;
    touch("alerts");
  },
  viewers(event) { run.viewers = event.viewers; touch("facts"); },
  caught_up() { link.hasCaughtUp = true; refreshSoon(); },
};

function takeSteps(event) {
  if (event.branch || !event.count) return;
  const rows = rowsOf(event);
  view.waiting?.push(...rows);
  rows.forEach((row) => curves.append(row));
  ({ step: run.step, tokens: run.tokens } = rows.at(-1));
  touch("curves", "facts");
}

/** An evaluation takes the place of what came at or after its step: it may have been told before. */
function takeEval(event) {
  run.evals = [...run.evals.filter(({ step }) => step < event.step), { ...event, loss: float(event.loss) }];
  touch("curves", "evals");
}

/** The run goes on from `step` completed steps. */
function goBack(step) {
  run.step = step;
  run.evals = run.evals.filter((evaluation) => evaluation.step <= step);
  const isLoading = view.waiting !== null; // what is on its way may hold the steps that were left
  const forget = () => { curves = new Curves(); link.identity = ""; }; // no curve rather than one that is not the run's
  if (!curves.cut(step) || isLoading) loadCurves().catch(forget);
  touch("curves", "evals", "facts");
}

function enter({ seq, phase, reason }) {
  link.told = seq;
  Object.assign(run.facts, { state: phase, reason });
  if (["starting", "restarting", "hibernated"].includes(phase)) run.ranks.clear();
  if (isOver()) run.ranks.forEach((rank) => { rank.doing = "ended"; });
  touch("facts", "ranks", "machine");
  refreshSoon();
}

function isOver() { return ["finished", "stopped", "failed"].includes(run.facts.state); }

function setLink(state, why = "") {
  link.state = state;
  document.body.dataset.link = state;
  const since = link.heard ? `, last heard at ${clock(link.heard / 1000)}` : "";
  $("link-word").textContent = LINKS[state] ?? `reconnecting${since}${why ? `: ${why}` : ""}`;
  touch("facts");
}

/* ---- Panels ---- */

const PANELS = {
  curves: drawCurves,
  facts: drawFacts,
  logs: drawLogs,
  alerts() { fill("alerts", alertItems(run.facts.alerts ?? [])); },
  evals() {
    $("eval-card").hidden = !run.evals.length;
    if (!run.evals.length) return;
    $("eval-note").textContent = `at step ${whole(run.evals.at(-1).step)}`;
    fill("evals", heldOutRows(run.evals));
  },
  ranks() {
    $("ranks-card").hidden = !run.ranks.size;
    fill("ranks", rankItems([...run.ranks.values()].sort((one, other) => one.rank - other.rank)));
  },
  machine() {
    $("machine-card").hidden = !run.machine || isOver(); // nobody looks at it any more
    fill("machine", run.machine ? machineParts(run.machine) : []);
  },
};

const dirty = new Set();
let [frame, timer, nextAt] = [0, 0, 0];

/** Draw these panels with the next frame. */
function soon(...panels) {
  panels.forEach((panel) => dirty.add(panel));
  frame ||= requestAnimationFrame(draw);
}

/** Draw these panels when their turn comes. */
function touch(...panels) {
  panels.forEach((panel) => dirty.add(panel));
  timer ||= setTimeout(() => { timer = 0; soon(); }, Math.max(0, nextAt - performance.now()));
}

function draw() {
  const began = performance.now();
  frame = 0;
  const panels = [...dirty];
  dirty.clear();
  panels.forEach((panel) => PANELS[panel]());
  const ended = performance.now();
  nextAt = ended + Math.max(DRAW.restMs, (ended - began) / DRAW.share);
}

/** Put `elements` into the list `id`, which is not there while it is empty. */
function fill(id, elements) {
  $(id).replaceChildren(...elements);
  $(id).hidden = !elements.length;
}

function shownPoints() { return curves.points.slice(curves.find(firstShown())); }

function drawCurves() {
  const points = shownPoints();
  const pointed = view.pointed === null ? null : points.find(({ step }) => step >= view.pointed) ?? points.at(-1) ?? null;
  for (const chart of CHARTS) {
    const isLoss = chart.id === "loss";
    const held = isLoss ? run.evals.filter(({ step }) => step >= firstShown()) : [];
    chart.plot = drawChart($(chart.id), chart, points, { held, pointed, isLog: isLoss && $("log-axis").checked, without: run.facts.state ? "no steps yet" : "" });
    readOff(chart, pointed ?? curves.points.at(-1), pointed !== null);
  }
}

function readOff(chart, point, isPointed) {
  if (!point) return;
  const [last, least, most] = [point.last, point.min, point.max].map((row) => chart.words(row[chart.measure]));
  const range = chart.id === "loss" && point.first < point.step ? ` · ${least} – ${most}` : "";
  const ofPeak = chart.id === "speed" && run.facts.mfu ? ` · ${percent(run.facts.mfu)} of peak` : "";
  $(`${chart.id}-value`).textContent = last;
  $(`${chart.id}-note`).textContent = isPointed ? `step ${whole(point.step)}${range}` : chart.unit + ofPeak;
  $(chart.id).setAttribute("aria-label", `${chart.name} ${last} at step ${whole(point.step)}`);
}

function drawFacts() {
  const { facts, step, viewers } = run;
  const [glyph, word, tone] = PHASES[facts.state] ?? ["◌", "connecting", "accent"];
  const isLost = link.state === "lost" && facts.state !== undefined;
  const shown = isLost ? `was ${word}` : word;
  const loss = curves.points.at(-1)?.last.loss;
  document.title = [isLost ? "◌" : glyph, loss === undefined ? word : value(loss), "·", facts.name ?? "plt-tui"].join(" ");
  $("name").textContent = facts.name ?? "plt-tui";
  if ($("state-word").textContent !== shown) $("announce").textContent = `The run ${isLost ? shown : `is ${word}`}`;
  $("glyph").textContent = glyph;
  $("state-word").textContent = shown;
  $("state").dataset.tone = isLost ? "" : tone;
  $("state").hidden = link.state === "token";
  $("viewers").hidden = viewers.length < 2 || link.state !== "live";
  $("viewers").textContent = `${viewers.length} viewers`;
  $("viewers").title = viewers.map(({ actor, door, readonly }) => `${actor} (${door}${readonly ? ", read-only" : ""})`).join("\n");
  const done = facts.target_step ? Math.min(1, step / facts.target_step) : 0;
  $("done").style.width = `${done * 100}%`;
  $("bar").setAttribute("aria-valuenow", Math.floor(done * 100));
  $("facts").replaceChildren(...factWords(run, facts.state === "running" && link.state === "live"));
  const reason = [facts.reason, facts.exit_code && `exit code ${facts.exit_code}`].filter(Boolean).join("\n");
  $("reason").hidden = !reason;
  $("reason").textContent = reason;
  $("reason").dataset.tone = tone;
  drawControl(facts);
}

function showSample({ step, prompt, text }) {
  $("sample-card").hidden = false;
  $("sample-note").textContent = `at step ${whole(step)}`;
  $("prompt").textContent = prompt;
  $("text").textContent = text;
}

/** Take log lines in; while the stream catches up, some may have been told before. */
function addLines(lines, dropped = 0) {
  const known = new Set(link.hasCaughtUp ? [] : [...$("lines").children, ...view.newLines].map(({ key }) => key));
  if (dropped) view.newLines.push(make("p", { className: "DEBUG" }, `… ${whole(dropped)} lines are left out here`));
  view.newLines.push(...lines.slice(-LOG_LINES).map(logLine).filter(({ key }) => !known.has(key)));
  view.newLines = view.newLines.slice(-LOG_LINES);
  touch("logs");
}

function drawLogs() {
  const pane = $("logs");
  const isAtEnd = pane.scrollHeight - pane.scrollTop - pane.clientHeight < 30;
  $("lines").append(...view.newLines);
  view.newLines = [];
  while ($("lines").children.length > LOG_LINES) $("lines").firstChild.remove();
  $("open-lines").replaceChildren(...openLines([...run.openLines]));
  if (isAtEnd) pane.scrollTop = pane.scrollHeight;
}

/* ---- Wishes ---- */

function drawControl(facts) {
  const isHeld = ["paused", "hibernated"].includes(facts.state);
  $("control-card").hidden = !link.takesCommands || !link.token || link.state === "token";
  $("hold").textContent = isHeld ? "Resume" : "Pause";
  $("hold").dataset.command = isHeld ? "resume" : "pause";
  $("control-card").querySelectorAll("button, input, select").forEach((field) => {
    field.disabled = link.state !== "live" || isOver();
  });
  const hint = link.takesCommands === false ? " · read-only: a run that was started with --http-control can be steered from its page" : "";
  $("footer").textContent = `plt-tui${hint}`;
}

/** Send a command and say what became of it; the id makes a repeat harmless, so a lost answer is asked for once more. */
async function command(name, args, button) {
  if (button.ariaDisabled === "true") return;
  const id = [...crypto.getRandomValues(new Uint8Array(6))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  const body = JSON.stringify({ id, name, args });
  const send = () => ask("commands", { method: "POST", headers: { "Content-Type": "application/json", "X-Actor": "page" }, body });
  button.ariaDisabled = "true"; // a disabled one would lose the keyboard
  say(`${name} requested …`, "accent");
  try {
    say(...answerWords(name, await send().catch((error) => { if (error.status) throw error; return send(); })));
  } catch (error) {
    if (name === "stop" && isOver()) say(`Stopped at step ${whole(run.step)}`, "good");
    else say(error.status ? error.message : `no answer to ${name}: the run's journal tells whether it was taken`, "bad");
  } finally {
    button.ariaDisabled = "false";
  }
}

function answerWords(name, { status, step, reason }) {
  if (status !== "applied") return [`${name} was taken and is not in force yet`, "warning"];
  if (name === "set" || name === "undo") return [`${reason.replace("->", "→") || "Changed"} in force at step ${whole(step)}`, "good"];
  return [`${DONE[name]} at step ${whole(step)}`, "good"];
}

function say(words, tone) {
  $("answer").textContent = words;
  $("answer").dataset.tone = tone;
}

let tokenGiven = () => touch("facts");

/** True when the address brought a token. */
function takeToken() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (!given) return false;
  history.replaceState(null, "", location.pathname + location.search); // it must not stay in the address bar or the history
  keepToken(given);
  return true;
}

function keepToken(token) {
  link.token = /^[\w-]+$/.test(token) ? token : ""; // nothing else can be one, or be sent as one
  sessionStorage.setItem("token", link.token);
}

/** Resolves when there is another token than the one that was refused. */
function tokenTyped(error) {
  $("token-problem").textContent = link.token ? error.message : "";
  keepToken("");
  setLink("token");
  $("token-card").hidden = false;
  return new Promise((resolve) => {
    const open = () => {
      tokenGiven = () => touch("facts");
      $("token").value = "";
      $("token-card").hidden = true;
      setLink("connecting");
      resolve();
    };
    tokenGiven = open;
    $("token-form").onsubmit = (event) => {
      event.preventDefault();
      keepToken($("token").value.trim());
      open();
    };
  });
}

/* ---- Hands ---- */

function pointAt(step) {
  view.pointed = step;
  soon("curves");
}

function pointWith(chart) {
  const canvas = $(chart.id);
  canvas.onpointermove = ({ offsetX }) => { if (chart.plot) pointAt(chart.plot.step(offsetX)); };
  canvas.onpointerleave = canvas.onblur = () => pointAt(null);
  canvas.onkeydown = (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1, PageUp: -20, PageDown: 20, Home: -Infinity, End: Infinity, Escape: NaN }[event.key];
    const points = shownPoints();
    if (by === undefined || !points.length) return;
    event.preventDefault();
    const at = view.pointed === null ? points.length : points.findIndex(({ step }) => step >= view.pointed);
    pointAt(Number.isNaN(by) ? null : points[Math.max(0, Math.min(points.length - 1, at + by))].step);
    requestAnimationFrame(() => { $("announce").textContent = canvas.ariaLabel; });
  };
}

function listenToHands() {
  onhashchange = () => { if (takeToken()) tokenGiven(); };
  CHARTS.forEach(pointWith);
  $("span").onchange = () => { soon("curves"); loadCurves().catch(() => {}); }; // without a link it shows what it has
  $("log-axis").onchange = () => soon("curves");
  document.querySelectorAll("button[data-command]").forEach((button) => { button.onclick = () => command(button.dataset.command, {}, button); });
  $("lr-form").onsubmit = (event) => {
    event.preventDefault();
    command("set", { name: "lr", value: $("lr-new").value.trim(), mode: $("lr-mode").value }, $("lr-apply"));
  };
  $("stop").onclick = () => $("stop-dialog").showModal();
  const stopWith = (args) => () => { $("stop-dialog").close(); command("stop", args, $("stop")); };
  $("stop-save").onclick = stopWith({});
  $("stop-now").onclick = stopWith({ now: true });
  $("stop-not").onclick = () => $("stop-dialog").close();
  new ResizeObserver(() => soon("curves")).observe($("loss"));
  matchMedia("(prefers-color-scheme: light)").onchange = () => soon("curves");
  setInterval(refreshSoon, FRESH_MS);
}

if (!takeToken()) keepToken(sessionStorage.getItem("token") ?? "");
listenToHands();
follow();
