package gate

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/provider"
)

// booby is an error that panics when it is looked at.
type booby struct{ error, is, as, unwrap bool }

func (b *booby) Error() string {
	if b.error {
		panic("Error")
	}
	return "booby"
}

func (b *booby) Is(error) bool {
	if b.is {
		panic("Is")
	}
	return false
}

func (b *booby) As(any) bool {
	if b.as {
		panic("As")
	}
	return false
}

func (b *booby) Unwrap() error {
	if b.unwrap {
		panic("Unwrap")
	}
	return nil
}

// mine is a value to panic with that panics again when it is printed.
type mine struct{}

func (mine) Error() string  { panic(mine{}) }
func (mine) RuntimeError()  {}
func (mine) String() string { panic(mine{}) }

var _ runtime.Error = mine{}

// liar is an error that claims to be everything, and to hold a nil.
type liar struct{}

func (liar) Error() string  { return "liar" }
func (liar) Is(error) bool  { return true }
func (liar) As(to any) bool { return to != nil }

// lists cannot be compared with themselves.
type lists []error

func (lists) Error() string { return "lists" }

// look does with an error what whoever gets to see it does, and requires that
// it is well formed.
func look(t *testing.T, err error) *provider.Error {
	t.Helper()
	require.NotEmpty(t, err.Error())
	e, ok := errors.AsType[*provider.Error](err)
	require.True(t, ok)
	require.NotNil(t, e)
	require.Equal(t, "source", e.Provider)
	require.Contains(t, []error{
		provider.ErrRateLimited, provider.ErrQuotaExhausted, provider.ErrUnauthorized, provider.ErrConfig,
		provider.ErrBadResponse, provider.ErrUnsupported, provider.ErrUnavailable,
	}, e.Kind)
	require.Equal(t, e.Kind, provider.Kind(err))
	require.False(t, errors.Is(err, io.ErrClosedPipe))
	require.False(t, errors.Is(err, lists{}))
	_, ok = errors.AsType[*net.OpError](err)
	require.False(t, ok)
	return e
}

// TestBrokenErrors: whatever a provider returns as an error stays its own
// failure, and whoever looks at it comes to no harm.
func TestBrokenErrors(t *testing.T) {
	var none *provider.Error
	var nobody *booby
	for name, err := range map[string]error{
		"typed nil":                 none,
		"typed nil of its own":      nobody,
		"wrapped typed nil":         errors.Join(none, none),
		"Error panics":              &booby{error: true},
		"Is panics":                 &booby{is: true},
		"As panics":                 &booby{as: true},
		"Unwrap panics":             &booby{unwrap: true},
		"no kind":                   &provider.Error{},
		"a kind of its own":         &provider.Error{Kind: errors.New("of my own")},
		"a kind that panics":        &provider.Error{Kind: &booby{error: true, is: true}},
		"Error of the cause panics": &provider.Error{Err: &booby{error: true}},
		"Is of the cause panics":    &provider.Error{Err: &booby{is: true}},
		"As of the cause panics":    &provider.Error{Err: &booby{as: true}},
		"cause is a typed nil":      &provider.Error{Err: none},
		"negative wait":             &provider.Error{RetryAfter: -time.Hour},
		"not comparable":            lists{},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newGate(&source{answer: fails(err)})
				out := lookup(t.Context(), g, addr)
				e := look(t, out.Err)
				require.Equal(t, provider.ErrUnavailable, e.Kind)
				require.Zero(t, e.RetryAfter)
				require.Equal(t, Outcome{Kind: Failed, Err: out.Err, Started: time.Now()}, out)
			})
		})
	}
}

// TestErrorThatClaimsEverything: what kind of error it is is settled once.
func TestErrorThatClaimsEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := lookup(t.Context(), newGate(&source{answer: fails(liar{})}), addr)
		require.NotEmpty(t, out.Err.Error())
		e, ok := errors.AsType[*provider.Error](out.Err)
		require.True(t, ok)
		require.NotNil(t, e)
		require.Equal(t, provider.ErrRateLimited, provider.Kind(out.Err))
		require.False(t, errors.Is(out.Err, provider.ErrUnsupported))
	})
}

// TestPanicsWithAMine: the value of a panic is not looked at unguarded.
func TestPanicsWithAMine(t *testing.T) {
	for _, v := range []any{mine{}, (*booby)(nil), &booby{error: true}, lists{}, (runtime.Error)(nil)} {
		synctest.Test(t, func(t *testing.T) {
			out := lookup(t.Context(), newGate(&source{answer: func(context.Context, netip.Addr) (provider.Finding, error) { panic(v) }}), addr)
			look(t, out.Err)
		})
	}
}

// TestErrorIsOurs: what the provider does with an error after it returned it
// makes no difference.
func TestErrorIsOurs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shared := &provider.Error{Kind: provider.ErrBadResponse, StatusCode: 418, Usage: &provider.Usage{Limit: 10, Remaining: 9}}
		out := lookup(t.Context(), newGate(&source{answer: fails(shared)}), addr)
		shared.Usage.Remaining = 0
		*shared = provider.Error{}
		e := look(t, out.Err)
		require.Equal(t, &provider.Error{
			Provider: "source", Kind: provider.ErrBadResponse, StatusCode: 418, Usage: &provider.Usage{Limit: 10, Remaining: 9},
		}, e)
	})
}

