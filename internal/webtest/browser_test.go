package webtest

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

// browser is the Chromium that all tests share.
var browser struct {
	once sync.Once
	ctx  context.Context
	stop []context.CancelFunc
	err  error
}

func TestMain(m *testing.M) {
	code := m.Run()
	for _, stop := range browser.stop {
		stop()
	}
	os.Exit(code)
}

// tab is a page in a browser, which notes what went wrong.
type tab struct {
	t   testing.TB
	ctx context.Context

	mu     sync.Mutex
	wrong  []string // messages on the console
	others []string // requests to other origins
	own    []string // origins that may be asked
}

// openTab opens a page for a test, and skips the test if there is no Chromium.
func openTab(t testing.TB, origins ...string) *tab {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		missing(t, "there is no chromium; install it with apt-get install chromium")
	}
	browser.once.Do(func() {
		o := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.NoSandbox)
		ctx, stop := chromedp.NewExecAllocator(context.Background(), o...)
		browser.stop = append(browser.stop, stop)
		browser.ctx, stop = chromedp.NewContext(ctx)
		browser.stop = append([]context.CancelFunc{stop}, browser.stop...)
		browser.err = chromedp.Do(browser.ctx)
	})
	require.NoError(t, browser.err)
	ctx, stop := chromedp.NewContext(browser.ctx)
	t.Cleanup(stop)
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	t.Cleanup(cancel)
	b := &tab{t: t, ctx: ctx, own: origins}
	require.NoError(t, chromedp.Listen(ctx, b.note))
	_, err = chromedp.Call(ctx, network.Enable, network.EnableParams{})
	require.NoError(t, err)
	_, err = chromedp.Call(ctx, log.Enable, cdp.Empty{})
	require.NoError(t, err)
	return b
}

// note notes what is wrong with an event.
func (b *tab) note(ev any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch ev := ev.(type) {
	case *runtime.EventExceptionThrown:
		b.wrong = append(b.wrong, "exception: "+ev.ExceptionDetails.Text)
	case *runtime.EventConsoleAPICalled:
		if ev.Type == "error" || ev.Type == "warning" {
			b.wrong = append(b.wrong, fmt.Sprint("console: ", ev.Args))
		}
	case *log.EventEntryAdded:
		if ev.Entry.Level == "error" || ev.Entry.Level == "warning" {
			b.wrong = append(b.wrong, "log: "+ev.Entry.Text+" "+ev.Entry.URL)
		}
	case *network.EventRequestWillBeSent:
		url := ev.Request.URL
		for _, own := range append(b.own, "data:", "about:", "blob:") {
			if strings.HasPrefix(url, own) {
				return
			}
		}
		b.others = append(b.others, url)
	}
}

// clean fails the test if anything went wrong.
func (b *tab) clean() {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	require.Empty(b.t, b.wrong, "the console")
	require.Empty(b.t, b.others, "requests to other origins")
}

func (b *tab) open(url string) {
	b.t.Helper()
	require.NoError(b.t, chromedp.Do(b.ctx, chromedp.Navigate(url)))
}

// js evaluates an expression, which may be a promise.
func js[T any](b *tab, expression string) T {
	b.t.Helper()
	v, err := chromedp.Run(b.ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	require.NoError(b.t, err, expression)
	return v
}

// until waits for an expression to be true. The page may go elsewhere meanwhile.
func (b *tab) until(expression string) {
	b.t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); <-tick.C {
		ok, err := chromedp.Run(b.ctx, chromedp.Evaluate[bool]("(() => { try { return !!("+expression+"); } catch { return false; } })()"))
		if err == nil && ok {
			return
		}
	}
	text, _ := chromedp.Run(b.ctx, chromedp.Evaluate[string]("document.body.innerText + '\\n' + "+panelText))
	require.FailNow(b.t, "it is never so", "%s\nThe page:\n%.3000s", expression, text)
}

