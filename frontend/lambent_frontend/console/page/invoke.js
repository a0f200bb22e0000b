// Invokes a function from the page.

import { call, fromBase64, toBase64 } from "./api.js";
import { explain } from "./calls.js";
import { h, ms, problem } from "./dom.js";

const MOST = 700_000;

export function invokePanel(name) {
  const event = h("textarea", { rows: "6", spellcheck: "false", autocapitalize: "off", "aria-label": "Event, as JSON" });
  event.value = "{}";
  const qualifier = h("input", { type: "text", placeholder: "$LATEST", "aria-label": "Version or alias", spellcheck: "false", size: "12" });
  const later = h("input", { type: "checkbox" });
  const go = h("button", { type: "submit", class: "main", text: "Invoke" });
  const answer = h("div", { class: "answer", "aria-live": "polite" });
  const form = h("form", { class: "invoke" },
    h("label", { class: "field-label" }, h("span", { text: "Event" }), event),
    h("div", { class: "controls" },
      go,
      h("label", { class: "inline" }, h("span", { text: "Version or alias" }), qualifier),
      h("label", { class: "inline" }, later, h("span", { text: "asynchronous" })),
      h("small", { class: "hint", text: "Ctrl + Enter" })),
    answer);

  event.addEventListener("keydown", (pressed) => {
    if (pressed.key === "Enter" && (pressed.ctrlKey || pressed.metaKey)) {
      pressed.preventDefault();
      form.requestSubmit();
    }
  });
  form.addEventListener("submit", async (submitted) => {
    submitted.preventDefault();
    if (go.disabled) return;
    const wrong = faultOf(event.value);
    event.setAttribute("aria-invalid", wrong ? "true" : "false");
    if (wrong) {
      answer.replaceChildren(problem({ message: wrong }));
      return;
    }
    go.disabled = true;
    answer.replaceChildren(h("p", { class: "hint", text: "It runs…" }));
    try {
      answer.replaceChildren(...shown(await call("Invoke", asked()), later.checked));
    } catch (error) {
      answer.replaceChildren(problem(error));
    } finally {
      go.disabled = false;
    }
  });

  function asked() {
    const full = qualifier.value.trim() ? `${name}:${qualifier.value.trim()}` : name;
    const request = { function_name: full, payload: toBase64(event.value.trim() || "{}") };
    if (later.checked) return { ...request, invocation_type: "INVOCATION_TYPE_EVENT" };
    return { ...request, log_type: "LOG_TYPE_TAIL" };
  }

  return form;
}

function faultOf(text) {
  if (text.length > MOST) return "The page sends events of 700,000 characters at the most. The APIs take more.";
  try {
    JSON.parse(text.trim() || "{}");
    return "";
  } catch (error) {
    return `The event is not JSON: ${error.message}`;
  }
}

function shown(done, taken) {
  if (taken) {
    return [
      h("p", { class: "line" }, h("span", { class: "badge", "data-kind": "good", text: "taken" }), h("code", { text: done.request_id })),
      h("p", { class: "hint", text: "It is in the queue, and runs until it succeeds or is given up." }),
    ];
  }
  const told = done.explanation;
  const log = fromBase64(done.log_tail);
  return [
    h("p", { class: "line" },
      h("span", { class: "badge", "data-kind": done.function_error ? "bad" : "good", text: done.function_error ? "function error" : "succeeded" }),
      h("span", { text: `${told.start} on ${told.node}, ${ms(told.waiting_ms + told.running_ms)}` }),
      h("button", { type: "button", class: "link", text: "Explain", on: { click: () => explain(done.request_id) } })),
    h("pre", { class: "payload", tabindex: "0", "aria-label": "Answer", text: pretty(fromBase64(done.payload)) }),
    ...(log ? [h("details", { open: Boolean(done.function_error) }, h("summary", { text: "Log" }), h("pre", { class: "payload log", tabindex: "0", text: log }))] : []),
  ];
}

function pretty(text) {
  if (text.length > 200_000) return text;
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}
