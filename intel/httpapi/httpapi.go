// Package httpapi answers over HTTP what is known about attackers, and why.
//
//	GET /api/v1/attackers/{uuid}/intel          the attacker's row, as DECNET's own API returns it
//	GET /api/v1/attackers/{uuid}/intel/explain  why the verdict is what it is, as JSON or text
//	GET /api/v1/intel/attackers                 attackers, latest first, with filters
//	GET /api/v1/intel/events                    changes as they happen (server-sent events)
//	GET /api/v1/intel/status                    what the worker is doing
//	POST /api/v1/observations                   takes attackers, if Options.Observations is set
//	GET /api/v1/openapi.json                    this API, in OpenAPI 3.1
//	GET /healthz                                200 while the process can answer
//	GET /readyz                                 200 while it can do its work, otherwise 503
//
// A row is a JSON object with the columns of DECNET's table attacker_intel as
// keys and times in RFC 3339. An attacker is named by UUID, with dashes or
// without, and never by address. If there is no such attacker, or no row about
// it because nothing was learnt so far, the answer is 404. Failures of this route
// have the body {"detail":"..."}; those of the others are problems (RFC 9457) of
// type application/problem+json. Neither tells anything about what is inside.
//
//	server := httpapi.NewServer(httpapi.New(store, httpapi.Options{}), logger)
//	server.Addr = "127.0.0.1:8089"
//	err := server.ListenAndServe()
//
// Nobody is asked for credentials unless [Options.Authorize] does, for example
// [BearerToken]: see [Options.CheckListen] for where such a server may listen. A
// server answers under the names and addresses of the machine's own loopback, under
// the address that a request came in on, and under [Options].Hosts.
package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"path"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/decnet/enrich/intel"
	"github.com/decnet/enrich/intel/internal/panics"
	"github.com/decnet/enrich/store"
	"github.com/decnet/enrich/store/decnet"
)

const (
	// DefaultTimeout is the time a request may take if [Options] does not say.
	DefaultTimeout = 10 * time.Second
	// DefaultMaxInFlight is the number of requests at once if [Options] does not
	// say.
	DefaultMaxInFlight = 64
	// MaxTimeout is the greatest Timeout that [Options] can ask for.
	MaxTimeout = time.Minute

	// maxBody is how much of a request's body [Options.Authorize] can read. No
	// route needs any, but the one of observations.
	maxBody = 64 << 10

	observationsPath = "/api/v1/observations"
)

// Options configures what [New] returns. The zero value is usable.
type Options struct {
	// Authorize wraps the routes below /api/, known and unknown, in whatever
	// decides who may ask: it calls the handler it is given, or answers itself.
	// What it answers is not changed. /healthz and /readyz, which say no more
	// than yes or no, are open to all. Nil means that everybody may ask.
	Authorize func(http.Handler) http.Handler
	// Status returns the value that /api/v1/intel/status answers as JSON, for
	// example that of the method Status of an intel.Worker. It may be called
	// concurrently. Nil means that there is no such route.
	Status func(context.Context) (any, error)
	// Ready returns nil while the process can do its work. It may be called
	// concurrently. Nil means always.
	Ready func(context.Context) error
	// Explain explains the verdict on a record, like the method ExplainRecord of an
	// intel.Worker. It may be called concurrently. Nil means [intel.ExplainRecord].
	Explain func(ctx context.Context, rec *store.Record, raw bool) intel.Explanation
	// Feed has the live events. Nil means that there is no such route.
	Feed *Feed
	// Observations answers POST /api/v1/observations, like the handler of an
	// intake.Intake, which takes attackers. Authorize and the Host check apply to it,
	// Timeout, MaxInFlight and the limit for bodies do not. Nil means that there is no
	// such route. Do not set it without Authorize: whoever can reach the server could
	// add attackers.
	Observations http.Handler
	// Hosts are the names, and addresses, that the server answers under besides
	// those of loopback and the address of the connection; a port in them is
	// ignored. A request with another Host header gets 421. [AnyHost] accepts all.
	// Requests that did not come over TCP are not checked.
	Hosts []string
	// Origins are the origins, like https://decnet.example, whose pages may read the
	// answers (CORS).
	Origins []string
	// Pages serves what is not below /api/, for example the pages of
	// intel/dashboard. Authorize, the limits and the Host check apply to it. It sets
	// its own Content-Type and Content-Security-Policy. Nil means that there is
	// nothing.
	Pages http.Handler
	// Public serves the paths that are the same for everybody, by exact path, such
	// as /intel-panel.js. Authorize does not apply to them.
	Public map[string]http.Handler
	// Timeout is how long a request may take before the answer is 503; the
	// context of the calls that are made for it ends then. Zero or less means
	// [DefaultTimeout]; more than [MaxTimeout] means that.
	Timeout time.Duration
	// MaxInFlight is how many requests, other than those to /healthz, are worked
	// on at once, before the answer to more of them is 503. Zero or less means
	// [DefaultMaxInFlight].
	MaxInFlight int
	// Logger receives what an operator should see. Nil means slog.Default().
	Logger *slog.Logger
}

