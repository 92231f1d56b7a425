// Puts what the server sends in place of what is shown. Without this script
// every page works as well, and shows what was there when it was loaded.
"use strict";
const state = document.querySelector("[data-live-state]");
for (const part of document.querySelectorAll("[data-live]")) {
  const say = text => { if (state) { state.textContent = text; state.classList.remove("hidden"); } };
  const source = new EventSource(part.dataset.live);
  source.onopen = () => say("Live");
  source.onerror = () => say(source.readyState === EventSource.CLOSED ? "Not live: load the page again" : "Not live: connecting again");
  source.onmessage = event => {
    const focused = part.contains(document.activeElement) ? document.activeElement.id : "";
    part.innerHTML = event.data;
    if (focused) document.getElementById(focused)?.focus();
  };
}
