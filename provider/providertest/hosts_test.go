package providertest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/provider/providertest"
)

// answerHosts is a service that knows addrA and no other address.
func answerHosts(w http.ResponseWriter, r *http.Request) {
	listed := strings.Contains(r.URL.Path, addrA.String())
	w.Header().Set("Content-Type", "application/json")
	if !listed {
		w.WriteHeader(http.StatusNotFound)
	}
	_, _ = fmt.Fprintf(w, `{"listed":%t,"tags":["scanner","ssh"]}`, listed)
}

const maxBody = 1 << 20

// leaked ends the goroutines of the bug that leaks them.
var leaked = make(chan struct{})

// hosts is a correct provider over answerHosts, unless bug names a mistake.
type hosts struct {
	at     providertest.Endpoint
	bug    string
	client *http.Client
	calls  atomic.Int64

	mu     sync.Mutex
	shared provider.Finding
}

func newHosts(at providertest.Endpoint, bug string) *hosts {
	h := &hosts{at: at, bug: bug, client: &http.Client{
		Transport:     at.Transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	switch bug {
	case "follows redirects":
		h.client.CheckRedirect = nil
	case "own transport":
		h.client.Transport = &http.Transport{DisableKeepAlives: true}
	}
	return h
}

func (h *hosts) Name() string {
	n := h.calls.Load()
	switch h.bug {
	case "bad name":
		return "My Hosts"
	case "name changes":
		return "hosts" + strconv.FormatInt(n, 10)
	case "name differs":
		return "hosts" + strconv.Itoa(rand.IntN(1e9))
	}
	return "hosts"
}

func (h *hosts) Limits() provider.Limits {
	l := provider.Limits{MaxInFlight: 8, IPv4Only: true}
	switch h.bug {
	case "limits change":
		l.MaxInFlight += int(h.calls.Load())
	case "claims to be private":
		l.Private = true
	case "negative limits":
		l.MinInterval = -1
	}
	return l
}

func (h *hosts) Profile() provider.Profile {
	return provider.Profile{Local: h.bug == "claims to be local"}
}

func (h *hosts) Lookup(ctx context.Context, addr netip.Addr) (provider.Finding, error) {
	h.calls.Add(1)
	if h.bug == "leaks a goroutine" {
		go func() { <-leaked }()
	}
	if addr.Is6() && h.bug != "asks about IPv6" {
		if h.bug == "asks before refusing IPv6" {
			_, _ = h.get(ctx, addr)
		}
		return provider.Finding{}, &provider.Error{Provider: "hosts", Kind: provider.ErrUnsupported}
	}
	if h.bug == "ignores its context" {
		ctx = context.WithoutCancel(ctx)
	}
	if h.bug == "shallow about its context" && ctx.Err() != nil {
		return provider.Finding{}, errors.New("too late")
	}
	body, err := h.get(ctx, addr)
	if h.bug == "leaks when canceled" && ctx.Err() != nil {
		go func() { <-leaked }()
	}
	if err != nil {
		return h.failed(err)
	}
	var v struct {
		Listed bool     `json:"listed"`
		Tags   []string `json:"tags"`
	}
	err = json.Unmarshal(body, &v)
	if h.bug == "believes halves" && err != nil && bytes.HasPrefix(body, []byte(`{"listed"`)) && err.Error() == "unexpected end of JSON input" {
		err = nil
	}
	if err != nil && h.bug != "believes anything" {
		return h.failed(&provider.Error{Provider: "hosts", Kind: provider.ErrBadResponse, Err: errors.New("not the expected JSON")})
	}
	return h.finding(addr, v.Listed, v.Tags, body)
}

// finding makes the finding and most of the mistakes one can make with it.
func (h *hosts) finding(addr netip.Addr, listed bool, tags []string, body []byte) (provider.Finding, error) {
	f := provider.Finding{
		Provider: "hosts", Addr: addr, Known: listed, Verdict: provider.Unknown,
		Attrs: map[string]any{"tags": tags, "listed": listed}, Raw: provider.CapRaw(body), ObservedAt: time.Now().UTC(),
	}
	if listed {
		f.Verdict = provider.Malicious
	}
	switch h.bug {
	case "never known":
		f.Known = false
	case "always known":
		f.Known = true
	case "innocent when absent":
		if !listed {
			f.Verdict = provider.Benign
		}
	case "absence is an error":
		if !listed {
			return provider.Finding{}, errors.New("not found")
		}
	case "invalid finding":
		f.Attrs["n"] = 7
	case "wrong provider":
		f.Provider = "host"
	case "wrong address":
		f.Addr = addr.Next()
	case "no time":
		f.ObservedAt = time.Time{}
	case "local time":
		f.ObservedAt = f.ObservedAt.In(time.FixedZone("CET", 3600))
	case "future":
		f.ObservedAt = f.ObservedAt.Add(time.Hour)
	case "big raw":
		f.Raw = fmt.Appendf(nil, "%q", strings.Repeat("x", provider.MaxRaw))
	case "unsteady":
		f.Attrs["n"] = h.calls.Load()
	case "key in raw":
		f.Raw = fmt.Appendf(nil, "%q", h.at.Key)
	case "reuses its map":
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.shared.Attrs == nil {
			h.shared.Attrs = map[string]any{}
		}
		maps.Copy(h.shared.Attrs, f.Attrs)
		h.shared.Attrs["addr"] = addr.String()
		f.Attrs = h.shared.Attrs
	case "reuses its list":
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.shared.Attrs == nil {
			h.shared.Attrs = map[string]any{"list": []string{""}}
		}
		list := h.shared.Attrs["list"].([]string)
		list[0] = addr.String()
		f.Attrs["list"] = list
	}
	return f, nil
}

// failed returns err, and makes the mistakes one can make with it.
func (h *hosts) failed(err error) (provider.Finding, error) {
	switch h.bug {
	case "finding beside an error":
		return provider.Finding{Known: true, Verdict: provider.Malicious}, err
	case "swallows errors":
		return provider.Finding{Provider: "hosts"}, nil
	case "drops the cause":
		return provider.Finding{}, errors.New("failed")
	case "names another":
		if e, ok := errors.AsType[*provider.Error](err); ok {
			e.Provider = "ghosts"
		}
	}
	return provider.Finding{}, err
}

func (h *hosts) get(ctx context.Context, addr netip.Addr) ([]byte, error) {
	url := h.at.BaseURL + "/v1/host/" + addr.String()
	switch h.bug {
	case "key in the URL":
		url += "?api=" + h.at.Key
	case "query in errors":
		url += "?address=" + addr.String()
	case "asks elsewhere":
		_, _ = h.do(ctx, "http://45.9.20.7/", "")
	}
	body := ""
	if h.bug == "key in the body" {
		body = h.at.Key
	}
	b, err := h.do(ctx, url, body)
	if err != nil && h.bug == "retries" || h.bug == "asks twice" {
		b, err = h.do(ctx, url, body)
	}
	return b, err
}

func (h *hosts) do(ctx context.Context, url, body string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("X-Api-Key", h.at.Key)
	req.Header.Set("User-Agent", "Mozilla/5.0")
	switch h.bug {
	case "names itself":
		req.Header.Set("User-Agent", "enrich/1.0")
	case "names itself elsewhere":
		req.Header.Set("X-Client", "DECNET")
	case "names nobody":
		req.Header.Set("User-Agent", "")
	case "tells where from":
		req.Header.Set("Referer", "http://45.155.205.233/")
	}
	if h.bug == "sleeps before" {
		time.Sleep(600 * time.Millisecond)
	}
	resp, err := h.client.Do(req)
	if err != nil {
		if h.bug != "query in errors" {
			if _, inner, ok := strings.Cut(err.Error(), `": `); ok && ctx.Err() == nil {
				err = errors.New(inner)
			} else if ctx.Err() != nil {
				err = ctx.Err()
			}
		}
		return nil, &provider.Error{Provider: "hosts", Kind: provider.ErrUnavailable, Err: err}
	}
	if h.bug != fmt.Sprintf("leaves bodies of %d open", resp.StatusCode) {
		defer resp.Body.Close()
	}
	if h.bug == fmt.Sprintf("sleeps after %d", resp.StatusCode) {
		time.Sleep(600 * time.Millisecond)
	}
	limit := int64(maxBody)
	if h.bug == "reads everything" {
		limit = 1 << 30
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	failure := &provider.Error{Provider: "hosts", StatusCode: resp.StatusCode, Err: err}
	switch {
	case err != nil:
		failure.Kind = provider.ErrUnavailable
	case resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusNotFound:
		h.classify(failure, resp, data)
	case int64(len(data)) > limit:
		failure.Kind = provider.ErrBadResponse
	default:
		return data, nil
	}
	return nil, failure
}

func (h *hosts) classify(e *provider.Error, resp *http.Response, data []byte) {
	switch code := resp.StatusCode; {
	case code == 401, code == 402 && h.bug != "no 402", code == 403:
		e.Kind = provider.ErrUnauthorized
	case code == 429:
		e.Kind = provider.ErrRateLimited
		if s, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && h.bug != "no Retry-After" {
			e.RetryAfter = time.Duration(s) * time.Second
		}
	case code >= 500 && h.bug != "blames the response":
		e.Kind = provider.ErrUnavailable
	default:
		e.Kind = provider.ErrBadResponse
	}
	switch h.bug {
	case "all is unavailable":
		e.Kind, e.RetryAfter = provider.ErrUnavailable, 0
	case "body in errors":
		e.Err = fmt.Errorf("got %s", data)
	case "key in errors":
		e.Err = fmt.Errorf("with key %s", h.at.Key)
	}
}
