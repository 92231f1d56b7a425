// The rules of axe-core's names that apply to pages such as ours, on what is seen now.
// Returns what breaks them, a line each.
"use strict";
const tree = arguments[0]; // of accessibility: role, name, ignored, by the selector data-access
const wrong = [];
const tell = (rule, e, why) => wrong.push(rule + ": " + why + (e ? ": " + e.outerHTML.slice(0, 160) : ""));
const all = selector => [...document.querySelectorAll(selector)];
const seen = e => e.checkVisibility({ checkOpacity: true, checkVisibilityCSS: true }) && e.getClientRects().length > 0;
const clipped = e => { // for eyes only: it is said, and not shown
  for (let p = e; p; p = p.parentElement) {
    const s = getComputedStyle(p), r = p.getBoundingClientRect();
    if (s.clipPath !== "none" && r.width <= 1 && r.height <= 1 || r.right < 0 || r.bottom + scrollY < 0) return true;
  }
  return false;
};
const nodes = tree.map(n => ({ ...n, e: document.querySelector(`[data-access="${n.at}"]`) })).filter(n => n.e);

// html-has-lang, html-lang-valid, document-title, meta-viewport, meta-refresh
const lang = document.documentElement.lang;
if (!/^[a-z]{2,3}(-[A-Za-z0-9]+)*$/.test(lang)) tell("html-has-lang", null, "the language is " + JSON.stringify(lang));
if (!document.title.trim()) tell("document-title", null, "there is none");
for (const m of all("meta[name=viewport]")) {
  if (/user-scalable\s*=\s*(no|0)/.test(m.content) || /maximum-scale\s*=\s*[0-4](\.|\s|,|$)/.test(m.content)) tell("meta-viewport", m, "it keeps from zooming");
}
if (all("meta[http-equiv=refresh]").length) tell("meta-refresh", null, "the page loads itself again");

// duplicate-id, duplicate-id-aria, aria-valid-attr-value: what is referred to is there
const ids = all("[id]").map(e => e.id);
for (const id of new Set(ids)) if (ids.filter(i => i === id).length > 1) tell("duplicate-id", document.getElementById(id), "two things have it");
for (const name of ["aria-labelledby", "aria-describedby", "aria-controls", "for"]) {
  for (const e of all(`[${name}]`)) for (const id of e.getAttribute(name).split(/\s+/)) {
    if (!document.getElementById(id)) tell("aria-valid-attr-value", e, "there is no " + id);
  }
}

// landmark-one-main, region, landmark-unique, bypass, banner and navigation at the top level
const mains = all("main").filter(seen);
if (mains.length !== 1) tell("landmark-one-main", null, "there are " + mains.length);
const landmarks = "header, main, nav, footer, aside, [role=search], [role=alert], [role=status]";
const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
const texts = [];
while (walk.nextNode()) {
  const e = walk.currentNode.parentElement;
  if (walk.currentNode.data.trim() && !/^(SCRIPT|STYLE|NOSCRIPT|OPTION|TITLE)$/.test(e.tagName) && !e.closest("noscript") && seen(e)) texts.push(e);
}
for (const e of texts) if (!e.closest(landmarks) && !e.matches("a[href^='#']")) tell("region", e, "outside of every landmark");
const named = {};
for (const n of nodes) {
  if (!["navigation", "search", "form", "region", "complementary"].includes(n.role) || !seen(n.e)) continue;
  if (n.role === "form" && !n.name) continue; // one without a name is no landmark
  const key = n.role + " " + n.name;
  if (named[key]) tell("landmark-unique", n.e, "another " + key);
  named[key] = true;
}
const skip = document.body.querySelector("a");
if (!skip || !skip.hash || !document.querySelector(skip.hash)) tell("bypass", skip, "the first link does not skip to the content");

