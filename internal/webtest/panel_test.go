package webtest

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/intel"
	"github.com/decnet/enrich/intel/httpapi"
	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/store"
)

// page returns the address of a page with a panel.
func (s *site) page(n int) string { return s.URL + "/attackers/" + idOf(n).String() }

// TestPanelHostile: script tags, marks that turn text around, a MiB, and bytes that are
// no text are shown as text, cut, and nothing executes. This holds for the values of
// sources and for an API that puts them into every field.
func TestPanelHostile(t *testing.T) {
	for i, text := range hostile {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			var lying atomic.Bool
			s := newSite(t, 1, func(s *site, _ *httpapi.Options) { s.wrap = answersWith(text, &lying) })
			id := uuid.New()
			s.save(t, attackerWith(id, 5000), entriesWith(text, 5000))
			s.feed.Saved(intel.SavedInfo{Record: store.Record{Attacker: store.Attacker{ID: id, IP: text}, Revision: 1, CachedAt: time.Now()}, Answered: []string{text}, Changed: true})
			for _, list := range []*provider.ListStatus{nil, {Error: text, Unkept: text}} {
				s.status.Providers = append(s.status.Providers, intel.ProviderStatus{Name: text[:min(len(text), 64)], State: text, Mend: text, LastError: text, List: list})
			}
			b := openTab(t, s.URL)
			b.size(320, 900)
			b.open(s.URL + "/attackers/" + id.String())
			b.until(settled + ` && ` + panel + `.state === "ok"`)
			b.harmless()
			require.NotContains(t, js[string](b, panelText), "\u202e")

			lying.Store(true)
			b.open(s.URL + "/attackers/" + id.String())
			b.until(settled)
			b.harmless()
			b.open(s.URL + "/") // lists, and filters that were entered
			b.harmless()
			b.open(s.URL + "/?text=" + strings.NewReplacer("<", "%3C", ">", "%3E", `"`, "%22", " ", "+", "#", "", "&", "").Replace(strings.ToValidUTF8(text[:min(len(text), 150)], "?")))
			b.harmless()
			require.Empty(t, b.others)
		})
	}
}

// harmless fails the test if text of others did anything.
func (b *tab) harmless() {
	b.t.Helper()
	require.True(b.t, strings.HasSuffix(js[string](b, "document.title"), "- enrich"))
	require.Equal(b.t, int64(0), js[int64](b, `document.querySelectorAll("script:not([src]), img, style").length`))
	require.Equal(b.t, int64(0), js[int64](b, `(`+panel+`?.shadowRoot.querySelectorAll("script, img, style, a, [onerror], [onmouseover]") ?? []).length`))
	require.Less(b.t, js[int64](b, `document.body.innerText.length + `+panelText+`.length`), int64(200_000))
	require.LessOrEqual(b.t, js[int64](b, "document.documentElement.scrollWidth - innerWidth"), int64(0))
}

// answersWith makes an API that lies once it is told to: every field of an explanation
// is the same text.
func answersWith(text string, lying *atomic.Bool) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if !lying.Load() || !strings.HasSuffix(r.URL.Path, "/explain") {
				next.ServeHTTP(w, r)
				return
			}
			w.Header().Set("Content-Type", "application/json")
			q := quote(text)
			source := `{"provider":` + q + `,"configured":true,"state":` + q + `,"answered":true,"known":true,"verdict":` + q + `,"observed_at":` + q + `,"why":` + q +
				`,"waiting":` + q + `,"until":` + q + `,"not_applicable":` + q + `,"error":` + q + `,"next_try":` + q + `,"attrs":{` + q + `:` + q + `,"__proto__":{"x":1}},"raw":` + q + `}`
			_, _ = io.WriteString(w, `{"attacker_uuid":`+q+`,"verdict":`+q+`,"sentence":`+q+`,"policy":`+q+`,"fingerprint":`+q+`,"revision":1,"cached_at":`+q+`,"sources":[`+
				source+`,null,7,"x",[],`+strings.Replace(source, `"provider":`+q, `"provider":"greynoise"`, 1)+`]}`)
		})
	}
}

// quote returns a string of JSON, with a lone surrogate at its end.
func quote(text string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range text {
		if r < ' ' || r == '"' || r == '\\' {
			fmt.Fprintf(&b, `\u%04x`, r)
		} else {
			b.WriteRune(r)
		}
	}
	b.WriteString(`\ud800"`)
	return b.String()
}

