// The fleet as a picture: each node a field of memory, each instance what it takes of it.

import { chip, empty, h, hue, keyed, memory, number, problem, rate, setText, share } from "./dom.js";
import { callRow } from "./calls.js";

const COLUMNS = 24;
const MOST_CELLS = 192;
const MOST_TILES = 1500;
const MOST_NAMES = 40;

const STATES = {
  leased: ["in use", "busy"],
  fencing: ["in use", "busy"],
  idle: ["idle", "idle"],
  starting: ["starting", "starting"],
  stopping: ["stopping", "stopping"],
  unknown: ["not known", "unknown"],
};

export const stateOf = (state) => STATES[state] ?? [state, "unknown"];

/** How many MB a cell is: the same for all nodes, so that areas can be compared. */
function unitOf(nodes) {
  const largest = Math.max(128, ...nodes.map((it) => it.memory_mb));
  let unit = 32;
  while (largest / unit > MOST_CELLS) unit *= 2;
  return unit;
}

/** What is drawn of a node: its instances, or where there are very many or small ones those of a kind together. */
function blocksOf(instances, unit, together) {
  if (!together && instances.every((it) => it.memory_mb >= unit)) {
    return instances.map((it) => ({
      key: it.id,
      cells: Math.round(it.memory_mb / unit),
      name: it.function_name,
      state: it.state,
      label: `${it.function_name}, ${stateOf(it.state)[0]}, ${memory(it.memory_mb)}, instance ${it.id}`,
    }));
  }
  const kinds = new Map();
  for (const it of instances) {
    const key = `${it.function_name} ${it.state}`;
    const kind = kinds.get(key) ?? { key, name: it.function_name, state: it.state, memory: 0, count: 0 };
    kind.memory += it.memory_mb;
    kind.count += 1;
    kinds.set(key, kind);
  }
  return [...kinds.values()].map((it) => ({
    ...it,
    cells: Math.max(1, Math.round(it.memory / unit)),
    label: `${it.name}: ${it.count} ${stateOf(it.state)[0]}, ${memory(it.memory)}`,
  }));
}

/** Where things are in a node's field. What is there stays where it is. */
class Field {
  constructor() {
    this.places = new Map();
    this.taken = [];
  }

  settle(blocks, cells) {
    const size = new Map(blocks.map((it) => [it.key, it.cells]));
    for (const [key, runs] of this.places) {
      const has = runs.reduce((sum, run) => sum + run.length, 0);
      const fits = runs.every((run) => run.at + run.length <= cells);
      if (size.get(key) !== has || !fits) {
        for (const run of runs) this.taken.fill(false, run.at, run.at + run.length);
        this.places.delete(key);
      }
    }
    this.taken.length = cells;
    for (const block of blocks) if (!this.places.has(block.key)) this.places.set(block.key, this.place(block.cells, cells));
    return this.places;
  }

  /** In one row if there is a gap for it, else in as many pieces as it takes. */
  place(wanted, cells) {
    const gaps = [];
    for (let at = 0; at < cells; at += 1) {
      if (this.taken[at]) continue;
      const last = gaps.at(-1);
      if (last && last.at + last.length === at && at % COLUMNS) last.length += 1;
      else gaps.push({ at, length: 1 });
    }
    const whole = gaps.find((it) => it.length >= wanted);
    const runs = whole ? [{ at: whole.at, length: wanted }] : [];
    for (const gap of whole ? [] : gaps) {
      const left = wanted - runs.reduce((sum, run) => sum + run.length, 0);
      if (left > 0) runs.push({ at: gap.at, length: Math.min(left, gap.length) });
    }
    for (const run of runs) this.taken.fill(true, run.at, run.at + run.length);
    return runs;
  }
}

function makeNode(node) {
  const card = h("article", { class: "node" });
  const beyond = h("span", { class: "beyond" });
  const field = h("div", { class: "field", role: "img" }, beyond);
  Object.assign(card, {
    field,
    beyond,
    space: new Field(),
    badge: h("span", { class: "badge" }),
    used: h("span", { class: "used" }),
    about: h("span", { class: "about" }),
  });
  card.append(
    h("header", {}, h("h3", { text: node.name }), card.badge),
    field,
    h("footer", {}, card.used, card.about),
  );
  return card;
}

