// <intel-panel uuid="..."> shows what threat-intelligence sources say about an
// attacker, and why the verdict is what it is. It needs no framework and no build
// step: load it with <script type="module" src=".../intel-panel.js">.
//
// Attributes: uuid, the attacker's; base, the origin of the API if it is not that of
// the page; token, a bearer token (as a property it may also be a function); nolive,
// to stay as it was loaded. The attribute state is loading, absent, error or ok, and
// each change of it is announced by an event "intel-state".
//
// Text from sources is hostile: it only ever becomes text, is cut, and shows control
// characters as escapes.

const maxText = 300; // characters of one value
const maxRaw = 64 * 1024; // characters of a raw answer
const maxList = 50; // values of a list, attributes, sources
const titles = { greynoise: "GreyNoise", abuseipdb: "AbuseIPDB", feodo: "Feodo Tracker", threatfox: "ThreatFox" };
const verdicts = ["malicious", "suspicious", "benign", "unknown"];

const css = `
:host { display: block; color-scheme: light dark; font: 400 1rem/1.45 system-ui, sans-serif; container-type: inline-size;
  --ip-bg: light-dark(#ffffff, #14171c); --ip-fg: light-dark(#1b2028, #e6eaf0); --ip-soft: light-dark(#56606d, #a7b1be);
  --ip-line: light-dark(#d5dae1, #343b46); --ip-panel: light-dark(#f5f7f9, #1b2027);
  --ip-malicious: light-dark(#a9211a, #ff9088); --ip-suspicious: light-dark(#835100, #ffc670);
  --ip-benign: light-dark(#17663a, #7fdca0); --ip-none: light-dark(#56606d, #a7b1be); --ip-focus: light-dark(#0b57d0, #8ab4ff);
  background: var(--ip-bg); color: var(--ip-fg); border: 1px solid var(--ip-line); border-radius: .5rem; overflow-wrap: anywhere; overflow-x: clip; }
:host([hidden]) { display: none; }
* { box-sizing: border-box; }
h2, h3, p, dl, dd, ul, pre { margin: 0; padding: 0; }
h2 { display: inline; font-size: .8rem; letter-spacing: .08em; text-transform: uppercase; }
summary { cursor: pointer; }
summary:focus-visible, button:focus-visible, pre:focus-visible { outline: 3px solid var(--ip-focus); outline-offset: 2px; border-radius: .25rem; }
.panel > summary { padding: .75rem 1rem; color: var(--ip-soft); min-height: 1.5rem; }
.body { padding: 0 1rem 1rem; display: grid; grid-template-columns: minmax(0, 1fr); gap: .9rem; }
.verdict { display: flex; gap: .6rem; align-items: center; font-weight: 700; font-size: 1.35rem; letter-spacing: .02em; color: var(--ip-none); }
.verdict svg { width: 1.6rem; height: 1.8rem; flex: none; fill: none; stroke: currentColor; stroke-width: 2; stroke-linejoin: round; stroke-linecap: round; }
.malicious { color: var(--ip-malicious); } .suspicious { color: var(--ip-suspicious); } .benign { color: var(--ip-benign); } .none, .unknown { color: var(--ip-none); }
.soft { color: var(--ip-soft); font-size: .875rem; }
.meta { display: flex; flex-wrap: wrap; gap: .1rem 1.25rem; }
.sources { list-style: none; display: grid; grid-template-columns: minmax(0, 1fr); gap: .5rem; }
.source { border: 1px solid var(--ip-line); border-inline-start: .3rem solid var(--ip-line); border-radius: .4rem; padding: .6rem .75rem; background: var(--ip-panel); }
.source.is-malicious { border-inline-start-color: var(--ip-malicious); } .source.is-suspicious { border-inline-start-color: var(--ip-suspicious); } .source.is-benign { border-inline-start-color: var(--ip-benign); }
.top { display: grid; grid-template-columns: minmax(7rem, 10rem) minmax(0, 1fr) auto; gap: .1rem .75rem; align-items: baseline; }
h3 { font-size: 1rem; font-weight: 600; }
.answer { font-weight: 600; }
.mark { border: 1px solid currentColor; border-radius: 1rem; padding: 0 .5rem; font-size: .75rem; font-weight: 600; color: var(--ip-suspicious); }
.more { margin-top: .35rem; font-size: .875rem; }
.more > summary { color: var(--ip-soft); width: fit-content; padding: .15rem 0; min-height: 1.5rem; }
dl { display: grid; grid-template-columns: minmax(6rem, auto) minmax(0, 1fr); gap: .1rem .9rem; padding: .35rem 0; }
dt { color: var(--ip-soft); }
pre { white-space: pre-wrap; font: .8rem/1.4 ui-monospace, monospace; max-height: 20rem; overflow: auto; background: var(--ip-bg); border: 1px solid var(--ip-line); border-radius: .3rem; padding: .5rem; margin-top: .35rem; }
button { font: inherit; color: inherit; background: var(--ip-bg); border: 1px solid var(--ip-soft); border-radius: .3rem; padding: .2rem .7rem; min-height: 1.75rem; cursor: pointer; }
.error { color: var(--ip-malicious); }
.hidden { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
bdi { unicode-bidi: isolate; }
@container (max-width: 30rem) { .top { grid-template-columns: minmax(0, 1fr) auto; } .top .answer { grid-column: 1 / -1; grid-row: 2; } dl { grid-template-columns: minmax(0, 1fr); } dd { margin-bottom: .3rem; } .body { padding: 0 .75rem .75rem; } }
@media (prefers-reduced-motion: no-preference) { .verdict { transition: color .2s; } }
`;
let sheet;