// TestPanelAnswers: whatever the API answers, the panel shows a state.
func TestPanelAnswers(t *testing.T) {
	answer := func(code int, text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(code)
			_, _ = io.WriteString(w, text)
		}
	}
	var now atomic.Pointer[http.HandlerFunc]
	s := newSite(t, 1, func(s *site, _ *httpapi.Options) {
		s.wrap = func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if h := now.Load(); h != nil && strings.HasSuffix(r.URL.Path, "/explain") {
					(*h)(w, r)
					return
				}
				next.ServeHTTP(w, r)
			})
		}
	})
	b := openTab(t, s.URL)
	for _, c := range []struct {
		answer      http.HandlerFunc
		state, want string
	}{
		{answer(404, `{}`), "absent", "within about one poll"},
		{answer(200, `{"revision":0,"sources":[{"provider":"greynoise","state":"not applicable","not_applicable":"the address is private"}]}`), "absent", "not applicable: the address is private"},
		{answer(200, `{"revision":1,"sources":[{"provider":"greynoise","configured":false,"state":"not configured","why":"not configured"}]}`), "ok", "not configured"},
		{answer(500, `oops`), "error", "The server answers 500"},
		{answer(401, `{}`), "error", "asks for a token"},
		{answer(200, `<html>`), "error", "makes no sense"},
		{answer(200, `[]`), "error", "makes no sense"},
		{answer(200, `null`), "error", "makes no sense"},
		{answer(200, `{"revision":1}`), "ok", "NO SIGNAL"},
		{answer(200, `{"revision":1,"verdict":"fifth","sources":{"a":1}}`), "ok", "FIFTH"},
		{answer(200, `{"revision":1,"verdict":["x"],"sources":[{"provider":{"a":1},"attrs":[1],"answered":true,"observed_at":99}]}`), "ok", "NO SIGNAL"},
		{answer(200, `{"revision":1,"verdict":"unknown"}`), "ok", "NO SIGNAL"},
		{func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) }, "error", "cannot be reached"},
	} {
		now.Store(&c.answer)
		b.open(s.page(0))
		b.until(settled + ` && ` + panel + `.state === "` + c.state + `"`)
		shown := js[string](b, panelText)
		require.Contains(t, shown, c.want)
		if strings.HasPrefix(c.want, "not ") { // it is not asked, so nothing is pending
			require.NotContains(t, shown, "pending")
		}
	}
	// After an error, the button tries again.
	failing := answer(503, "")
	now.Store(&failing)
	b.open(s.page(0))
	b.until(panel + `.state === "error"`)
	now.Store(nil)
	js[bool](b, panel+`.shadowRoot.querySelector("button").click(), true`)
	b.until(panel + `.state === "ok"`)
}

// TestPanelLate: a panel that was given another attacker discards the answer about the
// first one.
func TestPanelLate(t *testing.T) {
	release, answered := make(chan struct{}), make(chan struct{}, 4)
	slow := idOf(0).String()
	s := newSite(t, 3, func(s *site, _ *httpapi.Options) {
		s.wrap = func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if strings.Contains(r.URL.Path, "/api/v1/attackers/"+slow) {
					<-release
					defer func() { answered <- struct{}{} }()
				}
				next.ServeHTTP(w, r)
			})
		}
	})
	b := openTab(t, s.URL)
	b.open(s.page(0))
	b.until(panel + `.state === "loading" && ` + panel + `.getAttribute("aria-busy") === "true"`)
	js[bool](b, panel+`.uuid = "`+idOf(2).String()+`", true`)
	b.until(settled)
	close(release)
	<-answered
	js[bool](b, "new Promise((done) => setTimeout(() => done(true), 100))")
	require.Contains(t, js[string](b, panelText), "BENIGN")
	// A panel that is removed while it loads does nothing any more.
	js[bool](b, `const p = `+panel+`; p.uuid = "`+slow+`"; p.remove(); true`)
	b.clean()
}