// page-has-heading-one, heading-order, empty-heading
const headings = all("h1, h2, h3, h4, h5, h6").filter(seen);
if (headings.filter(h => h.tagName === "H1").length !== 1) tell("page-has-heading-one", null, "there are " + headings.filter(h => h.tagName === "H1").length);
headings.reduce((before, h) => {
  const level = Number(h.tagName[1]);
  if (level > before + 1) tell("heading-order", h, "it follows one of level " + before);
  if (!h.textContent.trim()) tell("empty-heading", h, "it says nothing");
  return level;
}, 0);

// button-name, link-name, label, select-name, input-button-name, summary-name, image-alt,
// svg-img-alt, aria-command-name: by the names that the browser itself has made
const wants = /^(button|link|textbox|searchbox|checkbox|combobox|spinbutton|radio|listbox|DisclosureTriangle|image|dialog|menuitem|switch|slider)$/;
for (const n of nodes) if (wants.test(n.role) && !n.name.trim()) tell("name", n.e, "the " + n.role + " has none");
for (const e of all("input, select, textarea").filter(e => e.type !== "hidden" && seen(e))) {
  if (!e.labels?.length && !e.getAttribute("aria-label") && !e.getAttribute("aria-labelledby")) tell("label", e, "a placeholder is no label");
}
// label-content-name-mismatch: who speaks to a browser says what is read
for (const n of nodes) {
  const text = n.e.innerText?.trim().replace(/\s+/g, " ");
  if (/^(button|link)$/.test(n.role) && text && /\p{L}/u.test(text) && !n.name.toLowerCase().includes(text.toLowerCase())) tell("label-content-name-mismatch", n.e, `it reads ${text} and is called ${n.name}`);
}

// list, definition-list, dlitem, td-headers, th-has-data-cells, scope, empty-table-header
for (const e of all("ul > *, ol > *")) if (!/^(LI|SCRIPT|TEMPLATE)$/.test(e.tagName)) tell("list", e, "it is no item");
for (const e of all("dl > *")) if (!/^(DT|DD|DIV)$/.test(e.tagName)) tell("definition-list", e, "it is neither term nor description");
for (const e of all("th")) {
  if (!e.textContent.trim()) tell("empty-table-header", e, "it says nothing");
  if (!/^(col|row|colgroup|rowgroup)$/.test(e.scope)) tell("scope-attr-valid", e, "of what is it the header?");
}

// aria-allowed-role, aria-required-children and the like: few roles are written, and these
const roles = { alert: "DIV P", status: "DIV P", search: "FORM" };
for (const e of all("[role]")) if (!roles[e.getAttribute("role")]?.split(" ").includes(e.tagName)) tell("aria-allowed-role", e, "not here");
for (const e of all("[aria-hidden=true]")) if (e.matches("a, button, input, select, summary") || e.querySelector("a, button, input, select, summary")) tell("aria-hidden-focus", e, "it can be focused");
for (const e of all("[aria-live]")) if (!/^(polite|assertive|off)$/.test(e.getAttribute("aria-live"))) tell("aria-valid-attr-value", e, "no way of being live");

// tabindex, nested-interactive, scrollable-region-focusable
const controls = all("a[href], button, input:not([type=hidden]), select, textarea, summary").filter(seen);
for (const e of all("[tabindex]")) if (e.tabIndex > 0) tell("tabindex", e, "it comes before what stands before it");
for (const e of controls) {
  if (e.parentElement.closest("a, button, summary")) tell("nested-interactive", e, "it is in another control");
  if (e.tabIndex < 0 && !e.disabled) tell("focusable", e, "the keyboard does not reach it");
}