// shown returns any value as text that is safe to show: well-formed, cut, and with
// escapes for what is invisible or turns the direction of text.
function shown(value, max = maxText) {
  let s;
  if (typeof value === "string") s = value;
  else if (value === null || value === undefined) return "none";
  else if (Array.isArray(value)) s = value.slice(0, maxList).map((v) => shown(v, 80)).join(", ") + (value.length > maxList ? ", …" : "");
  else if (typeof value === "object") { try { s = JSON.stringify(value); } catch { s = "?"; } }
  else s = String(value);
  const cut = s.length > max;
  if (cut) s = s.slice(0, max);
  const escape = (c) => (c === "\n" && max > maxText ? c : "\\u{" + c.codePointAt(0).toString(16) + "}");
  s = s.replace(/[\p{Cc}\p{Cf}\p{Cs}\p{Cn}\p{Co}\u2028\u2029]/gu, escape).replace(/(?<=\p{M}{3})\p{M}+/gu, ""); // marks pile up over other text
  return cut ? s + "…" : s;
}

const text = (v) => (typeof v === "string" ? v : "");
const list = (v) => (Array.isArray(v) ? v : []);
const object = (v) => (v && typeof v === "object" && !Array.isArray(v) ? v : {});
const number = (v) => (typeof v === "number" && Number.isFinite(v) ? v : 0);

// el returns an element with properties and children; strings become text.
function el(name, props, ...children) {
  const e = document.createElement(name);
  for (const [key, value] of Object.entries(props || {})) {
    if (key === "class") e.className = value;
    else if (key.startsWith("on")) e.addEventListener(key.slice(2), value);
    else e.setAttribute(key, value);
  }
  e.append(...children.filter((c) => c !== null && c !== undefined));
  return e;
}

// hostile returns text of others, isolated from the direction of the text around it.
function hostile(value) { return el("bdi", null, shown(value)); }

function shield(kind) {
  const ns = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(ns, "svg");
  svg.setAttribute("viewBox", "0 0 24 27");
  svg.setAttribute("aria-hidden", "true");
  const marks = { malicious: "M8 9l8 8M16 9l-8 8", suspicious: "M12 8v6M12 18v.01", benign: "M8 13l3 3 5-6" };
  for (const d of ["M12 2l9 3v8c0 6-4 10-9 12-5-2-9-6-9-12V5z", marks[kind] || "M8 13h8"]) {
    const path = document.createElementNS(ns, "path");
    path.setAttribute("d", d);
    svg.append(path);
  }
  return svg;
}

function instant(value) {
  const t = new Date(text(value));
  return Number.isNaN(t.getTime()) ? null : t;
}

