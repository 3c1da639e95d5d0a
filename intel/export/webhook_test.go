package export_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/bus"
	"github.com/decnet/enrich/intel/export"
	"github.com/decnet/enrich/store"
	"github.com/decnet/enrich/store/memstore"
)

// secret signs the webhooks of these tests.
var secret = "whsec_" + base64.StdEncoding.EncodeToString([]byte("secret of at least sixteen bytes"))

// receiver is the receiver of a webhook.
type receiver struct {
	*httptest.Server
	t *testing.T

	mu       sync.Mutex
	requests []request
	answer   func(r request) int // the status; nil: 204
	more     chan struct{}
}

// request is one that came to the receiver.
type request struct {
	id, at, signature, body string
	attacker                string
}

func newReceiver(t *testing.T) *receiver {
	r := &receiver{t: t, more: make(chan struct{}, 1000)}
	r.Server = httptest.NewServer(r)
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, _ := io.ReadAll(req.Body)
	in := request{req.Header.Get("webhook-id"), req.Header.Get("webhook-timestamp"), req.Header.Get("webhook-signature"), string(body), ""}
	var m struct {
		Data struct {
			UUID string `json:"attacker_uuid"`
		} `json:"data"`
	}
	_ = json.Unmarshal(body, &m)
	in.attacker = m.Data.UUID
	r.mu.Lock()
	r.requests = append(r.requests, in)
	answer := r.answer
	r.mu.Unlock()
	status := http.StatusNoContent
	if answer != nil {
		status = answer(in)
	}
	w.WriteHeader(status)
	select {
	case r.more <- struct{}{}:
	default:
	}
}

func (r *receiver) answers(f func(request) int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer = f
}

// got returns the IDs of the requests so far.
func (r *receiver) got() (ids []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, in := range r.requests {
		ids = append(ids, in.id)
	}
	return ids
}

// filled is a store whose reader "x" has events.
type filled struct {
	*memstore.Store
	t   *testing.T
	ids []string
}

func newFilled(t *testing.T) *filled { return &filled{Store: memstore.New(), t: t} }

// event saves an update of an attacker, with an event.
func (f *filled) event(attacker int) string {
	f.t.Helper()
	ctx := f.t.Context()
	ip := fmt.Sprintf("45.9.1.%d", attacker)
	id := uuid.NewSHA1(uuid.NameSpaceOID, []byte(ip))
	require.NoError(f.t, f.Observe(ctx, store.Attacker{ID: id, IP: ip}))
	c, err := f.Claim(ctx, store.ClaimRequest{Now: time.Now(), Owner: "test", Lease: time.Hour, Limit: 1, Only: []uuid.UUID{id}})
	require.NoError(f.t, err)
	r := c.Records[0]
	ev := bus.Event{
		ID: store.EventID(id, r.Revision+1, now), Topic: "attacker.intel.enriched", Type: "intel.enriched", Time: now,
		Payload: json.RawMessage(fmt.Sprintf(`{"attacker_uuid":%q,"revision":%d}`, id, r.Revision+1)),
	}
	require.NoError(f.t, f.Save(ctx, store.Update{
		Lease: store.Lease{ID: id, Fence: r.Fence}, IP: ip, Revision: r.Revision + 1, SavedAt: now, Event: &ev, Readers: []string{"x"}, NoBus: true,
	}))
	f.ids = append(f.ids, ev.ID)
	return ev.ID
}

// left returns how many events are in the outbox.
func (f *filled) left() int {
	f.t.Helper()
	events, err := f.OutboxOf("x").Unpublished(f.t.Context(), 0, 10_000)
	require.NoError(f.t, err)
	return len(events)
}

func (f *filled) webhook(url string, change func(*export.WebhookOptions)) *export.Webhook {
	f.t.Helper()
	o := export.WebhookOptions{
		URL: url, Secrets: []string{secret}, Outbox: f.OutboxOf("x"), AllowInternal: true, Logger: slog.New(slog.DiscardHandler),
	}
	if change != nil {
		change(&o)
	}
	w, err := export.NewWebhook(o)
	require.NoError(f.t, err)
	return w
}