// TestPanelLive: what is stored shows without a reload, also after the connection was
// lost, and what was open stays open.
func TestPanelLive(t *testing.T) {
	s := newSite(t, 2, nil)
	b := openTab(t, s.URL)
	b.open(s.page(1))
	b.until(settled)
	require.Contains(t, js[string](b, panelText), "SUSPICIOUS")
	js[bool](b, panel+`.shadowRoot.querySelector(".more").open = true`)
	js[bool](b, panel+`.shadowRoot.querySelector(".more > summary").focus(), true`)
	<-s.streaming
	s.turn(t, 1, provider.Malicious)
	b.until(panelText + `.includes("MALICIOUS")`)
	require.True(t, js[bool](b, panel+`.shadowRoot.activeElement?.tagName === "SUMMARY"`), "the focus stays")
	b.clean()
}

// TestPanelKeyboard: everything can be reached and used without a mouse, also the raw
// answers.
func TestPanelKeyboard(t *testing.T) {
	s := newSite(t, 1, nil)
	b := openTab(t, s.URL)
	b.open(s.page(0))
	b.until(settled)
	press := func(key string) {
		t.Helper()
		require.NoError(t, chromedp.Do(b.ctx, chromedp.KeyEvent(key)))
	}
	active := `(` + panel + `.shadowRoot.activeElement?.innerText ?? "")`
	for n := 0; !strings.HasPrefix(js[string](b, active), "Details"); n++ {
		require.Less(t, n, 12)
		press("\t")
	}
	press("\r")
	press("\t")
	require.Equal(t, "Raw answer", js[string](b, active))
	press("\r")
	b.until(panel + `.shadowRoot.querySelector("pre")?.innerText.includes("source")`)
	require.Equal(t, "PRE", js[string](b, panel+`.shadowRoot.activeElement.tagName`))
	require.Empty(t, b.axe())
	b.clean()
}

// TestPanelRawAnswer: a raw answer that was asked for shows, though the panel loads anew
// meanwhile, and it stays when it does so later. One that could not be loaded can be
// asked for again.
func TestPanelRawAnswer(t *testing.T) {
	const right, wrong, never = 0, 1, 2 // how a request for raw answers is answered
	var answers atomic.Int64
	answers.Store(wrong)
	held := make(chan struct{}, 10)
	s := newSite(t, 2, func(s *site, _ *httpapi.Options) {
		s.wrap = func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				how := answers.Load()
				switch {
				case r.URL.Query().Get("raw") != "true" || how == right:
					next.ServeHTTP(w, r)
				case how == wrong:
					_, _ = io.WriteString(w, "[]")
				default:
					held <- struct{}{}
					<-r.Context().Done()
				}
			})
		}
	})
	b := openTab(t, s.URL)
	b.open(s.page(1))
	b.until(settled)
	<-s.streaming
	b.until(settled)
	js[bool](b, panel+`.shadowRoot.querySelector(".more").open = true`)
	js[bool](b, panel+`.shadowRoot.querySelector("button").click(), true`)
	b.until(panelText + `.includes("Raw answer: try again")`)
	answers.Store(never)
	js[bool](b, panel+`.shadowRoot.querySelector("button").focus(), true`)
	js[bool](b, panel+`.shadowRoot.querySelector("button").click(), true`)
	<-held
	answers.Store(right)
	s.turn(t, 1, provider.Malicious)
	raw := panel + `.shadowRoot.querySelector("pre")?.innerText.includes("source")`
	b.until(panelText + `.includes("MALICIOUS") && ` + raw)
	require.Equal(t, "PRE", js[string](b, panel+`.shadowRoot.activeElement.tagName`))
	s.turn(t, 1, provider.Suspicious)
	b.until(panelText + `.includes("SUSPICIOUS") && ` + raw)
	b.clean()
}

