// Package dashboard shows in a browser what is known about attackers, and why.
//
//	GET /                  attackers with filters, verdicts over time, providers, backlog, recent changes
//	GET /attackers/{uuid}  one attacker
//
// The pages are rendered by the server and work without JavaScript; with it they are
// live. They load nothing from other origins and have a strict Content-Security-
// Policy. [New] returns them for [httpapi.Options].Pages, and [Public] the files
// that they load for [httpapi.Options].Public:
//
//	api := httpapi.New(store, httpapi.Options{
//		Pages:  dashboard.New(store, dashboard.Options{}),
//		Public: dashboard.Public(),
//	})
//
// One of these files, /intel-panel.js, is the web component <intel-panel uuid="...">,
// which any other page can use: [Panel] serves it on its own.
package dashboard

import (
	"bytes"
	"context"
	"errors"
	"html/template"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/decnet/enrich/intel"
	"github.com/decnet/enrich/intel/httpapi"
	"github.com/decnet/enrich/internal/human"
	"github.com/decnet/enrich/store"
)

// Options configures what [New] returns. The zero value is usable.
type Options struct {
	// Status returns what the worker is doing. It is called at most every few seconds,
	// and no page waits for it for long. Nil means that there is no worker to show.
	Status func(context.Context) (intel.Status, error)
	// Explain explains the verdict on a record, like the method ExplainRecord of an
	// intel.Worker. Nil means [intel.ExplainRecord].
	Explain func(ctx context.Context, rec *store.Record, raw bool) intel.Explanation
	// Feed has the recent changes. Nil means that none are shown.
	Feed *httpapi.Feed
	// Logger receives what an operator should see. Nil means slog.Default().
	Logger *slog.Logger
}

// csp is the Content-Security-Policy of the pages.
const csp = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// partHeader is the header of a request for a part of a page: "results" for the
// attackers that match.
const partHeader = "X-Part"

// days is the number of days of the chart.
const days = 14

// site serves the pages.
type site struct {
	store   store.Store
	lister  store.Lister // nil if the store is none
	explain func(ctx context.Context, rec *store.Record, raw bool) intel.Explanation
	feed    *httpapi.Feed
	log     *slog.Logger
	status  cached[intel.Status]
	counts  cached[[]store.Count]
}