// TestFindingFromLongAgo: a time that no database can hold is kept away from
// the records of others.
func TestFindingFromLongAgo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := lookup(t.Context(), newGate(&source{answer: says(provider.Finding{ObservedAt: time.Date(-5000, 1, 1, 0, 0, 0, 0, time.UTC)})}), addr)
		require.Equal(t, time.Unix(0, 0).UTC(), out.Finding.ObservedAt)
	})
}

// TestProviderEndsItsGoroutine: nobody who joined the lookup waits for ever,
// and the next one is made.
func TestProviderEndsItsGoroutine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{answer: func(context.Context, netip.Addr) (provider.Finding, error) {
			<-time.After(time.Second)
			runtime.Goexit()
			return provider.Finding{}, nil
		}}
		g := newGate(s)
		begin(t.Context(), g, addr)
		synctest.Wait()
		out := <-begin(t.Context(), g, addr)
		look(t, out.Err)
		require.Len(t, g.slots, 0)
		s.answer = nil
		require.NotNil(t, lookup(t.Context(), g, addr).Finding)
	})
}

// odd is a provider each of whose methods may panic.
type odd struct{ name, limits, unwrap bool }

func (o odd) Name() string {
	if o.name {
		panic(mine{})
	}
	return "odd"
}

func (o odd) Limits() provider.Limits {
	if o.limits {
		panic(mine{})
	}
	return provider.Limits{}
}

func (odd) Lookup(context.Context, netip.Addr) (provider.Finding, error) {
	return provider.Finding{}, nil
}

func (o odd) Unwrap() provider.Provider {
	if o.unwrap {
		panic(mine{})
	}
	return nil
}

func TestIdentify(t *testing.T) {
	for _, c := range []struct {
		odd     odd
		message string
	}{
		{odd{}, ""},
		{odd{name: true}, "its method Name fails: panic; its value is not shown, because it may quote a key"},
		{odd{limits: true}, "its method Limits fails: panic; its value is not shown, because it may quote a key"},
		{odd{unwrap: true}, "its method Unwrap fails: panic; its value is not shown, because it may quote a key"},
	} {
		id, err := Identify(c.odd)
		if c.message == "" {
			require.NoError(t, err)
			require.Equal(t, "odd", id.Name)
			continue
		}
		require.EqualError(t, err, c.message)
	}
	var none *source
	_, err := Identify(none) // its Limits dereferences it
	require.Error(t, err)

	s := &source{limits: provider.Limits{Quotas: []provider.Quota{{Calls: 5, Window: time.Hour}}}}
	id := identify(s)
	s.limits.Quotas[0].Calls = 5000
	require.Equal(t, 5, id.Limits.Quotas[0].Calls, "limits were modified afterwards")
}

// bulk is a provider of bulk data.
type bulk struct {
	source
	refresh func(ctx context.Context) error
}

func (b *bulk) Refresh(ctx context.Context) error { return b.refresh(ctx) }

func TestRefresh(t *testing.T) {
	require.False(t, newGate(&source{}).Refreshes())
	var none *provider.Error
	for name, c := range map[string]struct {
		refresh func(context.Context) error
		fails   bool
	}{
		"works":           {func(context.Context) error { return nil }, false},
		"fails":           {func(context.Context) error { return errBroken }, true},
		"typed nil":       {func(context.Context) error { return none }, true},
		"error panics":    {func(context.Context) error { return &booby{error: true, is: true} }, true},
		"panics":          {func(context.Context) error { panic(mine{}) }, true},
		"ends":            {func(context.Context) error { runtime.Goexit(); return nil }, true},
		"obeys":           {func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }, true},
		"ignores the end": {func(context.Context) error { <-time.After(time.Hour); return nil }, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := New(identify(&bulk{refresh: c.refresh}), Config{MaxInFlight: 1})
				require.True(t, g.Refreshes())
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				start := time.Now()
				err := g.Refresh(ctx)
				require.LessOrEqual(t, time.Since(start), time.Minute+time.Second)
				defer time.Sleep(time.Hour) // until all have returned
				if !c.fails {
					require.NoError(t, err)
					return
				}
				require.NotEmpty(t, err.Error())
				require.False(t, errors.Is(err, io.ErrClosedPipe))
			})
		})
	}
}

// TestALoadedListIsUsed: whatever paused a provider of bulk data, a key that was
// refused too, the pause ends once the data is there.
func TestALoadedListIsUsed(t *testing.T) {
	for _, kind := range []error{provider.ErrUnauthorized, provider.ErrUnavailable} {
		synctest.Test(t, func(t *testing.T) {
			failure := error(&provider.Error{Provider: "source", Kind: kind})
			opened := 0
			b := &bulk{refresh: func(context.Context) error { return failure }}
			b.answer = fails(failure)
			g := New(identify(b), Config{
				TTL: hour, MaxWait: time.Second, Timeout: timeout, MaxInFlight: 2, Opened: func() { opened++ },
			})
			for range tripAfter {
				g.Lookup(t.Context(), deadlines{t.Context()}, addr, false)
			}
			require.Zero(t, g.Status(t.Context(), time.Now()).Calls)
			opened = 0
			require.Error(t, g.Refresh(t.Context()))
			require.Zero(t, opened)

			failure, b.answer = nil, nil
			require.NoError(t, g.Refresh(t.Context()))
			require.Equal(t, 1, opened, "the worker is not told")
			require.Equal(t, Answered, g.Lookup(t.Context(), deadlines{t.Context()}, addr, false).Kind)
			require.NoError(t, g.Refresh(t.Context()))
			require.Equal(t, Working, g.Status(t.Context(), time.Now()).State)
		})
	}
}
