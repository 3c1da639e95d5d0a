package gate

import (
	"context"
	"net/netip"
	"time"

	"github.com/decnet/enrich/provider"
)

// Local reports whether the provider answers from memory.
func (g *Gate) Local() bool { return g.local }

// LookupLocal asks a provider that answers from memory. Nothing delays or counts
// the lookup. The finding is nil if the provider has neither an opinion about
// addr nor anything else to say. A lookup without a finding allocates nothing.
func (g *Gate) LookupLocal(ctx context.Context, addr netip.Addr, now time.Time) (*provider.Finding, error) {
	f, err := g.askLocal(ctx, addr)
	switch {
	case err != nil:
		return nil, OwnError(g.name, err)
	case !f.Known && f.Verdict == provider.None && len(f.Attrs) == 0:
		return nil, nil
	}
	found := new(f)
	if err := g.fit(found, addr); err != nil {
		return nil, err
	}
	found.ObservedAt = observed(found.ObservedAt, now)
	return found, nil
}

// askLocal calls the provider and returns its panic as an error.
func (g *Gate) askLocal(ctx context.Context, addr netip.Addr) (f provider.Finding, err error) {
	panicked := guard(func() { f, err = g.provider.Lookup(ctx, addr) })
	if panicked != nil {
		return f, g.fail(provider.ErrUnavailable, panicked)
	}
	return f, err
}

// Listing reports whether the provider answers from a list.
func (g *Gate) Listing() bool { return g.listing != nil }

// List returns how the provider's list is, the zero status if it has none.
func (g *Gate) List() (s provider.ListStatus) {
	if g.listing != nil {
		_ = guard(func() { s = g.listing.List() })
	}
	return s
}

// Changed returns the networks in which the provider's list differs from an
// earlier version; see [provider.Listing].
func (g *Gate) Changed(since uint64) (networks []netip.Prefix, version uint64) {
	version = since
	_ = guard(func() { networks, version = g.listing.Changed(since) })
	return networks, version
}

// Settled passes on that the changes up to a version are done with.
func (g *Gate) Settled(version uint64) {
	_ = guard(func() { g.listing.Settled(version) })
}