// running runs a webhook until the test ends.
func running(t *testing.T, w *export.Webhook) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-done)
	})
}

// eventually waits for something.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	require.Eventually(t, is, 20*time.Second, 5*time.Millisecond, what)
}

func TestWebhookDelivers(t *testing.T) {
	f, r := newFilled(t), newReceiver(t)
	for i := range 200 {
		f.event(i % 40)
	}
	w := f.webhook(r.URL+"/hook?key=1", func(o *export.WebhookOptions) {
		o.Secrets = append(o.Secrets, base64.StdEncoding.EncodeToString([]byte("the secret before that, for a while")))
	})
	require.NoError(t, w.Drain(t.Context()))
	require.Zero(t, f.left())
	require.ElementsMatch(t, f.ids, r.got(), "each once")
	delivered, failed, dropped := w.Counts()
	require.Equal(t, []uint64{200, 0, 0}, []uint64{delivered, failed, dropped})

	revisions := map[string]int{}
	for _, in := range r.requests {
		var body map[string]any
		require.NoError(t, json.Unmarshal([]byte(in.body), &body))
		require.Len(t, body, 3)
		require.Equal(t, "intel.enriched", body["type"])
		require.Equal(t, now.Format(time.RFC3339), body["timestamp"])
		data := body["data"].(map[string]any)
		require.EqualValues(t, revisions[in.attacker]+1, data["revision"], "in order")
		revisions[in.attacker]++

		signatures := strings.Split(in.signature, " ")
		require.Len(t, signatures, 2)
		mac := hmac.New(sha256.New, []byte("secret of at least sixteen bytes"))
		mac.Write([]byte(in.id + "." + in.at + "." + in.body))
		require.Equal(t, "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)), signatures[0])
	}
}

// TestWebhookWakes: a running webhook delivers what comes.
func TestWebhookWakes(t *testing.T) {
	f, r := newFilled(t), newReceiver(t)
	w := f.webhook(r.URL, nil)
	running(t, w)
	for i := range 5 {
		f.event(i)
		w.Wake()
		eventually(t, "it is delivered", func() bool { return len(r.got()) == i+1 })
	}
	eventually(t, "the outbox is cleared", func() bool { return f.left() == 0 })
}

// interrupted is an outbox whose user is stopped during a call of Turn.
type interrupted struct {
	store.Outbox
	call  int  // of Turn, from 1
	after bool // the call has its effect, which its caller does not learn
	stop  context.CancelFunc
}

func (o *interrupted) Turn(ctx context.Context, owner string, lasting time.Duration) (bool, error) {
	if o.call--; o.call != 0 {
		return o.Outbox.Turn(ctx, owner, lasting)
	}
	if o.after {
		_, _ = o.Outbox.Turn(ctx, owner, lasting)
	}
	o.stop()
	return false, ctx.Err()
}

// TestWebhookGivesUpItsTurn: a webhook that has stopped has no turn, whenever it was
// stopped.
func TestWebhookGivesUpItsTurn(t *testing.T) {
	for call := 1; call <= 3; call++ { // it takes the turn, extends it, and ends it
		for _, after := range []bool{false, true} {
			f, r := newFilled(t), newReceiver(t)
			f.event(1)
			ctx, stop := context.WithCancel(t.Context())
			w := f.webhook(r.URL, func(o *export.WebhookOptions) { o.Outbox = &interrupted{o.Outbox, call, after, stop} })
			require.NoError(t, w.Run(ctx))
			mine, err := f.OutboxOf("x").Turn(t.Context(), "another", time.Minute)
			require.NoError(t, err)
			require.True(t, mine, "call %d, after it: %v", call, after)
		}
	}
}

// TestWebhookKeepsOrder: an event that fails holds back the later ones about its
// attacker, and no other.
func TestWebhookKeepsOrder(t *testing.T) {
	f, r := newFilled(t), newReceiver(t)
	bad := f.event(1)
	f.event(1)
	var failures int
	r.answers(func(in request) int {
		if in.id == bad && failures < 2 {
			failures++
			return http.StatusUnprocessableEntity
		}
		return http.StatusOK
	})
	for i := range 20 {
		f.event(10 + i)
	}
	running(t, f.webhook(r.URL, nil))
	eventually(t, "everything is delivered", func() bool { return f.left() == 0 })
	got := r.got()
	require.Len(t, got, 24)
	require.Equal(t, f.ids[:2], got[len(got)-2:], "after all others, in order")
}

// TestWebhookDropsRefused: an event that is refused again and again is dropped once
// others were accepted; if all are refused, none is.
func TestWebhookDropsRefused(t *testing.T) {
	synctestWebhook(t, func(t *testing.T, f *filled, r *pipeReceiver, w *export.Webhook) {
		bad := f.event(1)
		r.answer = func(req *http.Request) int {
			if req.Header.Get("webhook-id") == bad {
				return http.StatusBadRequest
			}
			return http.StatusOK
		}
		next := f.event(1)
		time.Sleep(time.Hour)
		require.Equal(t, 2, f.left(), "perhaps the receiver is wrong")
		other := f.event(2)
		time.Sleep(time.Hour)
		require.Zero(t, f.left())
		require.Subset(t, r.accepted(), []string{next, other})
		_, _, dropped := w.Counts()
		require.EqualValues(t, 1, dropped)
	})
}

// TestWebhookDown: while a receiver is down for an hour it gets few attempts, nothing
// is lost, and everything is delivered soon after it is back.
func TestWebhookDown(t *testing.T) {
	synctestWebhook(t, func(t *testing.T, f *filled, r *pipeReceiver, w *export.Webhook) {
		r.answer = func(*http.Request) int { return 0 } // no answer at all
		for i := range 300 {
			f.event(i % 100)
			time.Sleep(12 * time.Second)
			w.Wake()
		}
		require.Equal(t, 300, f.left())
		require.Less(t, len(r.got()), 30, "attempts in an hour")
		r.change(func() { r.answer = nil })
		time.Sleep(6 * time.Minute)
		require.Zero(t, f.left())
		require.ElementsMatch(t, f.ids, r.accepted(), "each once")
	})
}

// TestWebhookSlow: a receiver that takes longer than the timeout has failed, and one
// that is slow gets everything.
func TestWebhookSlow(t *testing.T) {
	synctestWebhook(t, func(t *testing.T, f *filled, r *pipeReceiver, _ *export.Webhook) {
		r.delay = 10 * time.Second
		for i := range 80 {
			f.event(i)
		}
		time.Sleep(5 * time.Minute)
		require.Zero(t, f.left())
		require.Len(t, r.accepted(), 80)
		r.change(func() { r.delay = 20 * time.Second })
		f.event(1)
		time.Sleep(5 * time.Minute)
		require.Equal(t, 1, f.left(), "a success that comes too late is none")
	})
}

// TestWebhookNoSuccess: only 2xx is a success, and no redirect is followed.
func TestWebhookNoSuccess(t *testing.T) {
	for _, status := range []int{302, 307, 400, 401, 404, 410, 429, 500, 503} {
		f, r := newFilled(t), newReceiver(t)
		elsewhere := newReceiver(t)
		r.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", elsewhere.URL)
			w.WriteHeader(status)
		})
		f.event(1)
		err := f.webhook(r.URL+"/secret-path", nil).Drain(t.Context())
		require.ErrorContains(t, err, "not all events could be delivered", status)
		require.NotContains(t, err.Error(), "secret-path")
		require.Equal(t, 1, f.left())
		require.Empty(t, elsewhere.got())
	}
}