func (b *tab) size(width, height int64) {
	b.t.Helper()
	require.NoError(b.t, chromedp.Do(b.ctx, chromedp.EmulateViewport(width, height)))
}

func (b *tab) scheme(name string) {
	b.t.Helper()
	_, err := chromedp.Call(b.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: name}}})
	require.NoError(b.t, err)
}

const (
	panel = `document.querySelector("intel-panel")`
	// panelText is what a panel shows.
	panelText = `(` + panel + `?.shadowRoot?.querySelector(".body")?.innerText || "")`
	settled   = panel + `.getAttribute("aria-busy") === "false"`
)

// axe returns the violations that axe-core finds, of WCAG 2.2 AA and its best
// practices.
func (b *tab) axe() []string {
	b.t.Helper()
	script := ""
	for _, path := range []string{os.Getenv("ENRICH_AXE"), "../../bin/node_modules/axe-core/axe.min.js"} {
		if text, err := os.ReadFile(path); err == nil {
			script = string(text)
			break
		}
	}
	if script == "" {
		missing(b.t, "there is no axe-core; install it with npm install --prefix bin axe-core, or name axe.min.js in ENRICH_AXE")
	}
	_, err := chromedp.Run(b.ctx, chromedp.Evaluate[json.RawMessage](script+";0"))
	require.NoError(b.t, err)
	return js[[]string](b, `axe.run(document, {runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}).then((r) =>
		r.violations.flatMap((v) => v.nodes.map((n) => v.id + ": " + n.target.join(" ") + ": " + n.failureSummary)))`)
}

// shoot writes a picture of what is in view if ENRICH_SCREENSHOTS names a directory.
func (b *tab) shoot(name string) {
	b.t.Helper()
	dir := os.Getenv("ENRICH_SCREENSHOTS")
	if dir == "" {
		return
	}
	png, err := chromedp.Run(b.ctx, chromedp.CaptureScreenshot())
	require.NoError(b.t, err)
	require.NoError(b.t, os.WriteFile(filepath.Join(dir, name+".png"), png, 0o644))
}

// TestPages: the pages are accessible, silent and self-contained in light and dark,
// wide and narrow, empty and full.
func TestPages(t *testing.T) {
	full, empty := newSite(t, 300, nil), newSite(t, 0, nil)
	for n := range 6 {
		full.changed(t, n*7)
	}
	for _, scheme := range []string{"light", "dark"} {
		for _, c := range []struct {
			name  string
			url   string
			width int64
			panel bool
		}{
			{"dashboard", full.URL + "/", 1400, false},
			{"dashboard-narrow", full.URL + "/", 320, false},
			{"dashboard-empty", empty.URL + "/", 1400, false},
			{"dashboard-none", full.URL + "/?text=nobody&verdict=benign", 1400, false},
			{"attacker", full.URL + "/attackers/" + idOf(0).String(), 1100, true},
			{"attacker-narrow", full.URL + "/attackers/" + idOf(1).String(), 320, true},
			{"attacker-absent", full.URL + "/attackers/" + idOf(6).String(), 1100, true},
			{"not-found", full.URL + "/nothing", 1100, false},
		} {
			t.Run(c.name+"-"+scheme, func(t *testing.T) {
				b := openTab(t, full.URL, empty.URL)
				b.scheme(scheme)
				b.size(c.width, 1150)
				b.open(c.url)
				if c.panel {
					b.until(settled)
					js[bool](b, panel+`.shadowRoot.querySelectorAll(".more").forEach((d, i) => { d.open = i < 1; }), true`)
				}
				require.LessOrEqual(t, js[int64](b, "document.documentElement.scrollWidth"), c.width, "it scrolls sideways")
				b.shoot(c.name + "-" + scheme)
				require.Empty(t, b.axe())
				if c.name != "not-found" { // whose status the browser logs
					b.clean()
				}
			})
		}
	}
}