// api answers requests.
type api struct {
	store    store.Store
	lister   store.Lister // nil if the store is none
	status   func(context.Context) (any, error)
	explain  func(context.Context, *store.Record, bool) intel.Explanation
	ready    func(context.Context) error
	feed     *Feed
	log      *slog.Logger
	slots    chan struct{}
	document []byte // of this API
	streams  atomic.Int64
	down     atomic.Bool // the last call of ready failed
}

// New returns a handler for the routes of this package that answers from s.
func New(s store.Store, o Options) http.Handler {
	if o.Timeout <= 0 {
		o.Timeout = DefaultTimeout
	}
	if o.MaxInFlight <= 0 {
		o.MaxInFlight = DefaultMaxInFlight
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Explain == nil {
		o.Explain = intel.ExplainRecord
	}
	if o.Authorize == nil {
		o.Authorize = func(next http.Handler) http.Handler { return next }
	}
	a := &api{
		store: s, status: o.Status, explain: o.Explain, ready: o.Ready, feed: o.Feed,
		log:   o.Logger,
		slots: make(chan struct{}, o.MaxInFlight),
	}
	a.lister, _ = store.As[store.Lister](s)

	protected := http.NewServeMux()
	protected.HandleFunc("/api/v1/attackers/{uuid}/intel", get(a.serveIntel))
	protected.HandleFunc("/api/v1/attackers/{uuid}/intel/explain", get(a.serveExplain))
	protected.HandleFunc("/api/v1/openapi.json", get(a.serveOpenAPI))
	if a.lister != nil {
		protected.HandleFunc("/api/v1/intel/attackers", get(a.serveAttackers))
	}
	if a.status != nil {
		protected.HandleFunc("/api/v1/intel/status", get(a.serveStatus))
	}
	protected.HandleFunc("/api/", notFound)
	protected.HandleFunc("/api", notFound) // which would be redirected to /api/
	if o.Pages != nil {
		protected.Handle("/", compress(o.Pages))
	} else {
		protected.HandleFunc("/", notFound)
	}

	limited := http.NewServeMux()
	guarded := http.Handler(protected)
	if o.Pages == nil { // nothing is guarded that is not there
		limited.Handle("/api/", o.Authorize(guarded))
		limited.Handle("/api", o.Authorize(guarded))
		limited.HandleFunc("/", notFound)
	} else {
		limited.Handle("/", o.Authorize(guarded))
	}
	limited.HandleFunc("/readyz", get(a.serveReady))
	for path, h := range o.Public {
		limited.Handle(path, compress(h))
	}

	all := http.NewServeMux()
	all.HandleFunc("/healthz", get(serveHealth))
	if a.feed != nil {
		all.Handle("/api/v1/intel/events", o.Authorize(get(a.serveEvents)))
	}
	if o.Observations != nil {
		all.Handle(observationsPath, o.Authorize(o.Observations))
	}
	a.document = describe(map[string]bool{
		"/api/v1/intel/attackers": a.lister == nil, "/api/v1/intel/events": a.feed == nil, "/api/v1/intel/status": a.status == nil,
		observationsPath: o.Observations == nil,
	})
	all.Handle("/", timeout(a.limit(limited), min(o.Timeout, MaxTimeout)))
	return checkHost(o.Hosts, harden(share(o.Origins, all)))
}

// timeout answers 503 if a request takes too long.
func timeout(next http.Handler, d time.Duration) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		late, contentType := problemText(r, http.StatusServiceUnavailable, "The answer took too long")
		w.Header().Set("Content-Type", contentType) // if it is late; other answers set theirs
		http.TimeoutHandler(next, d, string(late)).ServeHTTP(w, r)
	})
}

