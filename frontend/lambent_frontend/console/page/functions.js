// The functions, and one of them.

import { callRow, factList } from "./calls.js";
import { ago, empty, functionLink, h, keyed, memory, ms, number, problem, rate, setText, share, short } from "./dom.js";
import { stateOf } from "./fleet.js";
import { invokePanel } from "./invoke.js";

const MOST_ROWS = 300;
const COLUMNS = ["Function", "Calls/s", "Failed", "Cold", "Waiting", "p50", "p99", "Instances", "Memory"];

/** All that are deployed, called or there, with what is known of each. */
function together(data) {
  const rows = new Map();
  const of = (name) => {
    if (!rows.has(name)) rows.set(name, { name, instances: 0, busy: 0, memory: 0, activity: null, deployed: null });
    return rows.get(name);
  };
  for (const it of data.functions ?? []) of(it.name).deployed = it;
  for (const it of data.activity?.functions ?? []) of(it.function_name).activity = it;
  for (const it of data.instances?.instances ?? []) {
    const row = of(it.function_name);
    row.instances += 1;
    row.busy += stateOf(it.state)[1] === "busy";
    row.memory += it.memory_mb;
  }
  return [...rows.values()].sort((one, other) => one.name.localeCompare(other.name));
}

/** What the key may not see is no zero. */
function figures(row, data) {
  const it = row.activity;
  const none = data.activity ? "0" : "–";
  const thereNone = data.instances ? "0" : "–";
  const answered = it && Object.keys(it.took).length;
  return {
    "Calls/s": it ? rate(it.calls_per_s) : none,
    Failed: it ? share(it.failed, it.calls) : "–",
    Throttled: it ? share(it.throttled, it.calls) : "–",
    Cold: it ? share(it.cold, it.ran) : "–",
    Waiting: it ? number(it.waiting) : none,
    p50: answered ? ms(it.p50_ms) : "–",
    p99: answered ? ms(it.p99_ms) : "–",
    Instances: row.instances ? `${row.busy} / ${row.instances}` : thereNone,
    Memory: row.instances ? memory(row.memory) : "–",
  };
}

export function functionsView() {
  const body = h("tbody", {});
  const filter = h("input", { type: "search", placeholder: "Name", "aria-label": "Part of the name", spellcheck: "false" });
  const said = h("div", {});
  const table = h("table", { class: "wide" },
    h("thead", {}, h("tr", {}, COLUMNS.map((text) => h("th", { scope: "col", text, class: text === "Function" ? null : "right" })))), body);
  const element = h("div", { class: "view" },
    h("div", { class: "title" }, h("h1", { text: "Functions" }), h("p", { class: "hint", text: "Of calls that ended in the last 15 s. Instances: in use / there." })),
    h("div", { class: "controls" }, filter), said, h("div", { class: "scroll" }, table));
  let last;
  filter.addEventListener("input", () => last && update(last));

  function make(row) {
    const element = h("tr", {}, h("th", { scope: "row" }, functionLink(row.name)));
    element.cells_ = COLUMNS.slice(1).map((name) => h("td", { class: "right", "data-label": name }));
    element.append(...element.cells_);
    return element;
  }

  function update(data) {
    last = data;
    const rows = together(data).filter((it) => it.name.toLowerCase().includes(filter.value.trim().toLowerCase()));
    keyed(body, rows.slice(0, MOST_ROWS), (it) => it.name, make, (element, row) => {
      const shown = figures(row, data);
      COLUMNS.slice(1).forEach((name, at) => setText(element.cells_[at], shown[name]));
      element.cells_[1].classList.toggle("bad", Number(row.activity?.failed ?? 0) > 0);
    });
    table.hidden = !rows.length;
    const refused = ["functions", "activity", "instances"].filter((it) => data.errors[it]).map((it) => problem(data.errors[it]));
    const none = !rows.length && data.functions && !refused.length;
    const more = rows.length > MOST_ROWS ? [empty(`The first ${MOST_ROWS} of ${number(rows.length)}: filter by name.`)] : [];
    said.replaceChildren(...refused, ...more, ...(none ? [filter.value ? empty("No function is called like this.") : nothingDeployed()] : []));
  }

  return { element, update };
}

const nothingDeployed = () =>
  empty("Nothing is deployed yet. ", h("code", { text: "lambent deploy DIR --name NAME --handler MODULE.FUNCTION" }));

