package providertest_test

import (
	"context"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/provider/providertest"
)

// answerList is a service with a list of which addrA is the only entry.
func answerList(w http.ResponseWriter, _ *http.Request) {
	_, _ = w.Write([]byte(`["` + addrA.String() + `"]`))
}

// bulk is a correct provider over answerList, unless bug names a mistake.
type bulk struct {
	*hosts // for its HTTP
	bug    string

	mu     sync.Mutex
	next   time.Time
	err    error
	loaded time.Time
}

func newBulk(at providertest.Endpoint, bug string) *bulk {
	return &bulk{hosts: newHosts(at, ""), bug: bug}
}

func (b *bulk) Refresh(ctx context.Context) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.bug == "forgets its failure" && b.err != nil {
		return nil
	}
	if time.Now().Before(b.next) {
		return b.err
	}
	data, err := b.do(ctx, b.at.BaseURL+"/list", "")
	switch {
	case err == nil && !strings.HasPrefix(strings.TrimSpace(string(data)), `["`),
		err == nil && !strings.HasSuffix(string(data), `"]`):
		err = &provider.Error{Provider: "hosts", Kind: provider.ErrBadResponse}
	}
	if b.err = err; err == nil {
		b.loaded = time.Now().UTC()
	}
	if b.bug != "always loads" && (err == nil || b.bug != "no backoff") {
		b.next = time.Now().Add(time.Minute)
	}
	return err
}

func (b *bulk) Lookup(ctx context.Context, addr netip.Addr) (provider.Finding, error) {
	if err := ctx.Err(); err != nil {
		return provider.Finding{}, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case addr.Is6():
		return provider.Finding{}, &provider.Error{Provider: "hosts", Kind: provider.ErrUnsupported}
	case b.loaded.IsZero() && b.bug != "guesses without data":
		return provider.Finding{}, &provider.Error{Provider: "hosts", Kind: provider.ErrUnavailable}
	}
	return b.finding(addr, addr == addrA && !b.loaded.IsZero(), []string{}, []byte(`{}`))
}