// TestPanelElsewhere: a page of another origin, like DECNET's, shows the panel with a
// token, and no other page can read the API.
func TestPanelElsewhere(t *testing.T) {
	var origin string
	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		base := r.URL.Query().Get("base")
		_, _ = io.WriteString(w, `<!doctype html><html lang="en"><link rel="icon" href="data:,"><title>x - enrich</title><script type="module" src="`+base+`/intel-panel.js"></script><main><h1>x</h1>`+
			`<intel-panel base="`+base+`" token="right" uuid="`+idOf(0).String()+`"></intel-panel></main>`)
	}))
	defer other.Close()
	origin = other.URL
	s := newSite(t, 1, func(_ *site, o *httpapi.Options) {
		o.Authorize, o.Origins = httpapi.BearerToken("right"), []string{origin}
	})
	b := openTab(t, s.URL, origin)
	b.open(origin + "/?base=" + s.URL)
	b.until(settled)
	require.Contains(t, js[string](b, panelText), "MALICIOUS")
	rec, err := s.store.Get(t.Context(), idOf(0))
	require.NoError(t, err)
	entries := entriesWith("new family", 0)
	entries[0].Finding.Attrs["classification"] = "changed"
	<-s.streaming
	s.save(t, rec.Attacker, entries)
	s.changed(t, 0)
	b.until(panelText + `.includes("changed")`)
	b.clean()

	closed := newSite(t, 1, nil)
	b = openTab(t, closed.URL, origin)
	b.open(origin + "/?base=" + closed.URL)
	b.until(panel + `.state === "error"`)
}

// TestPanelToken: a token may be a function, and another one in its place, as React makes
// at each render, loads nothing again.
func TestPanelToken(t *testing.T) {
	var loads atomic.Int64
	s := newSite(t, 2, func(s *site, o *httpapi.Options) {
		o.Authorize = httpapi.BearerToken("right")
		o.Pages = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {})
		o.Public["/page"] = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			w.Header().Set("Content-Security-Policy", "default-src 'self' data:")
			_, _ = io.WriteString(w, `<!doctype html><html lang="en"><link rel="icon" href="data:,"><title>x - enrich</title><script type="module" src="/intel-panel.js"></script><intel-panel></intel-panel>`)
		})
		s.wrap = func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if strings.HasSuffix(r.URL.Path, "/explain") {
					loads.Add(1)
				}
				next.ServeHTTP(w, r)
			})
		}
	})
	b := openTab(t, s.URL)
	b.open(s.URL + "/page")
	js[bool](b, `const p = `+panel+`; p.token = () => "right"; p.uuid = "`+idOf(1).String()+`"; true`)
	b.until(settled + ` && ` + panel + `.state === "ok"`)
	<-s.streaming
	js[bool](b, `new Promise((done) => setTimeout(() => done(true), 400))`) // what follows the start of the stream
	before := loads.Load()
	js[bool](b, `for (let i = 0; i < 9; i++) `+panel+`.token = () => "right"; true`)
	s.turn(t, 1, provider.Malicious)
	b.until(panelText + `.includes("MALICIOUS")`)
	require.Equal(t, before+1, loads.Load())
	js[bool](b, panel+`.token = "wrong", true`)
	b.until(panel + `.state === "error"`)
}