const relative = new Intl.RelativeTimeFormat(undefined, { numeric: "auto" });

function ago(t) {
  const s = (t.getTime() - Date.now()) / 1000, a = Math.abs(s);
  if (a < 60) return relative.format(Math.round(s), "second");
  if (a < 3600) return relative.format(Math.round(s / 60), "minute");
  if (a < 172800) return relative.format(Math.round(s / 3600), "hour");
  return relative.format(Math.round(s / 86400), "day");
}

// when returns a time in local form, with the exact time on hover.
function when(value, how = "local") {
  const t = instant(value);
  if (!t) return el("span", null, "—");
  const exact = t.toISOString();
  const local = t.toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
  return el("time", { datetime: exact, title: exact }, how === "ago" ? ago(t) : local);
}

// headline says in a few words what a source answered.
function headline(s) {
  const attrs = object(s.attrs);
  if (s.answered !== true) return "no answer yet";
  switch (s.provider) {
    case "greynoise":
      return text(attrs.classification) || text(s.verdict) || "no answer";
    case "abuseipdb":
      if (typeof attrs.score === "number") return "confidence " + attrs.score + "/100";
      break;
    case "feodo":
      if (attrs.listed === true) return "known C2" + (attrs.malware_family ? ": " + shown(attrs.malware_family, 80) : "");
      if (attrs.listed === false) return "not on the blocklist";
      break;
    case "threatfox":
      if (attrs.listed === true) return "IOC match" + (list(attrs.malware_families).length ? ": " + shown(attrs.malware_families, 80) : "");
      if (attrs.listed === false) return "no match";
      break;
  }
  return text(s.verdict) || (s.known === true ? "listed, no opinion" : "not listed");
}

// place puts the four services that DECNET shows first, in its order.
function place(s) {
  const i = Object.keys(titles).indexOf(s.provider);
  return i < 0 ? Infinity : i;
}

const kindOf = (verdict) => (verdicts.includes(verdict) ? verdict : "none");

// Live is one stream of events for all panels with the same base and token. A panel's
// refresh is called when something about its uuid has changed, or anything if it has
// none, and its live, if it has one, when the stream begins and ends. A page that is
// hidden has no stream: a browser makes only six connections to a server for all tabs.
class Live {
  static all = new Map();
  static join(base, token, panel) {
    const key = base + "\n" + (typeof token === "function" ? "function" : token);
    let live = Live.all.get(key);
    if (!live) Live.all.set(key, (live = new Live(base, token, key)));
    live.panels.add(panel);
    return live;
  }
  constructor(base, token, key) {
    Object.assign(this, { base, token, key, panels: new Set(), lastID: "", stop: new AbortController(), pause: new AbortController() });
    document.addEventListener("visibilitychange", () => { if (document.hidden) this.pause.abort(); }, { signal: this.stop.signal });
    this.run();
  }
  leave(panel) {
    this.panels.delete(panel);
    if (this.panels.size === 0) {
      this.stop.abort();
      Live.all.delete(this.key);
    }
  }
  tell(uuid) {
    for (const p of this.panels) if (uuid === null || p.uuid === undefined || uuid === p.uuid) p.refresh();
  }
  async run() {
    for (let failures = 0; !this.stop.signal.aborted; ) {
      await visible();
      this.pause = new AbortController();
      try {
        const headers = await credentials(this.token);
        if (this.lastID) headers["Last-Event-ID"] = this.lastID;
        const r = await fetch(origin(this.base) + "/api/v1/intel/events", {
          headers, signal: AbortSignal.any([this.stop.signal, this.pause.signal]), cache: "no-store",
        });
        if (r.status === 404) return; // this server has no live events
        if (r.ok && r.body) {
          if (!this.lastID) this.tell(null); // something may have changed before the stream began
          failures = 0;
          for (const p of this.panels) p.live?.(true);
          await this.read(r.body.getReader());
        }
      } catch { /* the connection failed; try again */ }
      if (this.pause.signal.aborted) continue;
      failures++;
      for (const p of this.panels) p.live?.(false);
      await new Promise((done) => setTimeout(done, Math.min(30000, 500 * 2 ** failures) * (0.8 + 0.4 * Math.random())));
    }
  }
  async read(reader) {
    const decoder = new TextDecoder();
    for (let rest = ""; ; ) {
      const { value, done } = await reader.read();
      if (done) return;
      rest += decoder.decode(value, { stream: true });
      const blocks = rest.split("\n\n");
      rest = blocks.pop();
      if (rest.length > 1 << 20) return;
      const changed = new Set();
      for (const block of blocks) {
        const event = {};
        for (const line of block.split("\n")) {
          const i = line.indexOf(": ");
          if (i > 0) event[line.slice(0, i)] = line.slice(i + 2);
        }
        if (event.id) this.lastID = event.id;
        if (event.event === "reset") changed.add(null);
        else if (event.data) try { changed.add(text(JSON.parse(event.data).attacker_uuid)); } catch { /* not ours */ }
      }
      for (const uuid of changed) this.tell(uuid);
    }
  }
}