function drawNode(card, node, instances, unit, together) {
  const rows = Math.max(1, Math.ceil(node.memory_mb / unit / COLUMNS));
  const cells = Math.max(1, Math.floor(node.memory_mb / unit));
  const blocks = blocksOf(instances, unit, together);
  const places = card.space.settle(blocks, cells);
  card.field.style.setProperty("--rows", rows);
  card.beyond.style.width = `${100 * (rows - cells / COLUMNS)}%`;
  const tiles = blocks.flatMap((block) => places.get(block.key).map((run, piece) => ({ block, run, piece })));
  keyed(
    card.field,
    tiles,
    ({ block, piece }) => `${block.key}/${piece}`,
    ({ block }) => h("a", { class: "tile", tabindex: "-1", href: `#/functions/${encodeURIComponent(block.name)}`, style: { "--h": hue(block.name) } }),
    (tile, { block, run }) => {
      const place = { left: (run.at % COLUMNS) / COLUMNS, top: Math.floor(run.at / COLUMNS) / rows, width: run.length / COLUMNS, height: 1 / rows };
      for (const [name, value] of Object.entries(place)) tile.style.setProperty(name, `${100 * value}%`);
      tile.dataset.state = stateOf(block.state)[1];
      if (tile.title !== block.label) tile.title = block.label;
      setText(tile, block.count > 1 && run.length > 2 ? String(block.count) : "");
    },
  );
  setText(card.badge, node.state);
  card.badge.dataset.state = node.state;
  setText(card.used, `${number(node.memory_used_mb)} of ${memory(node.memory_mb)}`);
  const missing = node.missing_protections.length;
  setText(card.about, `${node.instances} ${node.instances === 1 ? "instance" : "instances"} · ${node.isolation}${missing ? `, ${missing} missing` : ""}`);
  card.about.title = missing ? `Protections that are missing: ${node.missing_protections.join(", ")}` : "";
  card.field.setAttribute("aria-label", described(node, instances));
}

function described(node, instances) {
  const counts = new Map();
  for (const it of instances) {
    const what = `${it.function_name} ${stateOf(it.state)[0]}`;
    counts.set(what, (counts.get(what) ?? 0) + 1);
  }
  const said = [...counts].map(([what, count]) => `${count} ${what}`).join(", ");
  return `Memory of ${node.name}: ${said || "no instances"}`;
}

function stat(label) {
  const value = h("strong", { text: "–" });
  const more = h("small", { text: "" });
  return { value, more, element: h("div", { class: "stat" }, h("span", { text: label }), value, more) };
}

function sparkline(points) {
  const most = Math.max(1, ...points);
  return points.map((it, at) => `${at ? "L" : "M"}${(100 * at) / Math.max(1, points.length - 1)} ${23 - (21 * it) / most}`).join(" ");
}

