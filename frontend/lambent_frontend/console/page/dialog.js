// The one dialog of the page: the browser keeps the focus in it, and Escape closes it.

import { h } from "./dom.js";

const dialog = document.getElementById("dialog");
let opener = null;

export function openDialog(title, body) {
  const close = h("button", { type: "button", class: "quiet", "aria-label": "Close", text: "Close", on: { click: () => dialog.close() } });
  dialog.replaceChildren(h("header", {}, h("h2", { id: "dialog-title", text: title }), close), body);
  if (dialog.open) return;
  opener = document.activeElement;
  dialog.showModal();
}

dialog.addEventListener("click", (event) => {
  if (event.target === dialog || event.target.closest("a")) dialog.close();
});
addEventListener("hashchange", () => dialog.close());
dialog.addEventListener("close", () => {
  if (opener?.isConnected) opener.focus();
});