// harden sets the headers of every answer, and lets only those paths through
// that are written as they are meant.
func harden(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Type", typeJSON)
		h.Set("Cache-Control", "no-store")
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("X-Content-Type-Options", "nosniff")
		if path.Clean("/"+r.URL.Path) != r.URL.Path { // which a ServeMux would redirect
			notFound(w, r)
			return
		}
		if r.URL.Path != observationsPath {
			r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		}
		next.ServeHTTP(w, r)
	})
}

// limit works on a limited number of requests at once, and survives what they
// do. A request counts until its work ends, also if nobody waits for it any
// more.
func (a *api) limit(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case a.slots <- struct{}{}:
			defer func() { <-a.slots }()
		default:
			w.Header().Set("Retry-After", "1")
			Fail(w, r, http.StatusServiceUnavailable, "Too many requests at once")
			return
		}
		defer func() {
			switch v := recover(); v {
			case nil:
			case http.ErrAbortHandler:
				panic(v)
			default:
				a.log.Error("a request panicked", "method", r.Method, "path", r.URL.Path,
					"panic", (&panics.Error{Value: v}).Error(), "stack", string(debug.Stack()))
				Fail(w, r, http.StatusInternalServerError, "Internal server error")
			}
		}()
		next.ServeHTTP(w, r)
	})
}

// get refuses methods other than GET and HEAD.
func get(serve http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			Fail(w, r, http.StatusMethodNotAllowed, "Method not allowed")
			return
		}
		serve(w, r)
	}
}

func (a *api) serveIntel(w http.ResponseWriter, r *http.Request) {
	id, ok := parseID(r.PathValue("uuid"))
	var rec store.Record
	err := error(store.ErrNotFound) // as DECNET answers about what is no UUID
	if ok {
		rec, err = a.store.Get(r.Context(), id)
	}
	switch {
	case errors.Is(err, store.ErrNotFound), err == nil && rec.Revision == 0 && rec.Row.UUID == "":
		Fail(w, r, http.StatusNotFound, "No intel cached for this attacker")
	case err != nil:
		a.unavailable(w, r, "cannot read a record", "attacker", id, "error", err)
	default:
		sendRevision(w, r, rec.Revision, decnet.RowJSON(&rec))
	}
}

// parseID reads a UUID in one of the two forms that DECNET writes.
func parseID(s string) (uuid.UUID, bool) {
	if len(s) != len("3f0e8a36-98c4-4a53-9d7b-0f2f1a5a8d11") && len(s) != len("3f0e8a3698c44a539d7b0f2f1a5a8d11") {
		return uuid.UUID{}, false // there are other forms, as an URN and in braces
	}
	id, err := uuid.Parse(s)
	return id, err == nil
}

func (a *api) serveStatus(w http.ResponseWriter, r *http.Request) {
	status, err := a.status(r.Context())
	if err != nil {
		a.unavailable(w, r, "cannot tell the status", "error", err)
		return
	}
	a.sendJSON(w, r, status, "the status cannot be written as JSON")
}

// sendJSON answers with v. What is logged if v has no JSON is up to the caller.
func (a *api) sendJSON(w http.ResponseWriter, r *http.Request, v any, failure string, args ...any) {
	text, err := json.Marshal(v)
	if err != nil {
		a.log.Error(failure, append(args, "error", err)...)
		Fail(w, r, http.StatusInternalServerError, "Internal server error")
		return
	}
	send(w, r, text)
}

func (a *api) serveReady(w http.ResponseWriter, r *http.Request) {
	if a.ready != nil {
		err := a.ready(r.Context())
		if r.Context().Err() != context.Canceled && a.down.Swap(err != nil) != (err != nil) {
			if err != nil {
				a.log.Warn("not ready", "error", err)
			} else {
				a.log.Info("ready again")
			}
		}
		if err != nil {
			Fail(w, r, http.StatusServiceUnavailable, "Not ready")
			return
		}
	}
	answerJSON(w, []byte(`{"status":"ready"}`))
}

func serveHealth(w http.ResponseWriter, _ *http.Request) {
	answerJSON(w, []byte(`{"status":"ok"}`))
}

func notFound(w http.ResponseWriter, r *http.Request) {
	Fail(w, r, http.StatusNotFound, "Not found")
}

// unavailable answers that something cannot be told at the moment, and logs
// why, unless it is because nobody waits for it any more.
func (a *api) unavailable(w http.ResponseWriter, r *http.Request, message string, args ...any) {
	if r.Context().Err() != context.Canceled {
		a.log.Error(message, args...)
	}
	w.Header().Set("Retry-After", "1")
	Fail(w, r, http.StatusServiceUnavailable, "This cannot be told at the moment")
}