// TestNoJavaScript: the pages say the same without.
func TestNoJavaScript(t *testing.T) {
	s := newSite(t, 60, nil)
	b := openTab(t, s.URL)
	_, err := chromedp.Call(b.ctx, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
	require.NoError(t, err)
	read := func() string {
		text, err := chromedp.Run(b.ctx, chromedp.Text("main"))
		require.NoError(t, err)
		return text
	}
	b.open(s.URL + "/?verdict=malicious")
	require.Contains(t, read(), ipOf(0))
	require.NotContains(t, read(), ipOf(1)+"\n")
	b.open(s.page(0))
	for _, want := range []string{"MALICIOUS", "score", "AsyncRAT", "waiting until", "quota exhausted", "error: unauthorized"} {
		require.Contains(t, read(), want)
	}
}

// TestFilters: filters apply as they change, have links of their own, and go back. The
// figures are those of a page with 10,000 attackers.
func TestFilters(t *testing.T) {
	s := newSite(t, 10_000, nil)
	b := openTab(t, s.URL)
	b.open(s.URL + "/")
	paint := js[float64](b, `new Promise((done) => new PerformanceObserver((l) => done(l.getEntriesByName("first-contentful-paint")[0]?.startTime ?? -1)).observe({type: "paint", buffered: true}))`)
	rows := `document.querySelectorAll("#results tbody tr").length`
	require.Equal(t, int64(50), js[int64](b, rows))
	var took []float64
	for range 4 {
		for _, verdict := range []string{"suspicious", "malicious"} {
			took = append(took, js[float64](b, `new Promise((done) => {
				const start = performance.now();
				new MutationObserver((_, o) => requestAnimationFrame(() => { if ([...document.querySelectorAll("#results .badge")].every((e) => e.innerText === "`+verdict+`")) { o.disconnect(); done(performance.now() - start); } })).observe(document.getElementById("results"), {childList: true});
				for (const box of document.querySelectorAll("input[name=verdict]")) box.checked = false;
				document.querySelector("input[value=`+verdict+`]").click();
			})`))
		}
	}
	slices.Sort(took)
	t.Logf("10,000 attackers: first content after %.0f ms, filter to result in %.0f ms (median), %.0f ms (max)", paint, took[len(took)/2], took[len(took)-1])
	b.open(s.URL + "/?verdict=suspicious")
	require.Equal(t, "/?verdict=suspicious", js[string](b, "location.pathname + location.search"))
	js[bool](b, `const e = document.getElementById("text"); e.value = "`+ipOf(1)+`"; e.dispatchEvent(new Event("input", {bubbles: true})); true`)
	b.until(`document.documentElement.dataset.shown?.includes("text=") && ` + rows + ` >= 1 && ` + rows + ` < 12`)
	js[bool](b, "history.back(), true")
	b.until(`location.search === "?verdict=suspicious" && document.getElementById("text").value === "" && ` + rows + ` === 50`)
	require.NoError(t, chromedp.Do(b.ctx, chromedp.Reload()))
	require.True(t, js[bool](b, `document.querySelector("input[value=suspicious]").checked`))
	b.open(s.URL + "/?verdict=benign&text=" + ipOf(2)) // a deep link
	b.until(`[...document.querySelectorAll("#results .ip")].some((e) => e.innerText === "` + ipOf(2) + `")`)
	js[bool](b, `document.querySelector("#results .ip").click(), true`)
	b.until(`location.pathname.startsWith("/attackers/") && ` + settled)
	require.NoError(t, chromedp.Do(b.ctx, chromedp.NavigateBack()))
	b.until(`document.querySelector("input[value=benign]").checked`)
	// What is stored shows without a reload.
	b.open(s.URL + "/")
	b.until(`document.getElementById("live").innerText === "live"`)
	s.save(t, store.Attacker{ID: uuid.New(), IP: "45.250.1.1", LastSeen: time.Now().Add(time.Minute)}, nil)
	s.changed(t, 0)
	b.until(`document.querySelector("#results .ip").innerText === "45.250.1.1" && document.getElementById("side").innerText.includes("` + ipOf(0) + `")`)
	b.clean()
}

// TestPanelBetween: what is stored after the panel has loaded, and before its stream of
// events begins, shows.
func TestPanelBetween(t *testing.T) {
	connect := make(chan struct{})
	s := newSite(t, 2, func(s *site, _ *httpapi.Options) {
		s.wrap = func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/api/v1/intel/events" {
					<-connect
				}
				next.ServeHTTP(w, r)
			})
		}
	})
	b := openTab(t, s.URL)
	b.open(s.page(1))
	b.until(settled)
	s.turn(t, 1, provider.Malicious)
	require.Contains(t, js[string](b, panelText), "SUSPICIOUS")
	close(connect)
	b.until(panelText + `.includes("MALICIOUS")`)
	b.clean()
}

// TestTyping: what is typed into a filter is one step back, and told to a screen reader.
func TestTyping(t *testing.T) {
	s := newSite(t, 60, nil)
	b := openTab(t, s.URL)
	b.open(s.URL + "/")
	js[bool](b, `document.getElementById("text").focus(), true`)
	for _, key := range ipOf(1) {
		require.NoError(t, chromedp.Do(b.ctx, chromedp.KeyEvent(string(key))))
		if key == '.' {
			b.until(`document.documentElement.dataset.shown === location.pathname + location.search && location.search.endsWith(document.getElementById("text").value)`)
		}
	}
	b.until(`document.documentElement.dataset.shown === "/?text=` + ipOf(1) + `"`)
	require.Contains(t, js[string](b, `document.getElementById("said").innerText`), "3 attackers")
	require.True(t, js[bool](b, `document.getElementById("clear").checkVisibility()`))
	js[bool](b, "history.back(), true")
	b.until(`location.search === "" && document.getElementById("text").value === "" && document.querySelectorAll("#results tbody tr").length === 50`)
	require.False(t, js[bool](b, `document.getElementById("clear").checkVisibility()`))
	require.Equal(t, "The first 50 attackers", js[string](b, `document.getElementById("said").innerText`))
	b.clean()
}

