package gate

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/intel/internal/panics"
	"github.com/decnet/enrich/provider"
)

func TestAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{}
		s.answer = func(_ context.Context, addr netip.Addr) (provider.Finding, error) {
			<-time.After(300 * time.Millisecond)
			return provider.Finding{
				Addr: addr, Known: true, Verdict: provider.Suspicious,
				Attrs: map[string]any{"score": int64(7)}, Raw: json.RawMessage(`{"score":7}`),
			}, nil
		}
		start := time.Now()
		out := lookup(t.Context(), newGate(s), addr)
		now := time.Now().UTC()
		require.Equal(t, Outcome{
			Kind: Answered,
			Finding: &provider.Finding{
				Provider: "source", Addr: addr, Known: true, Verdict: provider.Suspicious,
				Attrs: map[string]any{"score": int64(7)}, Raw: json.RawMessage(`{"score":7}`), ObservedAt: now,
			},
			Expires: now.Add(time.Hour),
			Started: start,
			Took:    300 * time.Millisecond,
		}, out)
		require.Equal(t, []netip.Addr{addr}, s.asked)
	})
}

func TestTTL(t *testing.T) {
	for _, c := range []struct{ ttl, want time.Duration }{
		{0, time.Hour},
		{time.Minute, time.Minute},
		{minTTL, minTTL},
		{1, minTTL},
		{90 * 24 * time.Hour, 90 * 24 * time.Hour},
		{math.MaxInt64, math.MaxInt64},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := &source{}
			s.answer = func(_ context.Context, addr netip.Addr) (provider.Finding, error) {
				<-time.After(time.Second)
				return provider.Finding{Addr: addr, TTL: c.ttl}, nil
			}
			out := lookup(t.Context(), newGate(s), addr)
			require.Equal(t, time.Now().Add(c.want).UTC().Truncate(time.Microsecond), out.Expires)
			require.Equal(t, c.ttl, out.Finding.TTL)
		})
	}
}

func TestTTLJitter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New(identify(&source{}), Config{TTL: hour, Jitter: 0.25, MaxInFlight: 1})
		seen := make(map[time.Time]bool)
		for n := range 1000 {
			out := lookup(t.Context(), g, nth(n))
			ttl := time.Until(out.Expires)
			require.LessOrEqual(t, ttl, time.Hour)
			require.GreaterOrEqual(t, ttl, 45*time.Minute-time.Microsecond)
			require.Equal(t, out.Expires.Truncate(time.Microsecond), out.Expires)
			seen[out.Expires] = true
		}
		require.Greater(t, len(seen), 900, "expiries are not spread")
	})
}

func TestObservedAt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now().UTC()
		east := time.FixedZone("east", 2*60*60)
		for _, c := range []struct {
			name           string
			observed, want time.Time
		}{
			{"missing", time.Time{}, now},
			{"now", now, now},
			{"past", now.Add(-time.Hour), now.Add(-time.Hour)},
			{"future", now.Add(time.Hour), now},
			{"other zone", now.Add(-time.Hour).In(east), now.Add(-time.Hour)},
			{"too precise", now.Add(-time.Microsecond + 1), now.Add(-time.Microsecond)},
		} {
			out := lookup(t.Context(), newGate(&source{answer: says(provider.Finding{ObservedAt: c.observed})}), addr)
			require.NoError(t, out.Err)
			require.Equal(t, c.want, out.Finding.ObservedAt, c.name)
		}
	})
}

func TestRaw(t *testing.T) {
	for _, c := range []struct{ name, raw, want string }{
		{"none", "", ""},
		{"as it is", `{ "a": 1 }`, `{ "a": 1 }`},
		{"an array", `[]`, `[]`},
		{"huge", `"` + strings.Repeat("x", provider.MaxRaw) + `"`, fmt.Sprintf(`{"truncated":true,"bytes":%d}`, provider.MaxRaw+2)},
		{"huge because of its spaces", `{"a":` + strings.Repeat(" ", provider.MaxRaw) + `1}`, `{"a":1}`},
	} {
		out := lookup(t.Context(), newGate(&source{answer: says(provider.Finding{Raw: []byte(c.raw)})}), addr)
		require.NoError(t, out.Err, c.name)
		require.Equal(t, c.want, string(out.Finding.Raw), c.name)
	}
}

func TestFindingAddressIsCanonical(t *testing.T) {
	mapped := netip.AddrFrom16(addr.As16())
	out := lookup(t.Context(), newGate(&source{answer: func(context.Context, netip.Addr) (provider.Finding, error) {
		return provider.Finding{Provider: "source", Addr: mapped}, nil
	}}), addr)
	require.NoError(t, out.Err)
	require.Equal(t, addr, out.Finding.Addr)
}

