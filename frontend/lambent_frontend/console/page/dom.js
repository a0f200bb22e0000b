// Elements and words. Everything that came from elsewhere becomes text, never markup.

/** `on` are listeners, `style` are properties; what is false, null or undefined is left out. */
export function h(tag, props = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === false || value === null || value === undefined) continue;
    if (name === "on") for (const [event, listener] of Object.entries(value)) made.addEventListener(event, listener);
    else if (name === "style") for (const [property, it] of Object.entries(value)) made.style.setProperty(property, it);
    else if (name === "text") made.textContent = value;
    else if (name === "class") made.className = value;
    else made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat().filter((it) => it !== null && it !== undefined && it !== false));
  return made;
}

export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Makes the children of `parent` those of `items`, in their order, and keeps the elements that are there. */
export function keyed(parent, items, keyOf, make, update) {
  const there = (parent.keyed ??= new Map());
  const wanted = new Set();
  let before = parent.firstElementChild;
  for (const item of items) {
    const key = keyOf(item);
    if (wanted.has(key)) continue;
    wanted.add(key);
    let element = there.get(key);
    if (!element) {
      element = make(item);
      there.set(key, element);
    }
    update?.(element, item);
    if (element === before) before = before.nextElementSibling;
    else parent.insertBefore(element, before);
  }
  for (const [key, element] of there) {
    if (!wanted.has(key)) {
      element.remove();
      there.delete(key);
    }
  }
}

export const number = (value, digits = 0) =>
  Number(value).toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits });

export const rate = (value) => number(value, value > 0 && value < 100 ? 1 : 0);

export const share = (part, whole) => {
  if (!Number(whole)) return "–";
  const percent = (100 * Number(part)) / Number(whole);
  return `${number(percent, percent > 0 && percent < 10 ? 1 : 0)} %`;
};

export const ms = (value) => {
  if (value >= 10_000) return `${number(value / 1000, 1)} s`;
  return `${number(value, value < 10 ? 1 : 0)} ms`;
};

export const memory = (mb) => (mb >= 10_240 ? `${number(mb / 1024, 0)} GB` : `${number(mb)} MB`);

export const ago = (seconds) => {
  if (seconds < 1) return "now";
  if (seconds < 90) return `${Math.round(seconds)} s ago`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min ago`;
  return `${Math.round(seconds / 3600)} h ago`;
};

export const clock = (date) => date.toLocaleTimeString("en-GB");

export const short = (id) => (id.length > 13 ? `${id.slice(0, 8)}…` : id);

const HUES = [28, 212, 142, 330, 265, 178, 52, 0, 92, 300];
const hues = new Map();

/** A function keeps its colour as long as the page lives, and mostly over all pages: it is by its name, unless
 * another one has that colour. */
export function hue(name) {
  if (!hues.has(name)) {
    let slot = 0;
    for (const letter of name) slot = (slot * 31 + letter.codePointAt(0)) % 65_521;
    const taken = new Set(hues.values());
    const round = Math.floor(hues.size / HUES.length);
    slot %= HUES.length;
    while (taken.has(slot + round * HUES.length)) slot = (slot + 3) % HUES.length;
    hues.set(name, slot + round * HUES.length);
  }
  const slot = hues.get(name);
  return String((HUES[slot % HUES.length] + 14 * Math.floor(slot / HUES.length)) % 360);
}

export const chip = (name) => h("span", { class: "chip", style: { "--h": hue(name) } });

export const functionLink = (name) =>
  h("a", { class: "function", href: `#/functions/${encodeURIComponent(name)}` }, chip(name), h("span", { text: name }));

export const empty = (text, more) => h("p", { class: "empty" }, h("span", { text }), more ?? null);

/** What could not be had, and why, in the place where it would be. */
export const problem = (error) =>
  h(
    "p",
    { class: "empty bad" },
    h("span", { text: error.code === "PERMISSION_DENIED" ? `Your key has no right to this: ${error.message}` : error.message }),
  );