// origin is that of the API. It is written out, as a page whose own address has a
// password in it can load nothing by a relative one.
const origin = (base) => base || location.origin;

// visible waits until the page can be seen.
function visible() {
  if (!document.hidden) return null;
  return new Promise((done) => {
    document.addEventListener("visibilitychange", function seen() {
      if (document.hidden) return;
      document.removeEventListener("visibilitychange", seen);
      done();
    });
  });
}

async function credentials(token) {
  const t = typeof token === "function" ? await token() : token;
  return t ? { Authorization: "Bearer " + t } : {};
}

class IntelPanel extends HTMLElement {
  static observedAttributes = ["uuid", "base", "token", "nolive"];

  #root = this.attachShadow({ mode: "open" });
  #body = el("div", { class: "body" });
  #status = el("p", { class: "hidden", role: "status" });
  #token = "";
  #load = null; // AbortController of the request under way
  #live = null;
  #data = null;
  #raws = new Set(); // keys of the sources whose raw answer is wanted
  #hasRaws = false; // whether the data has raw answers
  #again = 0;
  #ticker = 0;

  constructor() {
    super();
    if (!sheet) {
      sheet = new CSSStyleSheet();
      sheet.replaceSync(css);
    }
    this.#root.adoptedStyleSheets = [sheet];
    const details = el("details", { class: "panel", open: "" }, el("summary", null, el("h2", null, "Threat intel")), this.#body);
    this.#root.append(details, this.#status);
  }

  get uuid() { return (this.getAttribute("uuid") || "").trim().toLowerCase(); }
  set uuid(v) { this.setAttribute("uuid", v); }
  get base() { return (this.getAttribute("base") || "").replace(/\/+$/, ""); }
  set base(v) { this.setAttribute("base", v); }
  get token() { return this.#token || this.getAttribute("token") || ""; }
  set token(v) {
    const same = v === this.#token || typeof v === "function" && typeof this.#token === "function"; // React makes a new one at each render
    this.#token = v;
    if (same && this.#live) this.#live.token = v;
    if (!same && this.isConnected) this.#restart();
  }
  get state() { return this.getAttribute("state"); }

  connectedCallback() {
    this.#ticker = setInterval(() => this.#age(), 30000);
    this.#restart();
  }
  disconnectedCallback() {
    clearInterval(this.#ticker);
    clearTimeout(this.#again);
    this.#again = 0;
    this.#load?.abort();
    this.#live?.leave(this);
    this.#live = this.#load = null;
  }
  attributeChangedCallback(name, before, after) {
    if (this.isConnected && before !== after) this.#restart();
  }

  // refresh loads what is known now, unless that was just done.
  refresh() {
    if (this.#again) return;
    this.#again = setTimeout(() => {
      this.#again = 0;
      this.#fetch();
    }, 150);
  }

  #restart() {
    this.#data = null;
    this.#raws.clear();
    this.#hasRaws = false;
    this.#live?.leave(this);
    this.#live = null;
    this.#body.replaceChildren(el("p", { class: "soft" }, "Loading…"));
    this.#fetch();
    if (!this.hasAttribute("nolive") && this.uuid) this.#live = Live.join(this.base, this.token, this);
  }

  #enter(state, message) {
    if (this.getAttribute("state") !== state) {
      this.setAttribute("state", state);
      this.dispatchEvent(new CustomEvent("intel-state", { detail: { state }, bubbles: true, composed: true }));
    }
    if (message && this.#status.textContent !== message) this.#status.textContent = message;
  }

  async #fetch() {
    this.#load?.abort();
    const load = (this.#load = new AbortController());
    this.setAttribute("aria-busy", "true");
    if (!this.#data) this.#enter("loading");
    const timeout = setTimeout(() => load.abort(), 30000);
    try {
      if (!this.uuid) throw new Error("This panel has no UUID.");
      const raws = this.#raws.size > 0;
      const x = await this.#ask(raws ? "?raw=true" : "", load.signal);
      if (load !== this.#load) return; // too late: another one was asked for
      this.#data = x;
      this.#hasRaws = raws;
      this.#show(x);
    } catch (err) {
      if (load !== this.#load) return;
      this.#fail(load.signal.aborted ? new Error("The answer took too long.") : err);
    } finally {
      clearTimeout(timeout);
      if (load === this.#load) {
        this.#load = null;
        this.setAttribute("aria-busy", "false");
      }
    }
  }

  // ask returns the explanation, and null if there is no such attacker.
  async #ask(query, signal) {
    const url = origin(this.base) + "/api/v1/attackers/" + encodeURIComponent(this.uuid) + "/intel/explain" + query;
    const r = await fetch(url, { headers: { Accept: "application/json", ...(await credentials(this.token)) }, signal, cache: "no-store" });
    if (r.status === 404) return null;
    if (r.status === 401 || r.status === 403) throw new Error("The server asks for a token.");
    if (!r.ok) throw new Error("The server answers " + r.status + ".");
    const x = await r.json();
    if (!x || typeof x !== "object" || Array.isArray(x)) throw new Error("The answer makes no sense.");
    return x;
  }

  #fail(err) {
    const message = "The intel could not be loaded. " + (err instanceof SyntaxError ? "The answer makes no sense." : err instanceof TypeError ? "The server cannot be reached." : err.message);
    if (this.#data) { // what is shown stays
      this.#show(this.#data);
      this.#enter(this.state, message);
      return;
    }
    this.#enter("error", message);
    this.#body.replaceChildren(el("p", { class: "error" }, message), el("p", null, el("button", { type: "button", onclick: () => this.#restart() }, "Try again")));
  }

  #show(x) {
    const focus = this.#root.activeElement?.getAttribute("data-key");
    const open = new Set([...this.#root.querySelectorAll(".more[open]")].map((d) => d.getAttribute("data-open")));
    const absent = !x || number(x.revision) === 0;
    const parts = [];
    if (absent) {
      parts.push(el("p", null, "No intel yet. The worker looks an attacker up within about one poll of its next observation."));
    } else {
      const verdict = text(x.verdict);
      const kind = kindOf(verdict);
      const word = kind === "unknown" || !verdict ? "NO SIGNAL" : shown(verdict, 40).toUpperCase();
      parts.push(el("p", { class: "verdict " + kind, part: "verdict" }, shield(kind), word));
      parts.push(el("p", { part: "sentence" }, hostile(x.sentence)));
      parts.push(el("p", { class: "soft meta" },
        el("span", null, "cached ", when(x.cached_at)), el("span", null, instant(x.expires_at) < Date.now() ? "expired " : "expires ", when(x.expires_at)),
        x.conflict === true ? el("span", null, "the opinions contradict each other") : null,
        x.policy ? el("span", { title: shown(x.fingerprint) }, "policy ", hostile(x.policy)) : null,
        x.outdated === true ? el("span", null, "the policy has changed since") : null));
    }
    const sources = x ? list(x.sources).map(object).sort((a, b) => (place(a) === place(b) ? 0 : place(a) - place(b))) : [];
    if (sources.length) {
      parts.push(el("ul", { class: "sources" }, ...sources.slice(0, maxList).map((s, i) => {
        const twin = sources.slice(0, i).filter((o) => o.provider === s.provider).length; // which a lying API could send
        return this.#source(s, shown(text(s.provider), 64) + (twin ? "-" + twin : ""), open);
      })));
      if (sources.length > maxList) parts.push(el("p", { class: "soft" }, "and " + (sources.length - maxList) + " more sources"));
    }
    this.#body.replaceChildren(...parts);
    if (focus) this.#root.querySelector('[data-key="' + CSS.escape(focus) + '"]')?.focus();
    this.#enter(absent ? "absent" : "ok", absent ? "No intel yet" : "Verdict: " + (kindOf(x.verdict) === "none" ? "no signal" : x.verdict));
  }

  // source shows one source.
  #source(s, key, open) {
    const name = text(s.provider);
    const kind = s.answered === true ? kindOf(text(s.verdict)) : "none";
    const item = el("li", { class: "source is-" + kind, part: "source" });
    item.append(el("div", { class: "top" },
      el("h3", null, Object.hasOwn(titles, name) ? titles[name] : hostile(name)),
      el("span", { class: "answer " + kind }, hostile(headline(s))),
      s.answered === true ? el("span", { class: "soft" }, when(s.observed_at, "ago")) : s.configured === false || s.not_applicable ? null : el("span", { class: "soft" }, "pending")));
    const notes = [];
    if (s.stale === true && s.answered === true) notes.push(el("span", { class: "mark" }, "stale"), " ");
    if (s.why) notes.push(hostile(s.why + (number(s.weight) ? ", weight " + number(s.weight).toFixed(2) : "")));
    if (notes.length) item.append(el("p", { class: "soft" }, ...notes));
    if (s.waiting) item.append(el("p", { class: "soft" }, s.until ? "waiting until " : "waiting", s.until ? when(s.until) : null, ": ", hostile(s.waiting)));
    if (s.not_applicable) item.append(el("p", { class: "soft" }, "not applicable: ", hostile(s.not_applicable)));
    if (s.error) {
      item.append(el("p", { class: "soft error" }, "error: ", hostile(s.error), ...(s.error_text && s.error_text !== s.error ? [" (", hostile(s.error_text), ")"] : []), number(s.failures) > 1 ? ", " + number(s.failures) + " times in a row" : null,
        s.next_try ? ", next try " : null, s.next_try ? when(s.next_try) : null));
    }
    const attrs = Object.entries(object(s.attrs));
    if (s.answered === true) {
      const dl = el("dl");
      for (const [k, v] of attrs.slice(0, maxList)) dl.append(el("dt", null, hostile(k)), el("dd", null, hostile(v)));
      const more = el("details", { class: "more", "data-open": key },
        el("summary", { "data-key": "s" + key }, "Details", el("span", { class: "hidden" }, " of ", shown(name, 64))), dl);
      if (open.has(key)) more.open = true;
      if (attrs.length > maxList) more.append(el("p", { class: "soft" }, "and " + (attrs.length - maxList) + " more"));
      more.append(this.#raw(s, key));
      item.append(more);
    }
    return item;
  }

  // raw returns a source's raw answer if it was asked for, else a button that asks.
  #raw(s, key) {
    const asked = this.#raws.has(key);
    if (!asked || !this.#hasRaws) {
      const button = el("button", { type: "button", "data-key": "r" + key, onclick: () => {
        button.textContent = "Loading…";
        this.#raws.add(key);
        this.#fetch();
      } }, asked ? "Raw answer: try again" : "Raw answer");
      return button;
    }
    if (s.raw === undefined || s.raw === null) return el("p", { class: "soft", tabindex: "-1", "data-key": "r" + key }, "No raw answer is kept.");
    return el("pre", { tabindex: "0", role: "region", "aria-label": "Raw answer of " + shown(text(s.provider), 64), "data-key": "r" + key },
      shown(JSON.stringify(s.raw, null, 1), maxRaw));
  }

  // age brings relative times up to date.
  #age() {
    for (const t of this.#root.querySelectorAll(".top time")) {
      const at = instant(t.getAttribute("datetime"));
      if (at) t.textContent = ago(at);
    }
  }
}

if (!customElements.get("intel-panel")) customElements.define("intel-panel", IntelPanel);
export { IntelPanel, Live, ago };