// TestWebhookRetryAfter: a receiver that asks for time gets it.
func TestWebhookRetryAfter(t *testing.T) {
	synctestWebhook(t, func(t *testing.T, f *filled, r *pipeReceiver, _ *export.Webhook) {
		r.answer = func(*http.Request) int { return http.StatusTooManyRequests }
		r.retryAfter = "1800"
		f.event(1)
		time.Sleep(29 * time.Minute)
		require.Len(t, r.got(), 1)
		time.Sleep(2 * time.Minute)
		require.Len(t, r.got(), 2)
	})
}

// TestWebhookExpires: what could not be delivered for too long is dropped.
func TestWebhookExpires(t *testing.T) {
	synctestWebhook(t, func(t *testing.T, f *filled, r *pipeReceiver, w *export.Webhook) {
		r.answer = func(*http.Request) int { return 500 }
		f.event(1)
		time.Sleep(6 * 24 * time.Hour)
		require.Equal(t, 1, f.left())
		time.Sleep(2 * 24 * time.Hour)
		require.Zero(t, f.left())
	})
}

// TestWebhookInternal: internal addresses are refused, in the URL, when a name is
// resolved to one, and when a redirect leads to one.
func TestWebhookInternal(t *testing.T) {
	f, r := newFilled(t), newReceiver(t)
	for _, url := range []string{
		"http://127.0.0.1/", "https://[::1]:8080/", "http://10.0.0.1/x", "http://169.254.169.254/latest", "http://localhost/", "http://LOCALHOST./",
		"http://[::ffff:10.0.0.1]/", "http://100.64.0.1/", "http://[fe80::1%25eth0]/",
	} {
		_, err := export.NewWebhook(export.WebhookOptions{URL: url, Secrets: []string{secret}, Outbox: f.OutboxOf("x")})
		require.ErrorContains(t, err, "internal receivers are not allowed", url)
	}
	// Names that resolve to loopback. They stand for one that did not when it was
	// checked: each connection is checked.
	_, port, err := net.SplitHostPort(r.Listener.Addr().String())
	require.NoError(t, err)
	f.event(1)
	for _, host := range []string{"0x7f.1", "2130706433", "localtest.invalid", "ip6-localhost", "ip6-loopback"} {
		w := f.webhook("http://"+host+":"+port+"/", func(o *export.WebhookOptions) { o.AllowInternal = false })
		require.Error(t, w.Drain(t.Context()), host)
	}
	require.Empty(t, r.got())
	require.Equal(t, 1, f.left())
	require.NoError(t, f.webhook(r.URL, nil).Drain(t.Context()), "it is allowed")
}