// TestHidden: a page that is hidden holds no connection. When it is seen again, it shows
// what it has missed.
func TestHidden(t *testing.T) {
	ended := make(chan struct{}, 9)
	s := newSite(t, 2, func(s *site, _ *httpapi.Options) {
		s.wrap = func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				next.ServeHTTP(w, r)
				if r.URL.Path == "/api/v1/intel/events" {
					ended <- struct{}{}
				}
			})
		}
	})
	for _, path := range []string{s.page(1), s.URL + "/"} {
		b := openTab(t, s.URL)
		b.open(path)
		<-s.streaming
		hide := func(hidden bool) {
			t.Helper()
			js[bool](b, fmt.Sprintf(`Object.defineProperty(document, "hidden", {configurable: true, value: %v}), document.dispatchEvent(new Event("visibilitychange")), true`, hidden))
		}
		hide(true)
		<-ended
		require.Empty(t, s.streaming)
		rec, err := s.store.Get(t.Context(), idOf(1))
		require.NoError(t, err)
		entries := entriesWith("seen again", 1)
		entries[0].Finding.Verdict = provider.Benign
		s.save(t, rec.Attacker, entries)
		s.changed(t, 1)
		hide(false)
		<-s.streaming
		b.until(`(document.body.innerText + ` + panelText + `).toLowerCase().includes("benign")`)
		b.clean()
	}
}

// TestCredentialsInURL: a page whose address has the token in it, as a bookmark may,
// loads what it needs.
func TestCredentialsInURL(t *testing.T) {
	s := newSite(t, 60, func(_ *site, o *httpapi.Options) { o.Authorize = httpapi.BearerToken("right") })
	b := openTab(t, s.URL, strings.Replace(s.URL, "://", "://me:right@", 1))
	b.open(strings.Replace(s.page(0), "://", "://me:right@", 1))
	b.until(settled + ` && ` + panel + `.state === "ok"`)
	<-s.streaming
	b.open(strings.Replace(s.URL, "://", "://me:right@", 1) + "/")
	b.until(`document.getElementById("live").innerText === "live"`)
	js[bool](b, `document.querySelector("input[value=benign]").click(), true`)
	b.until(`document.documentElement.dataset.shown === "/?verdict=benign"`)
	b.clean()
}

// TestBusyHands: nothing is replaced while it is clicked or selected, however much is
// stored meanwhile.
func TestBusyHands(t *testing.T) {
	s := newSite(t, 9, nil)
	b := openTab(t, s.URL)
	b.size(1200, 900)
	b.open(s.URL + "/")
	b.until(`document.getElementById("live").innerText === "live"`)
	b.until(`document.documentElement.dataset.shown === "/"`)
	at := js[[]float64](b, `(() => { const r = document.querySelector("#results .ip").getBoundingClientRect(); return [r.x + 9, r.y + 9]; })()`)
	mouse := func(kind input.DispatchMouseEventType, held int64) {
		t.Helper()
		_, err := chromedp.Call(b.ctx, input.DispatchMouseEvent, input.DispatchMouseEventParams{Type: kind, X: at[0], Y: at[1], Button: input.MouseButtonLeft, Buttons: held, ClickCount: 1})
		require.NoError(t, err)
	}
	refreshed := `new Promise((done) => { const o = new MutationObserver(() => done(true)); o.observe(document.getElementById("results"), {childList: true}); setTimeout(() => done(false), 3000); })`
	mouse(input.DispatchMouseEventTypeMousePressed, 1)
	s.changed(t, 0)
	require.False(t, js[bool](b, refreshed))
	mouse(input.DispatchMouseEventTypeMouseReleased, 0)
	b.until(`location.pathname.startsWith("/attackers/")`)

	b.open(s.URL + "/")
	b.until(`document.getElementById("live").innerText === "live"`)
	b.until(`document.documentElement.dataset.shown === "/"`)
	js[bool](b, `getSelection().selectAllChildren(document.querySelector("#results .ip")), true`)
	s.changed(t, 1)
	require.False(t, js[bool](b, refreshed))
	js[bool](b, `getSelection().empty(), true`)
	require.True(t, js[bool](b, refreshed))
	b.clean()
}
