// The last calls, and what became of one: how it started, why, where, and where its time went.

import { call } from "./api.js";
import { ago, empty, functionLink, h, keyed, ms, problem, setText, short } from "./dom.js";
import { openDialog } from "./dialog.js";

const OUTCOMES = {
  succeeded: ["succeeded", "good"],
  function_error: ["function error", "bad"],
  throttled: ["throttled", "warn"],
  timed_out: ["timed out", "bad"],
  lost: ["lost", "bad"],
  cancelled: ["cancelled", "warn"],
  failed: ["failed", "bad"],
};

export const outcomeBadge = (outcome) => {
  const [text, kind] = OUTCOMES[outcome] ?? [outcome, "warn"];
  return h("span", { class: "badge", "data-kind": kind, text });
};

const spans = (it) => [
  ["waiting", it.waiting_ms],
  ["starting", it.starting_ms],
  [it.start === "snapstart" ? "restoring" : "initialising", it.init_ms],
  ["running", it.running_ms],
];

const took = (it) => it.waiting_ms + it.running_ms;

export const callRow = {
  make({ call: it }) {
    const row = h("li", { class: "call" });
    row.age = h("span", { class: "age" });
    const told = it.explanation ?? {};
    row.append(
      functionLink(it.function_name),
      outcomeBadge(it.outcome),
      h("span", { class: "start", "data-start": told.start, text: told.start || "never started" }),
      h("span", { class: "took", text: told.start ? ms(took(told)) : "" }),
      row.age,
      h("button", { type: "button", class: "link", "aria-label": `Explain call ${it.request_id}`, on: { click: () => explain(it.request_id) } }, h("code", { text: short(it.request_id) })),
    );
    return row;
  },
  update(row, { age_s: age }) {
    setText(row.age, ago(age));
  },
};

const WHY = {
  warm: "It was sent to an instance that was there",
  cold: "An instance was started for it",
  snapstart: "An instance was forked of a snapshot for it",
};

/** Asks what became of a call, and shows it over the page. */
export async function explain(requestId) {
  const body = h("div", { class: "explained" }, h("p", { class: "empty", text: "Asking…" }));
  openDialog("What became of the call", body);
  try {
    body.replaceChildren(...explained(await call("Explain", { request_id: requestId })));
  } catch (error) {
    body.replaceChildren(problem(error));
  }
}

function explained(it) {
  const told = it.explanation ?? {};
  const facts = {
    Request: h("code", { text: it.request_id }),
    Reason: told.reason,
    Message: it.message,
    "Waited for": told.waited_for,
    Node: told.node,
    Instance: told.instance ? h("code", { text: told.instance }) : "",
    Isolation: told.isolation,
    Frontend: it.frontend,
    Priority: it.priority === "PRIORITY_NORMAL" ? "" : it.priority.replace("PRIORITY_", "").toLowerCase(),
    Tenant: it.tenant,
  };
  return [
    h("p", { class: "line" }, functionLink(it.function_name), outcomeBadge(it.outcome)),
    h("p", { class: "sentence", text: sentence(it) }),
    told.start ? timeline(told) : null,
    factList(facts),
    it.candidates.length ? candidates(it.candidates) : null,
    h("p", {}, h("a", { href: `#/logs/${encodeURIComponent(it.function_name)}?text=${encodeURIComponent(it.request_id)}`, text: "Its lines in the log" })),
  ].filter(Boolean);
}

function sentence(it) {
  const told = it.explanation ?? {};
  if (!told.start) return `It never ran${told.reason ? `: ${told.reason.replaceAll("_", " ")}` : ""}.`;
  const why = told.reason ? ` (${told.reason.replaceAll("_", " ")})` : "";
  return `${WHY[told.start] ?? told.start}${why}, on ${told.node}. It took ${ms(took(told))} in all, ${ms(told.running_ms)} of that to run.`;
}

function timeline(told) {
  const there = [
    ["waiting", Math.max(told.waiting_ms - told.starting_ms - told.init_ms, 0)],
    ...spans(told).slice(1),
  ].filter(([, value]) => value > 0);
  const whole = there.reduce((sum, [, value]) => sum + value, 0) || 1;
  return h(
    "div",
    { class: "timeline" },
    h("div", { class: "spans", "aria-hidden": "true" }, there.map(([name, value]) =>
      h("span", { "data-span": name, style: { "flex-grow": String(Math.max(value / whole, 0.01)) } }))),
    h("ul", { class: "legend" }, there.map(([name, value]) =>
      h("li", {}, h("span", { class: "chip", "data-span": name }), `${name} ${ms(value)}`))),
  );
}

export function factList(facts) {
  return h("dl", { class: "facts" }, Object.entries(facts).filter(([, value]) => value !== "" && value !== null && value !== undefined).flatMap(([name, value]) => [
    h("dt", { text: name }),
    h("dd", {}, value),
  ]));
}

function candidates(compared) {
  const head = ["node", "points", "its instances", "package", "stays free"];
  return h("div", { class: "scroll" }, h("table", {},
    h("caption", { text: "Nodes compared for its instance, the one taken first" }),
    h("thead", {}, h("tr", {}, head.map((text) => h("th", { scope: "col", text })))),
    h("tbody", {}, compared.map((it) => h("tr", {},
      h("td", { text: it.node }),
      h("td", { text: it.points.toFixed(2) }),
      h("td", { text: it.instances }),
      h("td", { text: it.package ? "yes" : "no" }),
      h("td", { text: `${Math.round(100 * it.free)} %` }))))));
}

export function callsView() {
  const list = h("ol", { class: "rows calls" });
  const name = h("input", { type: "search", placeholder: "Function or request id", "aria-label": "Function or request id", spellcheck: "false" });
  const outcome = h("select", { "aria-label": "Outcome" }, h("option", { value: "", text: "All outcomes" }),
    Object.entries(OUTCOMES).map(([value, [text]]) => h("option", { value, text })));
  const pause = h("button", { type: "button", "aria-pressed": "false", text: "Pause" });
  const said = h("div", {});
  const element = h("div", { class: "view" },
    h("div", { class: "title" }, h("h1", { text: "Calls" }), h("p", { class: "hint", text: "The last 100 of all frontends." })),
    h("form", { class: "controls", on: { submit: find } }, name, outcome, h("button", { type: "submit", text: "Explain id" }), pause),
    said, list);
  let paused = false;
  let last;
  pause.addEventListener("click", () => {
    paused = !paused;
    pause.setAttribute("aria-pressed", paused);
    setText(pause, paused ? "Go on" : "Pause");
    if (!paused && last) update(last);
  });
  for (const it of [name, outcome]) it.addEventListener("input", () => last && draw(last));

  function find(event) {
    event.preventDefault();
    if (name.value.trim()) explain(name.value.trim());
  }

  function update(data) {
    last = data;
    if (!paused && !list.matches(":focus-within")) draw(data);
  }

  function draw(data) {
    const all = data.activity?.calls ?? [];
    const text = name.value.trim().toLowerCase();
    const shown = all.filter(({ call: it }) =>
      (!outcome.value || it.outcome === outcome.value) &&
      (!text || it.function_name.toLowerCase().includes(text) || it.request_id.startsWith(text)));
    keyed(list, shown, (it) => it.call.request_id, callRow.make, callRow.update);
    const nothing = all.length ? "None of them is like this." : "No call has ended yet. Invoke a function, and it is here.";
    said.replaceChildren(...(data.errors.activity ? [problem(data.errors.activity)] : data.activity && !shown.length ? [empty(nothing)] : []));
  }

  return { element, update };
}