// TestFindingRefused: an answer that could not be stored is a failure, and is
// not kept.
func TestFindingRefused(t *testing.T) {
	for _, c := range []struct {
		name    string
		finding provider.Finding
		message string
	}{
		{"another provider", provider.Finding{Provider: "somebody", Addr: addr},
			`source: bad response: asked about 45.155.205.233, got a finding of "somebody" about 45.155.205.233`},
		{"another address", provider.Finding{Addr: other},
			`source: bad response: asked about 45.155.205.233, got a finding of "source" about 193.32.162.7`},
		{"no address", provider.Finding{},
			"source: bad response: the finding names no address"},
		{"verdict", provider.Finding{Addr: addr, Verdict: 9}, "source: bad response: verdict 9 is not one of the five"},
		{"TTL", provider.Finding{Addr: addr, TTL: -1}, "source: bad response: TTL -1ns is negative"},
		{"raw", provider.Finding{Addr: addr, Raw: []byte("<html>")}, "source: bad response: raw is not valid JSON"},
		{"huge raw", provider.Finding{Addr: addr, Raw: bytes.Repeat([]byte("<"), provider.MaxRaw+1)},
			"source: bad response: raw is not valid JSON"},
		{"attribute name", provider.Finding{Addr: addr, Attrs: map[string]any{"a b": nil}},
			`source: bad response: attribute name "a b" is not 1 to 32 characters of a-z, 0-9 and _ starting with a letter`},
		{"attribute type", provider.Finding{Addr: addr, Attrs: map[string]any{"n": 1}},
			`source: bad response: attribute "n" has type int; use string, bool, int64, float64, []string or []int64`},
		{"attribute size", provider.Finding{Addr: addr, Attrs: map[string]any{"s": strings.Repeat("x", provider.MaxAttrs+1)}},
			"source: bad response: attributes take 65538 bytes or more, with their names; at most 65536 are allowed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := &source{answer: func(context.Context, netip.Addr) (provider.Finding, error) { return c.finding, nil }}
			g := newGate(s)
			for range 2 {
				out := lookup(t.Context(), g, addr)
				require.EqualError(t, out.Err, c.message)
				require.ErrorIs(t, out.Err, provider.ErrBadResponse)
				require.Nil(t, out.Finding)
				require.Zero(t, out.Expires)
			}
			require.Equal(t, 2, s.calls())
			_, ok := g.Recent(addr, time.Now())
			require.False(t, ok)
		})
	}
}

func TestError(t *testing.T) {
	typed := &provider.Error{Provider: "source", Kind: provider.ErrRateLimited, StatusCode: 429, RetryAfter: time.Minute}
	plain := errors.New("connection reset")
	for _, c := range []struct {
		name    string
		err     error
		kind    error
		message string
	}{
		{"typed", typed, provider.ErrRateLimited, "source: rate limited (HTTP 429) (retry after 1m0s)"},
		{"wrapped", fmt.Errorf("cache: %w", typed), provider.ErrRateLimited, "cache: source: rate limited (HTTP 429) (retry after 1m0s)"},
		{"sentinel", provider.ErrUnsupported, provider.ErrUnsupported, "source: address not supported"},
		{"plain", plain, provider.ErrUnavailable, "source: unavailable: connection reset"},
		{"context of its own", context.DeadlineExceeded, provider.ErrUnavailable, "source: unavailable: context deadline exceeded"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				out := lookup(t.Context(), newGate(&source{answer: fails(c.err)}), addr)
				require.EqualError(t, out.Err, c.message)
				if c.err == error(typed) { // the copy cannot be modified
					require.Equal(t, c.err, out.Err)
					require.NotSame(t, c.err, out.Err)
				} else {
					require.ErrorIs(t, out.Err, c.err)
				}
				require.Equal(t, c.kind, provider.Kind(out.Err))
				kind := Failed
				if c.kind == provider.ErrRateLimited {
					kind = Waiting
				}
				require.Equal(t, Outcome{Kind: kind, Err: out.Err, Started: time.Now()}, out)
				_, ok := errors.AsType[*provider.Error](out.Err)
				require.True(t, ok)
			})
		})
	}
}

func TestDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := lookup(t.Context(), newGate(&source{answer: takes(time.Hour)}), addr)
		require.EqualError(t, out.Err, "source: unavailable: no answer in time (10s)")
		require.Equal(t, provider.ErrUnavailable, provider.Kind(out.Err))
		require.Equal(t, timeout+timeout/100, out.Took)
		require.NotEqual(t, Cut, out.Kind)
	})
}

// TestDeadlineKeepsReason: what a provider has found out by its deadline is not
// replaced by the deadline.
func TestDeadlineKeepsReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limited := &provider.Error{Provider: "source", Kind: provider.ErrRateLimited}
		out := lookup(t.Context(), newGate(&source{answer: func(ctx context.Context, _ netip.Addr) (provider.Finding, error) {
			<-ctx.Done()
			return provider.Finding{}, limited
		}}), addr)
		require.Equal(t, error(limited), out.Err)
	})
}

// TestDeadlineAfterWait: a lookup that had to wait for its turn has its full
// time all the same.
func TestDeadlineAfterWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(&source{limits: provider.Limits{MinInterval: time.Second}, answer: takes(time.Hour)})
		first, second := begin(t.Context(), g, addr), begin(t.Context(), g, other)
		for _, out := range []Outcome{<-first, <-second} {
			require.EqualError(t, out.Err, "source: unavailable: no answer in time (10s)")
			require.Equal(t, timeout+timeout/100, out.Took)
		}
	})
}

func TestPanic(t *testing.T) {
	for _, c := range []struct {
		panics func()
		says   string
	}{
		{func() { _ = []int{}[len(t.Name())] }, "panic: runtime error: index out of range [9] with length 0"},
		{func() { panic("the key s3cret is no good") }, "panic; its value is not shown, because it may quote a key"},
		{func() { panic(errors.New("the key s3cret is no good")) }, "panic; its value is not shown, because it may quote a key"},
	} {
		synctest.Test(t, func(t *testing.T) {
			s := &source{limits: provider.Limits{MaxInFlight: 1}}
			s.answer = func(context.Context, netip.Addr) (provider.Finding, error) {
				c.panics()
				return provider.Finding{}, nil
			}
			g := newGate(s)
			for range 3 { // its slot is free again
				out := lookup(t.Context(), g, addr)
				require.EqualError(t, out.Err, "source: unavailable: "+c.says)
				require.Equal(t, provider.ErrUnavailable, provider.Kind(out.Err))
				panicked, ok := errors.AsType[*panics.Error](out.Err)
				require.True(t, ok)
				require.NotNil(t, panicked.Value)
				require.Contains(t, string(panicked.Stack), "TestPanic")
				require.NotContains(t, string(panicked.Stack), "s3cret")
			}
		})
	}
}

// TestCut: what ends with the caller's context is no failure.
func TestCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{answer: takes(time.Hour)}
		ctx, cancel := context.WithCancel(t.Context())
		start := time.Now()
		out := begin(ctx, newGate(s), addr)
		<-time.After(2 * time.Second)
		cancel()
		require.Equal(t, Outcome{Kind: Cut, Started: start, Took: 2 * time.Second}, <-out)
		require.Equal(t, 1, s.calls())
	})
}

// TestCutBefore: nobody is asked for somebody who is gone already.
func TestCutBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		g := newGate(s)
		require.Equal(t, Outcome{Kind: Cut}, lookup(ctx, g, addr))
		require.Zero(t, s.calls())
		require.NotNil(t, lookup(t.Context(), g, addr).Finding)
	})
}

// TestAnswerDespiteCut: an answer that came although its context had ended was
// paid for and counts.
func TestAnswerDespiteCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		g := newGate(&source{answer: func(_ context.Context, addr netip.Addr) (provider.Finding, error) {
			cancel()
			return provider.Finding{Addr: addr}, nil
		}})
		out := lookup(ctx, g, addr)
		require.NotNil(t, out.Finding)
		require.NotEqual(t, Cut, out.Kind)
	})
}

// TestLate: a lookup is late that waited for its turn until the end and in vain.
func TestLate(t *testing.T) {
	const wait = time.Second
	for _, c := range []struct {
		out  Outcome
		late bool
	}{
		{Outcome{Kind: Deferred, Took: wait}, true},
		{Outcome{Kind: Waiting, Took: 2 * wait}, true},
		{Outcome{Kind: Deferred, Took: wait - 1}, false},
		{Outcome{Kind: Deferred, Took: wait, Started: time.Now()}, false},
		{Outcome{Kind: Failed, Took: wait}, false},
		{Outcome{Kind: Answered, Took: wait}, false},
	} {
		require.Equal(t, c.late, c.out.Late(wait), c.out)
	}
}
