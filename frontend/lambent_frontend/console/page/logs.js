// The log of a function, followed.

import { stream } from "./api.js";
import { clock, empty, h, hue, problem, setText, short } from "./dom.js";

const MOST = 2000;

export function logsView(name, query) {
  const choose = h("select", { "aria-label": "Function" });
  const text = h("input", { type: "search", placeholder: "Only lines with", "aria-label": "Only lines with", spellcheck: "false" });
  text.value = query.get("text") ?? "";
  const follow = h("button", { type: "button", "aria-pressed": "true", text: "Following" });
  const lines = h("ol", { class: "log", tabindex: "0", "aria-label": "Log lines" });
  const said = h("div", { "aria-live": "polite" });
  const element = h("div", { class: "view tall" },
    h("div", { class: "title" }, h("h1", { text: "Logs" }), h("p", { class: "hint", text: `The last ${MOST} lines, over all nodes.` })),
    h("div", { class: "controls" }, choose, text, follow), said, lines);
  let reading = null;
  let count = 0;
  let before = "";

  choose.addEventListener("change", () => { location.hash = `#/logs/${encodeURIComponent(choose.value)}`; });
  text.addEventListener("input", () => { for (const line of lines.children) show(line); });
  follow.addEventListener("click", () => (reading ? stop() : begin()));

  function show(line) {
    line.hidden = Boolean(text.value) && !line.words.includes(text.value.toLowerCase());
  }

  function lineOf(it) {
    const at = new Date(1000 * it.at);
    const from = `${clock(at)} ${it.instance}`;
    const kinds = [it.request_id ? "" : "platform", from === before ? "same" : ""];
    before = from;
    const line = h("li", { class: kinds.join(" ") },
      h("time", { datetime: at.toISOString(), title: at.toISOString(), text: clock(at) }),
      h("span", { class: "from", title: `${it.node}, instance ${it.instance}, request ${it.request_id || "none"}`, style: { "--h": hue(it.instance) }, text: short(it.instance) }),
      h("span", { class: "text", text: it.text }));
    line.words = `${it.text} ${it.request_id} ${it.instance} ${it.node}`.toLowerCase();
    show(line);
    return line;
  }

  function took(message) {
    const atEnd = lines.scrollHeight - lines.scrollTop - lines.clientHeight < 40;
    lines.append(...message.lines.slice(-MOST).map(lineOf));
    count += message.lines.length;
    while (lines.childElementCount > MOST) lines.firstElementChild.remove();
    said.replaceChildren();
    if (atEnd) lines.scrollTop = lines.scrollHeight;
  }

  async function begin() {
    if (!name) return;
    const mine = (reading = new AbortController());
    lines.replaceChildren();
    count = 0;
    pressed(true);
    said.replaceChildren(empty("No lines yet. What the function prints comes here."));
    try {
      await stream("ReadLogs", { function_name: name, follow: true }, took, mine.signal);
      ended(mine, null);
    } catch (error) {
      if (!mine.signal.aborted) ended(mine, error);
    }
  }

  function ended(mine, error) {
    if (reading !== mine) return;
    reading = null;
    pressed(false);
    said.replaceChildren(error ? problem(error) : empty(count ? "The log has ended: follow it again." : "No lines."));
  }

  function stop() {
    reading?.abort();
    reading = null;
    pressed(false);
  }

  function pressed(on) {
    follow.setAttribute("aria-pressed", on);
    setText(follow, on ? "Following" : "Follow");
  }

  let options = "";
  function update(data) {
    const names = [...new Set([...(data.functions ?? []).map((it) => it.name), ...(name ? [name] : [])])].sort();
    const now = names.join(" ");
    if (now === options) return;
    options = now;
    choose.replaceChildren(h("option", { value: "", text: "Choose a function", disabled: true, selected: !name }),
      ...names.map((it) => h("option", { value: it, text: it, selected: it === name })));
  }

  follow.disabled = !name;
  if (name) begin();
  else said.replaceChildren(empty("Choose a function to follow its log."));
  pressed(Boolean(name));
  return { element, update, leave: stop };
}