export function functionView(name) {
  const numbers = h("section", { class: "stats small", "aria-label": "In numbers" });
  const facts = h("div", {});
  const instances = h("tbody", {});
  const calls = h("ol", { class: "rows calls" });
  const noCalls = h("div", {});
  const noInstances = h("div", {});
  const table = h("table", {}, h("thead", {}, h("tr", {}, ["Instance", "Version", "Node", "State", "Memory", "Idle"].map((text) => h("th", { scope: "col", text })))), instances);
  const element = h("div", { class: "view" },
    h("p", { class: "crumbs" }, h("a", { href: "#/functions", text: "Functions" })),
    h("div", { class: "title" }, h("h1", {}, functionLink(name)),
      h("p", { class: "links" },
        h("a", { href: `#/logs/${encodeURIComponent(name)}`, text: "Log" }),
        h("a", { href: `#/events/${encodeURIComponent(name)}`, text: "Events" }))),
    numbers,
    h("div", { class: "columns" },
      h("section", { class: "card" }, h("h2", { text: "Invoke" }), invokePanel(name)),
      h("section", { class: "card" }, h("h2", { text: "Configuration" }), facts)),
    h("section", {}, h("h2", { text: "Instances" }), noInstances, h("div", { class: "scroll" }, table)),
    h("section", {}, h("h2", { text: "Last calls" }), noCalls, calls));
  let drawn = "";

  function update(data) {
    const row = together(data).find((it) => it.name === name) ?? { name, instances: 0, busy: 0, memory: 0 };
    keyed(numbers, Object.entries(figures(row, data)), ([label]) => label,
      ([label]) => h("div", { class: "stat" }, h("span", { text: label }), h("strong", { text: "–" })),
      (element, [, value]) => setText(element.lastElementChild, value));
    configuration(data, row.deployed);
    const there = (data.instances?.instances ?? []).filter((it) => it.function_name === name);
    keyed(instances, there.slice(0, 200), (it) => it.id, makeInstance, (element, it) => {
      element.state.dataset.state = stateOf(it.state)[1];
      setText(element.state, stateOf(it.state)[0]);
      setText(element.idle, it.state === "idle" ? ago(it.idle_s).replace(" ago", "") : "");
    });
    table.hidden = !there.length;
    noInstances.replaceChildren(...(data.errors.instances ? [problem(data.errors.instances)] : there.length > 200 ? [empty(`The first 200 of ${number(there.length)}.`)] : there.length ? [] : [empty("None: the next call starts one.")]));
    const its = (data.activity?.calls ?? []).filter((it) => it.call.function_name === name).slice(0, 20);
    if (!calls.matches(":focus-within")) keyed(calls, its, (it) => it.call.request_id, callRow.make, callRow.update);
    noCalls.replaceChildren(...(data.errors.activity ? [problem(data.errors.activity)] : its.length ? [] : [empty("None among the last 100 of the fleet.")]));
  }

  function configuration(data, it) {
    const now = `${it?.revision_id} ${data.errors.functions?.message} ${Boolean(data.functions)}`;
    if (now === drawn) return;
    drawn = now;
    if (!it) {
      facts.replaceChildren(data.errors.functions ? problem(data.errors.functions) : empty(data.functions ? "No function of this name is deployed." : "Asking…"));
      return;
    }
    facts.replaceChildren(factList({
      Runtime: it.runtime,
      Handler: h("code", { text: it.handler }),
      Memory: memory(it.memory_mb),
      Timeout: `${it.timeout_s} s`,
      Concurrency: it.concurrency ?? "shares what nobody reserves",
      SnapStart: it.snapstart ? "on" : "",
      Network: it.network ? "yes" : "no",
      Layers: it.layers.map((layer) => `${layer.name}:${layer.version}`).join(", "),
      Variables: Object.keys(it.environment).sort().join(", "),
      Description: it.description,
      Changed: it.last_modified ? new Date(it.last_modified).toLocaleString("en-GB") : "",
      Revision: h("code", { text: short(it.revision_id), title: it.revision_id }),
    }));
  }

  return { element, update };
}

function makeInstance(it) {
  const state = h("span", { class: "state" });
  const idle = h("td", {});
  const row = h("tr", {}, h("th", { scope: "row" }, h("code", { text: it.id })), h("td", { text: it.version }), h("td", { text: it.node }), h("td", {}, state), h("td", { text: memory(it.memory_mb) }), idle);
  return Object.assign(row, { state, idle });
}
