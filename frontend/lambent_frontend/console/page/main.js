// Which view is shown, and what it shows: asked for in turn, while somebody looks.

import { Failed, call, token } from "./api.js";
import { callsView } from "./calls.js";
import { clock, h, setText } from "./dom.js";
import { eventsView } from "./events.js";
import { fleetView } from "./fleet.js";
import { functionView, functionsView } from "./functions.js";
import { logsView } from "./logs.js";

const VIEWS = [["fleet", "Fleet"], ["functions", "Functions"], ["calls", "Calls"], ["logs", "Logs"], ["events", "Events"]];

/** Seconds. What is asked for pauses at least that long, and twenty times as long as the answer took. */
const PAUSE_S = 1;
const TIMES = 20;
const FUNCTIONS_EVERY_S = 10;
const WINDOW_S = 15;

const main = document.getElementById("main");
const nav = document.getElementById("nav");
const status = document.getElementById("status");
const away = document.getElementById("away");
const forget = document.getElementById("forget");

const data = { rates: [], errors: {} };
let view = null;
let functionsAt = -Infinity;
let wake = () => {};
let asking = true;

// Views

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text; // typed by hand
  }
}

function route() {
  const [path, query] = location.hash.replace(/^#\/?/, "").split("?");
  const [name, about] = path.split("/");
  return { name: name || "fleet", about: decoded(about || ""), query: new URLSearchParams(query) };
}

function makeView() {
  const { name, about, query } = route();
  if (name === "functions") return about ? functionView(about) : functionsView();
  if (name === "calls") return callsView();
  if (name === "logs") return logsView(about, query);
  if (name === "events") return eventsView(about);
  return fleetView();
}

function show() {
  view?.leave?.();
  const { name, about } = route();
  for (const link of nav.children) {
    if (link.hash === `#/${name}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `${about || (VIEWS.find(([it]) => it === name) ?? VIEWS[0])[1]} · Lambent`;
  view = asking ? makeView() : null;
  if (!view) return;
  main.replaceChildren(view.element);
  view.update(data);
  scrollTo(0, 0);
}

nav.append(...VIEWS.map(([name, text]) => h("a", { href: `#/${name}`, "data-view": name }, h("span", { text }))));
addEventListener("hashchange", () => {
  show();
  main.focus({ preventScroll: true });
});

// What is asked for

async function listFunctions() {
  const all = [];
  let marker = "";
  do {
    const page = await call("ListFunctions", { marker, max_items: 1000 });
    all.push(...page.functions);
    marker = page.next_marker;
  } while (marker && all.length < 10_000);
  return all;
}

async function look() {
  const begun = performance.now();
  const asked = {
    nodes: call("ListNodes"),
    instances: call("ListInstances"),
    activity: call("GetActivity", { window_s: WINDOW_S, calls: 100 }),
  };
  if (begun - functionsAt > 1000 * FUNCTIONS_EVERY_S) asked.functions = listFunctions();
  const settled = await Promise.allSettled(Object.values(asked));
  Object.keys(asked).forEach((name, at) => take(name, settled[at]));
  const took = performance.now() - begun;
  const refused = settled.find((it) => it.reason?.refused)?.reason;
  if (refused) {
    askForKey(refused);
    return took;
  }
  if (asked.functions && !data.errors.functions?.away) functionsAt = begun;
  const gone = Object.values(data.errors).find((it) => it.away || it.code === "UNAVAILABLE");
  say(gone);
  if (!gone && data.activity) {
    data.rates.push(data.activity.functions.reduce((sum, it) => sum + it.calls_per_s, 0));
    if (data.rates.length > 120) data.rates.shift();
  }
  view?.update(data);
  return took;
}

function take(name, { value, reason }) {
  if (reason && !(reason instanceof Failed)) throw reason;
  if (reason) data.errors[name] = reason;
  else {
    data[name] = value;
    delete data.errors[name];
  }
}

function say(gone) {
  const now = new Date();
  if (!gone) data.freshAt = now;
  status.dataset.state = gone ? "away" : "live";
  setText(status.lastElementChild, gone ? "not fresh" : "live");
  const since = data.freshAt ? ` What is shown is of ${clock(data.freshAt)}.` : "";
  away.hidden = !gone;
  if (gone) setText(away, `${gone.message} Trying again.${since}`);
  const silent = data.activity?.missing_frontends ?? [];
  if (!gone && silent.length) {
    away.hidden = false;
    setText(away, `Not heard from: ${silent.join(", ")}. Their calls are missing here.`);
  }
}

async function run() {
  for (;;) {
    if (document.hidden || !asking) await new Promise((woken) => { wake = woken; });
    let took = 0;
    try {
      took = await look();
    } catch (error) {
      console.error(error);
      say(new Failed("FAULT", "This page has met a fault of its own: load it again."));
    }
    await new Promise((passed) => setTimeout(passed, Math.max(1000 * PAUSE_S, TIMES * took)));
  }
}

document.addEventListener("visibilitychange", () => {
  if (!document.hidden && asking) wake();
});

// The key

function askForKey(refusal) {
  if (!asking) return;
  asking = false;
  view?.leave?.();
  view = null;
  const wrong = token.get() !== "";
  token.forget();
  forget.hidden = true;
  away.hidden = true;
  status.dataset.state = "wait";
  setText(status.lastElementChild, "no key");
  const given = h("input", { type: "password", id: "token", autocomplete: "off", spellcheck: "false", required: true, pattern: "[!-~]+", title: "The token as it was shown when the key was made, without spaces" });
  const form = h("form", { class: "card ask" },
    h("h1", { text: "An access key, please" }),
    h("p", { text: "This fleet asks who calls. Paste the token of an access key: it is kept in this tab until you close it, and goes to this frontend alone." }),
    wrong ? h("p", { class: "empty bad", role: "alert", text: `That was not taken: ${refusal.message}` }) : null,
    h("label", { for: "token", text: "Token" }), given,
    h("button", { class: "main", type: "submit", text: "Look at the fleet" }),
    h("p", { class: "hint" }, "To look and nothing else: ", h("code", { text: "lambent key create --allow 'Get*,List*,ReadLogs,Explain'" })));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    token.set(given.value.trim());
    forget.hidden = false;
    asking = true;
    functionsAt = -Infinity;
    data.errors = {};
    main.replaceChildren(h("p", { class: "empty", text: "Asking…" }));
    show();
    wake();
  });
  main.replaceChildren(form);
  given.focus();
}

forget.hidden = token.get() === "";
forget.addEventListener("click", () => {
  token.forget();
  location.reload();
});

// Light and dark

const THEMES = ["system", "light", "dark"];
const theme = document.getElementById("theme");

function paint() {
  const chosen = localStorage.getItem("lambent-theme") ?? "system";
  if (chosen === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = chosen;
  setText(theme, { system: "Auto", light: "Light", dark: "Dark" }[chosen]);
  theme.setAttribute("aria-label", `Colours: ${chosen}. Press for the next.`);
  return chosen;
}

theme.addEventListener("click", () => {
  localStorage.setItem("lambent-theme", THEMES[(THEMES.indexOf(paint()) + 1) % THEMES.length]);
  paint();
});

paint();
show();
run();
