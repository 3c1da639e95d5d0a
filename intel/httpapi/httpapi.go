// Package httpapi answers over HTTP what is known about an attacker.
//
//	GET /api/v1/attackers/{uuid}/intel  the attacker's row, as DECNET's own API returns it
//	GET /api/v1/intel/status            what the worker is doing
//	GET /healthz                        200 while the process can answer
//	GET /readyz                         200 while it can do its work, otherwise 503
//
// A row is a JSON object with the columns of DECNET's table attacker_intel as
// keys and times in RFC 3339. An attacker is named by UUID, with dashes or
// without, and never by address. If there is no such attacker, or no row about
// it because nothing was learnt so far, the answer is 404. Every answer but 200 has the body
// {"detail":"..."}, which tells nothing about what is inside.
//
//	server := httpapi.NewServer(httpapi.New(store, httpapi.Options{}), logger)
//	server.Addr = "127.0.0.1:8089"
//	err := server.ListenAndServe()
//
// Nobody is asked for credentials unless [Options.Authorize] does: see
// [Options.CheckListen] for where such a server may listen.
package httpapi

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"path"
	"runtime/debug"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/decnet/enrich/intel/internal/gate"
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
	// route needs any.
	maxBody = 64 << 10
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
	store  store.Store
	status func(context.Context) (any, error)
	ready  func(context.Context) error
	log    *slog.Logger
	slots  chan struct{}
	down   atomic.Bool // the last call of ready failed
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
	a := &api{
		store: s, status: o.Status, ready: o.Ready,
		log:   o.Logger,
		slots: make(chan struct{}, o.MaxInFlight),
	}
	protected := http.NewServeMux()
	protected.HandleFunc("/api/v1/attackers/{uuid}/intel", get(a.serveIntel))
	if a.status != nil {
		protected.HandleFunc("/api/v1/intel/status", get(a.serveStatus))
	}
	protected.HandleFunc("/", notFound)
	var authorized http.Handler = protected
	if o.Authorize != nil {
		authorized = o.Authorize(protected)
	}
	limited := http.NewServeMux()
	limited.Handle("/api/", authorized)
	limited.Handle("/api", authorized) // which would be redirected to /api/
	limited.HandleFunc("/readyz", get(a.serveReady))
	limited.HandleFunc("/", notFound)

	all := http.NewServeMux()
	all.HandleFunc("/healthz", get(serveHealth))
	all.Handle("/", http.TimeoutHandler(a.limit(limited), min(o.Timeout, MaxTimeout), body("The answer took too long")))
	return harden(all)
}

// harden sets the headers of every answer, and lets only those paths through
// that are written as they are meant.
func harden(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Type", "application/json")
		h.Set("Cache-Control", "no-store")
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("X-Content-Type-Options", "nosniff")
		if path.Clean("/"+r.URL.Path) != r.URL.Path { // which a ServeMux would redirect
			notFound(w, r)
			return
		}
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
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
			fail(w, http.StatusServiceUnavailable, "Too many requests at once")
			return
		}
		defer func() {
			switch v := recover(); v {
			case nil:
			case http.ErrAbortHandler:
				panic(v)
			default:
				a.log.Error("a request panicked", "method", r.Method, "path", r.URL.Path,
					"panic", (&gate.PanicError{Value: v}).Error(), "stack", string(debug.Stack()))
				fail(w, http.StatusInternalServerError, "Internal server error")
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
			fail(w, http.StatusMethodNotAllowed, "Method not allowed")
			return
		}
		serve(w, r)
	}
}

func (a *api) serveIntel(w http.ResponseWriter, r *http.Request) {
	id, ok := parseID(r.PathValue("uuid"))
	if !ok {
		fail(w, http.StatusBadRequest, "Not a UUID")
		return
	}
	rec, err := a.store.Get(r.Context(), id)
	switch {
	case errors.Is(err, store.ErrNotFound), err == nil && rec.Revision == 0 && rec.Row.UUID == "":
		fail(w, http.StatusNotFound, "No intel cached for this attacker")
	case err != nil:
		a.unavailable(w, r, "cannot read a record", "attacker", id, "error", err)
	default:
		answer(w, http.StatusOK, decnet.RowJSON(&rec))
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
	text, err := json.Marshal(status)
	if err != nil {
		a.log.Error("the status cannot be written as JSON", "error", err)
		fail(w, http.StatusInternalServerError, "Internal server error")
		return
	}
	answer(w, http.StatusOK, text)
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
			fail(w, http.StatusServiceUnavailable, "Not ready")
			return
		}
	}
	answer(w, http.StatusOK, []byte(`{"status":"ready"}`))
}

func serveHealth(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, []byte(`{"status":"ok"}`))
}

func notFound(w http.ResponseWriter, _ *http.Request) {
	fail(w, http.StatusNotFound, "Not found")
}

// unavailable answers that something cannot be told at the moment, and logs
// why, unless it is because nobody waits for it any more.
func (a *api) unavailable(w http.ResponseWriter, r *http.Request, message string, args ...any) {
	if r.Context().Err() != context.Canceled {
		a.log.Error(message, args...)
	}
	w.Header().Set("Retry-After", "1")
	fail(w, http.StatusServiceUnavailable, "This cannot be told at the moment")
}

func fail(w http.ResponseWriter, code int, detail string) {
	answer(w, code, []byte(body(detail)))
}

// body returns the body that explains a failure. The detail needs no escaping.
func body(detail string) string { return `{"detail":"` + detail + `"}` }

func answer(w http.ResponseWriter, code int, text []byte) {
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	w.WriteHeader(code)
	_, _ = w.Write(text) // fails if nobody waits for it
}
