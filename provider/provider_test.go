package provider_test

import (
	"context"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/provider"
)

func TestFunc(t *testing.T) {
	addr := netip.MustParseAddr("45.155.205.233")
	var p provider.Provider = provider.Func{ID: "mine", Ask: func(_ context.Context, a netip.Addr) (provider.Finding, error) {
		return provider.Finding{Addr: a, Known: true}, provider.ErrUnavailable
	}}
	require.Equal(t, "mine", p.Name())
	f, err := p.Lookup(t.Context(), addr)
	require.Equal(t, provider.Finding{Addr: addr, Known: true}, f)
	require.Equal(t, provider.ErrUnavailable, err)
}

// limited adds limits, wrapped hides what it wraps but for Unwrap.
type limited struct {
	provider.Provider
	n int
}

func (l limited) Limits() provider.Limits { return provider.Limits{MaxInFlight: l.n} }

type wrapped struct{ inner provider.Provider }

func (w wrapped) Name() string { return w.inner.Name() }
func (w wrapped) Lookup(ctx context.Context, a netip.Addr) (provider.Finding, error) {
	return w.inner.Lookup(ctx, a)
}
func (w wrapped) Unwrap() provider.Provider { return w.inner }

func TestAs(t *testing.T) {
	plain := provider.Func{ID: "mine"}
	for name, c := range map[string]struct {
		p    provider.Provider
		want int // 0 is none
	}{
		"nil":                {nil, 0},
		"without":            {plain, 0},
		"itself":             {limited{plain, 1}, 1},
		"below a wrapper":    {wrapped{limited{plain, 2}}, 2},
		"below two":          {wrapped{wrapped{limited{plain, 3}}}, 3},
		"the outermost wins": {limited{wrapped{limited{plain, 4}}, 5}, 5},
		"wrapped without":    {wrapped{plain}, 0},
		"wrapped nil":        {wrapped{nil}, 0},
	} {
		l, ok := provider.As[provider.Limited](c.p)
		require.Equal(t, c.want > 0, ok, name)
		if ok {
			require.Equal(t, c.want, l.Limits().MaxInFlight, name)
		} else {
			require.Nil(t, l, name)
		}
	}
	_, ok := provider.As[provider.Refresher](wrapped{limited{plain, 1}})
	require.False(t, ok)
}
