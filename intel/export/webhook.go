package export

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/decnet/enrich/bus"
	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/store"
)

// WebhookOptions configure a [Webhook]. URL, Secrets and Outbox are required.
type WebhookOptions struct {
	// URL is where events are posted: http or https, without user and fragment. Its
	// path and query may be secret, so only its scheme and host are logged.
	URL string
	// Secrets sign each delivery: base64 of at least 16 bytes, with or without the
	// prefix whsec_. Several give a receiver time to change its secret.
	Secrets []string
	// Outbox has the events: the one of the reader that [WebhookReader] names.
	Outbox store.Outbox
	// AllowInternal allows receivers at private and other special-purpose addresses.
	AllowInternal bool
	// MaxAge is the age at which an event is dropped that could not be delivered.
	// Default: 7 days.
	MaxAge time.Duration
	// Timeout limits one delivery. Default: 15 s.
	Timeout time.Duration
	// Logger receives what an operator should see. Default: slog.Default().
	Logger *slog.Logger
}

// Validate returns an error if the URL or a secret makes no sense. It shows neither
// the path of the URL nor a secret.
func (o WebhookOptions) Validate() error {
	if _, err := checkURL(o.URL, o.AllowInternal); err != nil {
		return err
	}
	_, err := parseSecrets(o.Secrets)
	return err
}

// Host returns the scheme and the host of the URL, as in https://example.org, which
// are no secret. It is empty if the URL makes no sense.
func (o WebhookOptions) Host() string {
	u, err := checkURL(o.URL, true)
	if err != nil {
		return ""
	}
	return u.Scheme + "://" + u.Host
}

// Check connects to the receiver and sends nothing. The error shows neither the
// path of the URL nor a secret.
func (o WebhookOptions) Check(ctx context.Context) error {
	if err := o.Validate(); err != nil {
		return err
	}
	u, _ := checkURL(o.URL, o.AllowInternal) // Validate has looked at it
	port := u.Port()
	if port == "" {
		port = u.Scheme // which stands for its port
	}
	conn, err := o.dialer().DialContext(ctx, "tcp", net.JoinHostPort(u.Hostname(), port))
	if err != nil {
		return fmt.Errorf("cannot connect to %s: %w", o.Host(), err)
	}
	defer conn.Close()
	if u.Scheme == "https" {
		err := tls.Client(conn, &tls.Config{ServerName: u.Hostname(), MinVersion: tls.VersionTLS12}).HandshakeContext(ctx)
		if err != nil {
			return fmt.Errorf("cannot connect to %s: %w", o.Host(), err)
		}
	}
	return nil
}

// dialer returns what connects to the receiver.
func (o WebhookOptions) dialer() *net.Dialer {
	d := &net.Dialer{Timeout: 10 * time.Second}
	if !o.AllowInternal {
		d.Control = refuseInternal
	}
	return d
}

