// The pages work without this. With it, filters apply as they change, times are
// local, and changes appear as they happen.

import { Live, ago } from "./intel-panel.js";

// localize shows the times below a node in local form. The exact time is in title.
function localize(node) {
  for (const t of node.querySelectorAll("time[datetime]")) {
    const at = new Date(t.dateTime);
    if (Number.isNaN(at.getTime())) continue;
    t.textContent = t.classList.contains("ago") ? ago(at) : at.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
  }
}

const form = document.querySelector("form.filters");
const status = document.getElementById("live");
const said = document.getElementById("said");
let current = null; // AbortController of the page being loaded
let alive = null; // whether changes arrive; null if that is not known

// say shows whether the page is live, or what is wrong with it.
function say(problem = "") {
  status.textContent = problem || (alive === null ? "" : alive ? "live" : "not live, trying again");
  status.classList.toggle("on", !problem && alive === true);
}

// show loads the page at a path and takes its parts over: the results alone if nothing
// else has changed.
async function show(url, { quiet = false } = {}) {
  current?.abort();
  const mine = (current = new AbortController());
  const results = document.getElementById("results");
  if (!quiet) results.setAttribute("aria-busy", "true");
  try {
    const r = await fetch(location.origin + url, { signal: mine.signal, headers: { Accept: "text/html", ...(quiet ? {} : { "X-Part": "results" }) } });
    if (!(r.headers.get("Content-Type") || "").startsWith("text/html")) throw new Error("the server answers " + r.status);
    const page = new DOMParser().parseFromString(await r.text(), "text/html");
    if (mine !== current) return; // too late
    for (const id of ["results", "side"]) {
      const from = page.getElementById(id), to = document.getElementById(id);
      if (!from || !to) continue;
      const focus = to.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
      const open = [...to.querySelectorAll("details")].map((d) => d.open);
      to.replaceChildren(...from.childNodes);
      to.querySelectorAll("details").forEach((d, i) => { d.open = !!open[i]; });
      localize(to);
      if (focus) to.querySelector('a[href="' + CSS.escape(focus) + '"]')?.focus();
    }
    results.setAttribute("aria-busy", "false");
    document.documentElement.dataset.shown = url;
    document.getElementById("clear").hidden = location.search === "";
    say();
    if (!quiet) { // for who does not see it
      const n = results.querySelectorAll("tbody tr").length;
      said.textContent = n === 0 ? "No attackers" : n === 1 ? "1 attacker" : results.querySelector("[rel=next]") ? "The first " + n + " attackers" : n + " attackers";
    }
  } catch (err) {
    if (mine !== current) return;
    results.setAttribute("aria-busy", "false");
    say("The page could not be brought up to date.");
  } finally {
    if (mine === current) current = null;
  }
}

// filtered returns the URL of what the form says, without what is empty.
function filtered() {
  const query = new URLSearchParams();
  for (const [name, value] of new FormData(form)) if (value) query.append(name, value);
  const text = query.toString();
  return text ? "/?" + text : "/";
}

// fill makes the form say what the URL says.
function fill() {
  const query = new URLSearchParams(location.search);
  for (const e of form.elements) {
    if (e.type === "checkbox") e.checked = query.getAll("verdict").join(",").split(",").includes(e.value);
    else if (e.name) e.value = query.get(e.name) || "";
  }
}

if (form) {
  let timer = 0;
  let typed = false; // the last change was one of typing, which goes back as a whole
  const apply = (typing) => {
    clearTimeout(timer);
    const url = filtered();
    if (url === location.pathname + location.search) return;
    history[typing && typed ? "replaceState" : "pushState"](null, "", url);
    typed = typing;
    show(url);
  };
  form.addEventListener("submit", (e) => { e.preventDefault(); apply(false); });
  form.addEventListener("change", () => apply(false));
  form.addEventListener("input", (e) => {
    if (e.target.type !== "search") return;
    clearTimeout(timer);
    timer = setTimeout(apply, 120, true);
  });
  window.addEventListener("popstate", () => { typed = false; fill(); show(location.pathname + location.search); });
}

localize(document);
setInterval(() => localize(document), 30000);

// follow brings the page up to date when something changes, at most every two seconds.
function follow() {
  let last = 0, pending = 0, pressed = false;
  for (const type of ["pointerdown", "pointerup", "pointercancel", "pointermove"]) window.addEventListener(type, (e) => { pressed = e.buttons > 0; }, { capture: true, passive: true });
  const refresh = () => {
    if (pending) return;
    pending = setTimeout(() => {
      pending = 0;
      if (document.hidden) return; // it is done when the page is seen again
      if (current || pressed || getSelection().type === "Range") return refresh(); // nothing goes away under a click, or that is being copied
      last = Date.now();
      show(location.pathname + location.search, { quiet: true });
    }, Math.max(200, 2000 - (Date.now() - last)));
  };
  document.addEventListener("visibilitychange", () => { if (!document.hidden) refresh(); });
  Live.join("", "", {
    refresh,
    live(on) {
      alive = on;
      say();
    },
  });
}
if (form) follow();
