// Puts what the server sends in place of what is shown. Without this script
// every page works as well, and shows what was there when it was loaded.
"use strict";
const state = document.querySelector("[data-live-state]");
for (const part of document.querySelectorAll("[data-live]")) {
  const say = text => { if (state) { state.textContent = text; state.classList.remove("hidden"); } };
  // What has not changed stays as it is, so that it can be clicked meanwhile.
  const show = html => {
    const next = document.createElement("div");
    next.innerHTML = html;
    if (next.innerHTML === part.innerHTML) return;
    const focused = part.contains(document.activeElement) ? document.activeElement.id : "";
    for (const row of next.querySelectorAll("tr[id]")) {
      const old = document.getElementById(row.id);
      if (old && old.outerHTML === row.outerHTML) row.replaceWith(old);
    }
    part.replaceChildren(...next.childNodes);
    if (focused) document.getElementById(focused)?.focus();
  };
  // A click is of one thing that was pressed and let go: nothing moves in between.
  let pressed = false, waiting = null;
  part.addEventListener("pointerdown", () => { pressed = true; });
  for (const end of ["pointerup", "pointercancel"]) addEventListener(end, () => setTimeout(() => {
    pressed = false;
    if (waiting !== null) show(waiting);
    waiting = null;
  }));
  const source = new EventSource(part.dataset.live);
  source.onopen = () => say("Live");
  source.onerror = () => say(source.readyState === EventSource.CLOSED ? "Not live: load the page again" : "Not live: connecting again");
  source.onmessage = event => { if (pressed) waiting = event.data; else show(event.data); };
}