// New returns a handler for the pages, which shows what is in s.
func New(s store.Store, o Options) http.Handler {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Explain == nil {
		o.Explain = intel.ExplainRecord
	}
	d := &site{store: s, explain: o.Explain, feed: o.Feed, log: o.Logger}
	d.lister, _ = store.As[store.Lister](s)
	d.status = cached[intel.Status]{every: 3 * time.Second, load: o.Status}
	if counter, ok := store.As[store.Counter](s); ok {
		d.counts = cached[[]store.Count]{every: time.Minute, load: func(ctx context.Context) ([]store.Count, error) {
			tomorrow := time.Now().UTC().Truncate(24*time.Hour).AddDate(0, 0, 1)
			return counter.Count(ctx, store.CountRequest{From: tomorrow.AddDate(0, 0, -days), To: tomorrow, Every: 24 * time.Hour})
		}}
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", d.serveIndex)
	mux.HandleFunc("GET /attackers/{uuid}", d.serveAttacker)
	mux.HandleFunc("/", d.notFound)
	return mux
}

// serveIndex shows the attackers, and how the worker is doing.
func (d *site) serveIndex(w http.ResponseWriter, r *http.Request) {
	now := time.Now()
	page := indexPage{Now: now.UTC(), Form: formOf(r)}
	req, err := httpapi.ParseList(r, now)
	if err != nil {
		page.Problem = "These filters make no sense: " + err.Error() + "."
		req = store.ListRequest{Limit: 50}
	}
	part := r.Header.Get(partHeader) == "results" // of a page that is shown already
	if !part {
		d.fillSide(r.Context(), &page, now)
	}
	code := http.StatusOK
	switch {
	case page.Problem != "":
		code = http.StatusBadRequest
	case d.lister != nil:
		req.NoRaw = true
		list, err := d.lister.List(r.Context(), req)
		switch {
		case errors.Is(err, store.ErrInvalid):
			code, page.Problem = http.StatusBadRequest, "That page of the list does not exist."
		case err != nil:
			code, page.Problem = http.StatusServiceUnavailable, "The attackers cannot be listed at the moment."
			if r.Context().Err() == nil {
				d.log.Error("the dashboard cannot list attackers", "error", err)
			}
		}
		for i := range list.Records {
			page.Attackers = append(page.Attackers, httpapi.ListItem(&list.Records[i]))
		}
		if list.Next != "" {
			query := r.URL.Query()
			query.Set("cursor", list.Next)
			page.Next = "/?" + query.Encode()
		}
	}
	if part {
		d.render(w, code, "results", page)
		return
	}
	d.render(w, code, "index", page)
}

// fillSide enters what is shown beside the attackers.
func (d *site) fillSide(ctx context.Context, page *indexPage, now time.Time) {
	status, known := d.status.get(ctx, d.log)
	page.fillStatus(status, known, now)
	if counts, known := d.counts.get(ctx, d.log); known {
		page.Chart = newChart(counts, now)
	}
	if d.feed != nil {
		page.Live = true
		page.Changes = d.feed.Recent(10, func(c *httpapi.Change) bool { return c.Changed })
	}
}

// serveAttacker shows one attacker.
func (d *site) serveAttacker(w http.ResponseWriter, r *http.Request) {
	id, err := uuid.Parse(r.PathValue("uuid"))
	if err != nil {
		d.notFound(w, r)
		return
	}
	rec, err := d.store.Get(r.Context(), id)
	switch {
	case errors.Is(err, store.ErrNotFound):
		d.render(w, http.StatusNotFound, "message", messagePage{"No such attacker", "There is no attacker with the UUID " + id.String() + "."})
		return
	case err != nil:
		if r.Context().Err() == nil {
			d.log.Error("the dashboard cannot read a record", "attacker", id, "error", err)
		}
		d.render(w, http.StatusServiceUnavailable, "message", messagePage{"Not available", "This cannot be told at the moment. Try again soon."})
		return
	}
	d.render(w, http.StatusOK, "attacker", d.explain(r.Context(), &rec, false))
}

func (d *site) notFound(w http.ResponseWriter, _ *http.Request) {
	d.render(w, http.StatusNotFound, "message", messagePage{"Not found", "There is no such page."})
}

// messagePage is a page that only says something.
type messagePage struct{ Title, Text string }

// render answers with a page.
func (d *site) render(w http.ResponseWriter, code int, name string, page any) {
	var b bytes.Buffer
	if err := pages.ExecuteTemplate(&b, name, page); err != nil {
		d.log.Error("a page of the dashboard cannot be rendered", "page", name, "error", err)
		http.Error(w, "Internal server error", http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", csp)
	h.Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	_, _ = b.WriteTo(w) // fails if nobody waits for it
}

// formOf returns the filters as they were entered.
func formOf(r *http.Request) form {
	q := r.URL.Query()
	f := form{Text: q.Get("text"), Source: q.Get("source"), Since: q.Get("seen_since"), Cursor: q.Get("cursor") != "", Verdict: map[string]bool{}}
	for _, list := range q["verdict"] {
		for name := range strings.SplitSeq(list, ",") {
			f.Verdict[strings.TrimSpace(name)] = true
		}
	}
	return f
}

// pages are the templates.
var pages = template.Must(template.New("").Funcs(template.FuncMap{
	"shown": human.Text, "attr": human.Value, "stamp": stamp, "ago": ago, "kind": kind, "word": word, "label": label, "title": title, "number": number, "count": count, "age": ageOf,
}).ParseFS(files, "templates/*.html"))
