// What calls functions without anybody waiting: triggers, the queue, and the calls that were given up.

import { call, fromBase64 } from "./api.js";
import { ago, empty, functionLink, h, number, problem, rate } from "./dom.js";

const LOOKED_AT = 200;
const LISTED = 50;

export function eventsView(name) {
  const triggers = h("div", {});
  const queue = h("div", {});
  const dead = h("div", {});
  const again = h("button", { type: "button", text: "Look again", on: { click: look } });
  const all = h("button", { type: "button", text: "Redrive all", hidden: true });
  const element = h("div", { class: "view" },
    h("div", { class: "title" }, h("h1", {}, "Events", name ? h("small", { text: ` of ${name}` }) : null), again),
    h("section", {}, h("h2", { text: "Triggers" }), triggers),
    h("section", {}, h("h2", { text: "Queue" }), queue),
    h("section", {}, h("div", { class: "title" }, h("h2", { text: "Dead letters" }), all), dead));
  let functions = null;
  let looking = false;
  let left = false;

  async function look() {
    if (looking || left) return;
    looking = true;
    again.disabled = true;
    await Promise.all([part(triggers, showTriggers), part(queue, showQueue), part(dead, showDead)]);
    looking = again.disabled = false;
  }

  async function part(where, shown) {
    try {
      where.replaceChildren(...(await shown()));
    } catch (error) {
      where.replaceChildren(problem(error));
    }
  }

  async function showTriggers() {
    const { triggers: found } = await call("ListTriggers", { function_name: name, max_items: 1000 });
    if (!found.length) return [empty("None. ", h("code", { text: "lambent trigger create" }))];
    const head = ["Function", "Source", "State", "Lag", "Records/s", "Last error", ""];
    return [h("div", { class: "scroll" }, h("table", { class: "wide" },
      h("thead", {}, h("tr", {}, head.map((text) => h("th", { scope: "col", text })))),
      h("tbody", {}, found.map(triggerRow))))];
  }

  function triggerRow(it) {
    const on = it.settings.enabled !== false;
    const press = h("button", { type: "button", text: on ? "Disable" : "Enable", "aria-label": `${on ? "Disable" : "Enable"} the trigger ${it.id}` });
    press.addEventListener("click", () => act(press, () => call("UpdateTrigger", { id: it.id, settings: { enabled: !on } })));
    const source = it.source || it.servers.join(", ");
    return h("tr", {},
      h("th", { scope: "row" }, functionLink(it.function_name)),
      h("td", { "data-label": "Source" }, h("span", { class: "badge", text: it.kind }), ` ${[source.split(":").at(-1), it.queue].filter(Boolean).join(" · ")}`),
      h("td", { "data-label": "State", text: it.state }),
      h("td", { "data-label": "Lag", text: it.lag === undefined ? "–" : number(it.lag) }),
      h("td", { "data-label": "Records/s", text: rate(it.rate) }),
      h("td", { "data-label": "Last error", class: it.last_error ? "bad words" : "words", text: it.last_error || "–" }),
      h("td", {}, press));
  }

  async function showQueue() {
    const told = await call("GetQueue");
    const each = [told, ...told.others];
    const states = new Map();
    for (const it of each) for (const [state, count] of Object.entries(it.by_state)) states.set(state, (states.get(state) ?? 0) + Number(count));
    const shown = [...states].filter(([, count]) => count);
    const missing = told.missing_frontends.length ? [empty(`Not heard from: ${told.missing_frontends.join(", ")}.`)] : [];
    if (!shown.length) return [...missing, empty("Empty: no asynchronous call is known.")];
    return [...missing, h("div", { class: "stats small left" }, shown.map(([state, count]) =>
      h("div", { class: state === "dead" ? "stat bad" : "stat" }, h("span", { text: state }), h("strong", { text: number(count) }))))];
  }

  async function showDead() {
    const names = name ? [name] : (functions ?? []).slice(0, LOOKED_AT);
    const found = [];
    for (let at = 0; at < names.length && found.length < LISTED && !left; at += 4) {
      const pages = await Promise.all(names.slice(at, at + 4).map((it) => call("ListAsyncInvocations", { function_name: it, state: "dead", max_items: LISTED })));
      found.push(...pages.flatMap((it) => it.invocations));
    }
    all.hidden = found.length < 2;
    all.onclick = () => act(all, async () => { for (const it of found) await redrive(it); });
    if (!found.length) return [empty("None: no call was given up.")];
    const more = found.length >= LISTED ? [empty(`The first ${found.length}.`)] : [];
    return [h("ul", { class: "rows dead" }, found.map(deadRow)), ...more];
  }

  function deadRow(it) {
    const press = h("button", { type: "button", text: "Redrive", "aria-label": `Redrive ${it.request_id}` });
    press.addEventListener("click", () => act(press, () => redrive(it)));
    const age = (Date.now() - new Date(it.ended ?? it.received)) / 1000;
    return h("li", {},
      functionLink(it.function_name),
      h("span", { class: "badge", "data-kind": "bad", text: it.condition || "given up" }),
      h("span", { class: "age", text: `${it.attempts} ${it.attempts === 1 ? "attempt" : "attempts"}, ${ago(Math.max(age, 0))}` }),
      press,
      h("code", { class: "id", text: it.request_id }),
      h("span", { class: "words", text: it.message || fromBase64(it.payload) }));
  }

  const redrive = (it) => call("RedriveAsyncInvocation", { function_name: it.function_name, request_id: it.request_id });

  async function act(press, what) {
    press.disabled = true;
    try {
      await what();
      await look();
    } catch (error) {
      press.after(problem(error));
    } finally {
      press.disabled = false;
    }
  }

  function update(data) {
    const first = functions === null;
    functions = data.functions?.map((it) => it.name) ?? (data.errors.functions ? [] : null);
    if (first && functions !== null) look();
  }

  return { element, update, leave: () => { left = true; } };
}
