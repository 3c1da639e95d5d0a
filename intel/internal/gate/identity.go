package gate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/decnet/enrich/provider"
)

// Identity is a provider and what it says of itself. Each method was called
// once: what it returns later makes no difference.
type Identity struct {
	Provider provider.Provider
	Name     string
	Limits   provider.Limits
	Profile  provider.Profile // the zero Profile if the provider declares none

	refresher provider.Refresher // nil if it is none
	listing   provider.Listing   // likewise
	batcher   provider.Batcher   // likewise
	account   func() string      // see provider.Accounted; nil if it has none. It does not panic
}

// Identify asks p what it is. It returns an error if p panics.
func Identify(p provider.Provider) (id Identity, err error) {
	id.Provider = p
	for _, ask := range []struct {
		what string
		of   func()
	}{
		{"Name", func() { id.Name = p.Name() }},
		{"Limits", func() {
			if l, ok := provider.As[provider.Limited](p); ok {
				id.Limits = l.Limits()
				id.Limits.Quotas = slices.Clone(id.Limits.Quotas)
			}
		}},
		{"Unwrap", func() {
			id.refresher, _ = provider.As[provider.Refresher](p)
			id.listing, _ = provider.As[provider.Listing](p)
			id.batcher, _ = p.(provider.Batcher)
		}},
		{"Account", func() {
			if a, ok := provider.As[provider.Accounted](p); ok {
				id.account = func() (account string) {
					_ = guard(func() { account = a.Account() })
					return account
				}
			}
		}},
		{"Profile", func() {
			if d, ok := provider.As[provider.Profiled](p); ok {
				id.Profile = d.Profile()
				id.Profile.DerivedFrom = slices.Clone(id.Profile.DerivedFrom)
			}
		}},
	} {
		if panicked := guard(ask.of); panicked != nil {
			return Identity{}, fmt.Errorf("its method %s fails: %w", ask.what, panicked)
		}
	}
	return id, nil
}

// Refreshes reports whether the provider has bulk data to be loaded.
func (g *Gate) Refreshes() bool { return g.refresher != nil }

// Refresh calls the Refresh of a provider that has it, and returns its error in
// a form that is safe to use. Success ends the pause of a provider that was left
// alone. Refresh returns when ctx ends, a little later if the provider ignores
// that.
func (g *Gate) Refresh(ctx context.Context) error {
	err := g.refresh(ctx)
	if err == nil && g.breaker.loaded(time.Now()) && g.config.Opened != nil {
		g.config.Opened()
	}
	return err
}

func (g *Gate) refresh(ctx context.Context) error {
	done := make(chan error, 1)
	go func() {
		err := errEnded // unless it returns
		defer func() { done <- err }()
		if panicked := guard(func() { err = g.refresher.Refresh(ctx) }); panicked != nil {
			err = panicked
		}
		if err != nil {
			err = OwnError(g.name, err)
		}
	}()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	select {
	case err := <-done:
		return err
	case <-time.After(overrun):
		return ctx.Err()
	}
}

// overrun is how long a provider may take to return after its context ended.
const overrun = time.Second

var errEnded = errors.New("the provider has ended its goroutine")
