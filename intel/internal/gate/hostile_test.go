package gate

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/intel/internal/panics"
	"github.com/decnet/enrich/provider"
)

// hostile is an error whose methods panic from a call on; 0 means at once.
type hostile struct{ is, as, unwrap, text bool }

func (h hostile) Error() string {
	if h.text {
		panic("no text")
	}
	return "hostile"
}

func (h hostile) Is(error) bool {
	if h.is {
		panic(hostile{text: true})
	}
	return false
}

func (h hostile) As(any) bool {
	if h.as {
		panic("no type")
	}
	return false
}

func (h hostile) Unwrap() error {
	if h.unwrap {
		panic(nil)
	}
	return nil
}

// impostor is a value to panic with that only looks like an error of the run time.
type impostor struct{ error }

func (impostor) RuntimeError() {}

// TestHostileErrors: whatever error a provider makes is a failure of its own
// lookup, also when the error is looked at later.
func TestHostileErrors(t *testing.T) {
	nothing := (*provider.Error)(nil)
	for name, err := range map[string]error{
		"nil *provider.Error":         nothing,
		"wrapped nil *provider.Error": errors.Join(errors.New("a"), nothing),
		"nil inside":                  &provider.Error{Kind: provider.ErrRateLimited, Err: nothing},
		"no kind":                     &provider.Error{},
		"Error":                       hostile{text: true},
		"Is":                          hostile{is: true},
		"As":                          hostile{as: true},
		"Unwrap":                      hostile{unwrap: true},
		"Err.Error":                   &provider.Error{Kind: provider.ErrUnavailable, Err: hostile{text: true}},
		"Err.Is":                      &provider.Error{Kind: provider.ErrUnavailable, Err: hostile{is: true}},
		"Kind.Is":                     &provider.Error{Kind: hostile{is: true}},
		"Kind.Error":                  &provider.Error{Kind: hostile{text: true}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newGate(&source{answer: func(context.Context, netip.Addr) (provider.Finding, error) { return provider.Finding{}, err }})
				for range tripAfter + 1 { // the breaker looks at it, too
					out := lookup(t.Context(), g, addr)
					if out.Kind == Waiting && out.Err == nil { // left alone by now
						return
					}
					require.Error(t, out.Err)
					own, ok := errors.AsType[*provider.Error](out.Err)
					require.True(t, ok)
					require.NotNil(t, own)
					require.NotEmpty(t, out.Err.Error())
					require.NotNil(t, provider.Kind(out.Err))
					require.NotErrorIs(t, out.Err, context.Canceled)
					_, _ = errors.AsType[*panics.Error](out.Err)
				}
			})
		})
	}
}

func TestHostilePanics(t *testing.T) {
	for _, value := range []any{hostile{text: true}, impostor{hostile{text: true}}, nothingToSay()} {
		synctest.Test(t, func(t *testing.T) {
			g := newGate(&source{answer: func(context.Context, netip.Addr) (provider.Finding, error) { panic(value) }})
			out := lookup(t.Context(), g, addr)
			require.Contains(t, out.Err.Error(), "source: unavailable: panic; ")
		})
	}
}

// nothingToSay returns a pointer to an error of the kind above that is nil.
func nothingToSay() any { return (*impostor)(nil) }