// parseSecrets reads the secrets of a webhook.
func parseSecrets(texts []string) (keys [][]byte, err error) {
	if len(texts) == 0 {
		return nil, errors.New("export: a webhook needs a secret")
	}
	for _, text := range texts {
		key, err := parseSecret(text)
		if err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// WebhookReader returns the name of the outbox's reader for the webhook with a
// URL. It does not show the URL.
func WebhookReader(url string) string {
	sum := sha256.Sum256([]byte(url))
	return "webhook:" + hex.EncodeToString(sum[:12])
}

// Webhook posts the events of its outbox to a receiver, as Standard Webhooks 1.0
// specifies it (https://www.standardwebhooks.com). The body is a JSON object with
// type, timestamp and data, which is the event's payload; webhook-id is the event's
// ID. An answer with a status 2xx within the timeout is a success, and everything
// else is a failure, which is tried again: a redirect, too, since none is followed.
//
// Each event is delivered at least once, unless it gets too old. Events about one
// attacker are delivered in order; an event that fails holds back only later ones
// about that attacker. While the receiver is down it gets one attempt at a time,
// after pauses of up to 5 minutes. An event that the receiver refuses (400, 413,
// 415 or 422) five times although it has accepted others since is dropped. A proxy
// is not used. Make a Webhook with [NewWebhook]; one worker at a time delivers.
type Webhook struct {
	options WebhookOptions
	host    string // for logs
	keys    atomic.Pointer[[][]byte]
	client  *http.Client
	log     *slog.Logger
	wake    chan struct{} // cap 1

	delivered, failed, dropped atomic.Uint64
}

// NewWebhook returns a webhook. It does no I/O. Its errors show neither the path of
// the URL nor a secret.
func NewWebhook(o WebhookOptions) (*Webhook, error) {
	if o.MaxAge == 0 {
		o.MaxAge = 7 * 24 * time.Hour
	}
	if o.Timeout == 0 {
		o.Timeout = 15 * time.Second
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if o.Outbox == nil {
		return nil, errors.New("export: a webhook needs an Outbox")
	}
	w := &Webhook{options: o, host: o.Host(), wake: make(chan struct{}, 1)}
	w.log = o.Logger.With("webhook", w.host)
	if err := w.SetSecrets(o.Secrets); err != nil {
		return nil, err
	}
	w.client = &http.Client{
		Timeout: o.Timeout,
		Transport: &http.Transport{
			DialContext: o.dialer().DialContext, TLSHandshakeTimeout: 10 * time.Second, ForceAttemptHTTP2: true,
			MaxIdleConnsPerHost: maxInFlight, IdleConnTimeout: time.Minute,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return w, nil
}

// errInternal is returned for a receiver that may not be reached.
var errInternal = errors.New("it has an internal address, and internal receivers are not allowed")

// checkURL returns the URL of a receiver, or an error that says what is wrong.
func checkURL(text string, internal bool) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return nil, errors.New("export: the URL of a webhook cannot be read") // its text may hold a secret
	case u.Scheme != "https" && u.Scheme != "http" || u.Hostname() == "":
		return nil, errors.New("export: the URL of a webhook must be like https://example.org/path")
	case u.User != nil:
		return nil, fmt.Errorf("export: the URL of the webhook at %s must not hold a user; the signature proves who sends", u.Host)
	case u.Fragment != "":
		return nil, fmt.Errorf("export: the URL of the webhook at %s must not have a fragment", u.Host)
	case internal:
		return u, nil
	}
	host := strings.TrimSuffix(strings.ToLower(u.Hostname()), ".")
	addr, err := netip.ParseAddr(host)
	if host == "localhost" || strings.HasSuffix(host, ".localhost") || err == nil && !(provider.Guard{}).Allows(addr) {
		return nil, fmt.Errorf("export: webhook %s: %w", u.Host, errInternal)
	}
	return u, nil
}

// refuseInternal refuses connections to internal addresses. It is called when the
// name has been resolved, for each address that is dialed.
func refuseInternal(_, address string, _ syscall.RawConn) error {
	to, err := netip.ParseAddrPort(address)
	if err != nil || !(provider.Guard{}).Allows(to.Addr()) {
		return errInternal
	}
	return nil
}

// minSecret is the smallest number of bytes of a secret.
const minSecret = 16

// parseSecret reads a secret. Its errors show nothing of it.
func parseSecret(text string) ([]byte, error) {
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(strings.TrimSpace(text), "whsec_"))
	switch {
	case err != nil:
		return nil, errors.New("export: the secret of a webhook must be base64, like whsec_ and what openssl rand -base64 32 prints")
	case len(key) < minSecret:
		return nil, fmt.Errorf("export: the secret of a webhook has %d bytes; it must have %d or more, like what openssl rand -base64 32 prints", len(key), minSecret)
	}
	return key, nil
}

// SetSecrets makes other secrets sign from now on, in the form of
// [WebhookOptions].Secrets. After an error the secrets are as before.
func (w *Webhook) SetSecrets(secrets []string) error {
	keys, err := parseSecrets(secrets)
	if err == nil {
		w.keys.Store(&keys)
	}
	return err
}

// Wake makes a running webhook look at the outbox now. It never blocks.
func (w *Webhook) Wake() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// Counts returns the number of events delivered, of deliveries that failed, and of
// events dropped, since the webhook was made.
func (w *Webhook) Counts() (delivered, failed, dropped uint64) {
	return w.delivered.Load(), w.failed.Load(), w.dropped.Load()
}

// message is the body of a delivery.
type message struct {
	Type      string          `json:"type"`
	Timestamp string          `json:"timestamp"`
	Data      json.RawMessage `json:"data"`
}

// result is what became of an attempt to deliver an event.
type result struct {
	err     error         // nil if it was delivered
	refused bool          // the receiver does not want this event
	after   time.Duration // how long the receiver asks to wait
}

// post makes one attempt to deliver an event.
func (w *Webhook) post(ctx context.Context, ev *bus.Event) result {
	m := message{Type: ev.Type, Timestamp: ev.Time.UTC().Format(time.RFC3339Nano), Data: ev.Payload}
	if m.Type == "" {
		m.Type = ev.Topic
	}
	if len(m.Data) == 0 {
		m.Data = json.RawMessage("{}")
	}
	body, err := json.Marshal(m)
	if err != nil {
		return result{err: errors.New("its payload is not JSON"), refused: true}
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, w.options.URL, bytes.NewReader(body))
	if err != nil {
		return result{err: bare(err)}
	}
	at := strconv.FormatInt(time.Now().Unix(), 10)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", "enrich-webhook/1")
	r.Header.Set("webhook-id", ev.ID)
	r.Header.Set("webhook-timestamp", at)
	r.Header.Set("webhook-signature", w.sign(ev.ID, at, body))
	answer, err := w.client.Do(r)
	if err != nil {
		return result{err: bare(err)}
	}
	_, _ = io.CopyN(io.Discard, answer.Body, 16<<10) // so that the connection can be used again
	_ = answer.Body.Close()
	if answer.StatusCode/100 == 2 {
		return result{}
	}
	res := result{err: fmt.Errorf("the receiver answers %d", answer.StatusCode)}
	switch answer.StatusCode {
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType, http.StatusUnprocessableEntity:
		res.refused = true
	case http.StatusGone:
		res.err = errors.New("the receiver answers 410: it wants no events any more; remove the webhook")
		res.after = maxRetryAfter
	default:
		res.after = retryAfter(answer.Header.Get("Retry-After"))
	}
	return res
}

// sign returns the header webhook-signature.
func (w *Webhook) sign(id, at string, body []byte) string {
	var all []string
	for _, key := range *w.keys.Load() {
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(id + "." + at + "."))
		mac.Write(body)
		all = append(all, "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	}
	return strings.Join(all, " ")
}

// bare returns an error of the client without the URL.
func bare(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err
	}
	return err
}

// maxRetryAfter is the longest Retry-After that is honoured.
const maxRetryAfter = time.Hour

// retryAfter reads a header Retry-After in either form (RFC 9110, section 10.2.3).
func retryAfter(text string) time.Duration {
	wait := time.Duration(0)
	if seconds, err := strconv.ParseUint(text, 10, 31); err == nil {
		wait = time.Duration(seconds) * time.Second
	} else if at, err := http.ParseTime(text); err == nil {
		wait = time.Until(at)
	}
	return min(max(wait, 0), maxRetryAfter)
}