export function fleetView() {
  const stats = { rate: stat("Calls a second"), failed: stat("Failed"), waiting: stat("Waiting"), busy: stat("Instances in use"), memory: stat("Memory") };
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 100 24");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("class", "spark");
  svg.setAttribute("aria-hidden", "true");
  const line = document.createElementNS("http://www.w3.org/2000/svg", "path");
  svg.append(line);
  stats.rate.element.append(svg);
  const nodes = h("div", { class: "nodes" });
  const said = h("div", {});
  const legend = h("ul", { class: "legend" });
  const kinds = ["busy", "idle", "starting", "stopping"].map((kind) =>
    h("li", {}, h("span", { class: "tile key", "data-state": kind, style: { "--h": "34" } }), kind === "busy" ? "in use" : kind));
  const calls = h("ol", { class: "rows calls" });
  const element = h(
    "div",
    { class: "view" },
    h("h1", { class: "unseen", text: "Fleet" }),
    h("section", { class: "stats", "aria-label": "The fleet in numbers" }, Object.values(stats).map((it) => it.element)),
    h(
      "section",
      {},
      h("div", { class: "title" }, h("h2", { text: "Nodes" }), h("ul", { class: "legend kinds", "aria-label": "States" }, kinds)),
      said,
      nodes,
      legend,
    ),
    h("section", {}, h("div", { class: "title" }, h("h2", { text: "Last calls" }), h("a", { href: "#/calls", text: "All calls" })), calls),
  );

  function update(data) {
    const functions = data.activity?.functions ?? [];
    const sum = (name) => functions.reduce((total, it) => total + Number(it[name]), 0);
    const known = data.activity !== undefined;
    setText(stats.rate.value, known ? rate(sum("calls_per_s")) : "–");
    setText(stats.rate.more, "last 15 s");
    setText(stats.failed.value, known ? share(sum("failed"), sum("calls")) : "–");
    setText(stats.failed.more, known && sum("throttled") ? `${share(sum("throttled"), sum("calls"))} throttled` : "of calls that ended");
    stats.failed.element.classList.toggle("bad", sum("failed") > 0);
    setText(stats.waiting.value, known ? number(sum("waiting")) : "–");
    setText(stats.waiting.more, "calls in line");
    line.setAttribute("d", sparkline(data.rates));
    const instances = data.instances?.instances ?? [];
    const busy = instances.filter((it) => stateOf(it.state)[1] === "busy").length;
    setText(stats.busy.value, data.instances ? number(busy) : "–");
    setText(stats.busy.more, data.instances ? `of ${number(instances.length)}` : "");
    drawNodes(data, instances);
    keyed(legend, [...new Set(instances.map((it) => it.function_name))].sort().slice(0, MOST_NAMES), (it) => it,
      (name) => h("li", {}, h("a", { href: `#/functions/${encodeURIComponent(name)}` }, chip(name), h("span", { text: name }))));
    if (!calls.matches(":focus-within")) drawCalls(data);
  }

  function drawNodes(data, instances) {
    const listed = data.nodes?.nodes ?? [];
    const total = listed.reduce((sum, it) => sum + it.memory_mb, 0);
    setText(stats.memory.value, data.nodes ? share(listed.reduce((sum, it) => sum + it.memory_used_mb, 0), total) : "–");
    setText(stats.memory.more, data.nodes ? `of ${memory(total)}, ${listed.length} ${listed.length === 1 ? "node" : "nodes"}` : "");
    const error = data.errors.nodes ?? data.errors.instances;
    const away = (data.nodes?.shards ?? []).filter((it) => it.missing).map((it) => `Shard ${it.number}: ${it.missing}.`);
    said.replaceChildren(
      ...(error ? [problem(error)] : []),
      ...away.map((text) => h("p", { class: "empty bad", text })),
      ...(data.nodes && !listed.length ? [empty("No workers. Start one with ", h("code", { text: "lambent worker --config FILE" }))] : []),
    );
    const unit = unitOf(listed);
    const byNode = Map.groupBy ? Map.groupBy(instances, (it) => it.node) : grouped(instances);
    keyed(nodes, listed, (it) => `${it.name}@${it.incarnation}`, makeNode, (card, node) =>
      drawNode(card, node, byNode.get(node.name) ?? [], unit, instances.length > MOST_TILES));
  }

  function drawCalls(data) {
    const last = (data.activity?.calls ?? []).slice(0, 8);
    if (data.errors.activity) calls.replaceChildren(problem(data.errors.activity));
    else if (data.activity && !last.length) calls.replaceChildren(empty("No call has ended yet."));
    else {
      if (!calls.querySelector(".call")) { calls.replaceChildren(); calls.keyed?.clear(); }
      keyed(calls, last, (it) => it.call.request_id, callRow.make, callRow.update);
    }
  }

  return { element, update };
}

function grouped(instances) {
  const groups = new Map();
  for (const it of instances) groups.set(it.node, [...(groups.get(it.node) ?? []), it]);
  return groups;
}
