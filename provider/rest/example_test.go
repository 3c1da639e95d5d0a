package rest_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"

	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/provider/rest"
)

// hosts is a provider over a service that answers {"listed":true,"tags":["ssh"]}.
type hosts struct{ client *rest.Client }

func newHosts(o rest.Options) (*hosts, error) {
	o.Provider, o.URL, o.Key.Header = "hosts", "https://api.example.com/v1/host", "X-Api-Key"
	o.Key.Refusal = []string{"error"} // as in {"error":"wrong key"}
	client, err := rest.New(o)
	return &hosts{client}, err
}

func (*hosts) Name() string { return "hosts" }

func (h *hosts) Lookup(ctx context.Context, addr netip.Addr) (provider.Finding, error) {
	addr, err := h.client.Admit(addr)
	if err != nil {
		return provider.Finding{}, err
	}
	r, err := h.client.Do(ctx, rest.Request{Path: "/" + addr.String()})
	if err != nil {
		return provider.Finding{}, err
	}
	if r.Status != http.StatusOK {
		return provider.Finding{}, r.StatusError()
	}
	var answer struct {
		Listed rest.Bool    `json:"listed"`
		Tags   rest.Strings `json:"tags"`
	}
	if err := r.Decode(&answer); err != nil {
		return provider.Finding{}, err
	}
	f := r.Finding(addr)
	if answer.Listed.Value {
		f.Known, f.Verdict = true, provider.Malicious
	}
	answer.Tags.Set(f.Attrs, "tags")
	return f, nil
}

// A complete provider, and the service it queries.
func Example() {
	service := httptest.NewServer(http.HandlerFunc(answerHosts))
	defer service.Close()

	h, err := newHosts(rest.Options{BaseURL: service.URL})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, ip := range []string{"45.155.205.233", "193.32.162.7", "192.168.0.1"} {
		f, err := h.Lookup(context.Background(), netip.MustParseAddr(ip))
		fmt.Println(ip, f.Known, f.Verdict, f.Attrs["tags"], err)
	}
	// Output:
	// 45.155.205.233 true malicious [ssh] <nil>
	// 193.32.162.7 false  [] <nil>
	// 192.168.0.1 false  <nil> hosts: address not supported: not a public address; nothing was sent
}

func answerHosts(w http.ResponseWriter, r *http.Request) {
	if strings.HasSuffix(r.URL.Path, "/45.155.205.233") {
		fmt.Fprintln(w, `{"listed":true,"tags":["ssh"]}`)
	} else {
		fmt.Fprintln(w, `{"listed":false}`)
	}
}