func TestWebhookInvalid(t *testing.T) {
	f := newFilled(t)
	for want, change := range map[string]func(*export.WebhookOptions){
		"cannot be read":        func(o *export.WebhookOptions) { o.URL = "http://example.org/\x7fs3cret" },
		"must be like https://": func(o *export.WebhookOptions) { o.URL = "ftp://example.org" },
		"must not hold a user":  func(o *export.WebhookOptions) { o.URL = "https://u:s3cret@example.org/" },
		"must not have a":       func(o *export.WebhookOptions) { o.URL = "https://example.org/#s3cret" },
		"needs an Outbox":       func(o *export.WebhookOptions) { o.Outbox = nil },
		"needs a secret":        func(o *export.WebhookOptions) { o.Secrets = nil },
		"must be base64":        func(o *export.WebhookOptions) { o.Secrets = []string{"whsec_s3cret!"} },
		"must have 16 or more":  func(o *export.WebhookOptions) { o.Secrets = []string{"whsec_czNjcmV0"} },
	} {
		o := export.WebhookOptions{URL: "https://example.org/x", Secrets: []string{secret}, Outbox: f.OutboxOf("x")}
		change(&o)
		_, err := export.NewWebhook(o)
		require.ErrorContains(t, err, want)
		require.NotContains(t, err.Error(), "s3cret")
	}
	require.NotEqual(t, export.WebhookReader("https://example.org/a"), export.WebhookReader("https://example.org/b"))
	require.LessOrEqual(t, len(export.WebhookReader("https://example.org/a")), store.MaxReader)
}

// TestWebhookLogs: the log shows neither the URL's path nor a secret.
func TestWebhookLogs(t *testing.T) {
	f, r := newFilled(t), newReceiver(t)
	r.answers(func(request) int { return 500 })
	var log bytes.Buffer
	f.event(1)
	w := f.webhook(r.URL+"/s3cret?key=s3cret", func(o *export.WebhookOptions) { o.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
	require.Error(t, w.Drain(t.Context()))
	r.Close()
	require.Error(t, w.Drain(t.Context()))
	require.Contains(t, log.String(), "cannot deliver to a webhook")
	require.NotContains(t, log.String(), "s3cret")
	require.NotContains(t, log.String(), strings.TrimPrefix(secret, "whsec_"))
}