// target-size (WCAG 2.2, 2.5.8): 24 by 24 pixels, or as much room around it
const box = e => e.getBoundingClientRect();
const centre = r => [r.left + r.width / 2, r.top + r.height / 2];
const targets = controls.filter(e => !clipped(e));
for (const e of targets) {
  const r = box(e);
  if (Math.min(r.width, r.height) >= 24 || getComputedStyle(e).display === "inline" && e.parentElement.innerText.trim() !== e.innerText.trim()) continue; // in a sentence
  const [x, y] = centre(r);
  const near = targets.find(o => {
    if (o === e) return false;
    const q = box(o), dx = Math.max(q.left - x, 0, x - q.right), dy = Math.max(q.top - y, 0, y - q.bottom);
    return Math.hypot(dx, dy) < 12 || Math.min(q.width, q.height) < 24 && Math.hypot(centre(q)[0] - x, centre(q)[1] - y) < 24;
  });
  if (near) tell("target-size", e, `${r.width} by ${r.height}, too near to ${near.outerHTML.slice(0, 60)}`);
}

// color-contrast (WCAG 2.1, 1.4.3, and the definitions of relative luminance and contrast
// ratio): 4.5, or 3 of large text; of controls' edges 3 (1.4.11)
const colour = text => {
  const m = text.match(/[\d.]+/g)?.map(Number) ?? [0, 0, 0, 0];
  return { r: m[0], g: m[1], b: m[2], a: m[3] ?? 1 };
};
const over = (top, below) => ({ // below is opaque
  r: top.r * top.a + below.r * (1 - top.a), g: top.g * top.a + below.g * (1 - top.a), b: top.b * top.a + below.b * (1 - top.a), a: 1,
});
const luminance = c => {
  const [r, g, b] = [c.r, c.g, c.b].map(v => { v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const contrast = (a, b) => {
  const [high, low] = [luminance(a), luminance(b)].sort((x, y) => y - x);
  return (high + 0.05) / (low + 0.05);
};
const ground = e => {
  const layers = [];
  for (let p = e; p; p = p.parentElement) layers.push(colour(getComputedStyle(p).backgroundColor));
  return layers.reverse().reduce((below, c) => over(c, below), colour("rgb(255, 255, 255)"));
};
let least = Infinity;
const measure = (e, text, style) => {
  const size = parseFloat(style.fontSize), large = size >= 24 || size >= 18.66 && Number(style.fontWeight) >= 700;
  const below = ground(e), ratio = contrast(over(colour(text), below), below);
  least = Math.min(least, ratio);
  if (ratio < (large ? 3 : 4.5)) tell("color-contrast", e, `${ratio.toFixed(2)} of ${text}`);
};
for (const e of texts) if (!clipped(e) && !e.closest(":disabled")) measure(e, getComputedStyle(e).color, getComputedStyle(e));
for (const e of controls) {
  if (clipped(e)) continue;
  const s = getComputedStyle(e);
  if (/^(INPUT|SELECT|TEXTAREA)$/.test(e.tagName) && e.type !== "checkbox") {
    measure(e, s.color, s);
    if (e.placeholder) measure(e, getComputedStyle(e, "::placeholder").color, s);
    const edge = contrast(over(colour(s.borderTopColor), ground(e.parentElement)), ground(e.parentElement));
    if (edge < 3) tell("non-text-contrast", e, "its edge has " + edge.toFixed(2));
  }
}
for (const e of all("td")) {
  const s = getComputedStyle(e, "::before");
  if (s.content !== "none" && s.content !== "normal" && seen(e)) measure(e, s.color, s);
}

// link-in-text-block: a link in a sentence is not told by its colour alone
for (const e of all("p a").filter(seen)) {
  if (e.parentElement.innerText.trim() !== e.innerText.trim() && !getComputedStyle(e).textDecorationLine.includes("underline")) tell("link-in-text-block", e, "nothing but its colour says so");
}

// reflow (WCAG 2.1, 1.4.10), and no text that is cut off
if (document.documentElement.scrollWidth > innerWidth) tell("reflow", null, `it is ${document.documentElement.scrollWidth} px wide on ${innerWidth}`);

for (const e of all("[data-access]")) e.removeAttribute("data-access"); // the page is as it was
return { wrong, least, texts: texts.length, controls: controls.length, named: nodes.filter(n => wants.test(n.role)).length };
