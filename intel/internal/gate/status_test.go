package gate

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/intel/internal/quota"
	"github.com/decnet/enrich/provider"
)

func TestStatus(t *testing.T) {
	unauthorized := &provider.Error{Provider: "source", Kind: provider.ErrUnauthorized, StatusCode: 401}
	for _, c := range []struct {
		name   string
		before func(t *testing.T, g *Gate, s *source) // on a gate with 4 calls a day
		state  State
		calls  int
		until  time.Duration // from now
		idle   bool
	}{
		{"new", func(*testing.T, *Gate, *source) {}, Unproven, 1, 0, false},
		{"working", func(t *testing.T, g *Gate, s *source) {
			lookup(t.Context(), g, addr)
		}, Working, 1, 0, true},
		{"half spent", func(t *testing.T, g *Gate, s *source) {
			lookup(t.Context(), g, addr)
			lookup(t.Context(), g, other)
		}, Working, 1, 0, false},
		{"failed once", func(t *testing.T, g *Gate, s *source) {
			s.answer = fails(errBroken)
			lookup(t.Context(), g, addr)
		}, Failing, 0, provider.Day / 168 * 4, false},
		{"bad key", func(t *testing.T, g *Gate, s *source) {
			s.answer = fails(unauthorized)
			lookup(t.Context(), g, addr)
		}, Banned, 0, 6 * time.Hour, false},
		{"bad key, later", func(t *testing.T, g *Gate, s *source) {
			s.answer = fails(unauthorized)
			lookup(t.Context(), g, addr)
			<-time.After(6 * time.Hour)
		}, Unproven, 1, 0, false},
		{"rate limited", func(t *testing.T, g *Gate, s *source) {
			s.answer = fails(refused(provider.ErrRateLimited, time.Minute, nil))
			lookup(t.Context(), g, addr)
		}, Limited, 0, time.Minute, false},
		{"rate limited, later", func(t *testing.T, g *Gate, s *source) {
			s.answer = fails(refused(provider.ErrRateLimited, time.Minute, nil))
			lookup(t.Context(), g, addr)
			<-time.After(time.Minute)
		}, Unproven, 1, 0, false},
		{"exhausted", func(t *testing.T, g *Gate, s *source) {
			s.answer = fails(refused(provider.ErrQuotaExhausted, time.Hour, nil))
			lookup(t.Context(), g, addr)
		}, Exhausted, 0, time.Hour, false},
		{"bad key and rate limited", func(t *testing.T, g *Gate, s *source) {
			s.answer = fails(unauthorized)
			lookup(t.Context(), g, addr)
			g.end(t.Context(), quota.Call{End: time.Now()}, quota.Report{Result: quota.Refused, Why: quota.Limited, Wait: 7 * time.Hour})
		}, Banned, 0, 6 * time.Hour, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &source{limits: provider.Limits{Quotas: []provider.Quota{{Calls: 4, Window: provider.Day}}}}
				g := newcomer(s)
				c.before(t, g, s)
				var until time.Time
				if c.until > 0 {
					until = time.Now().Add(c.until)
				}
				require.Equal(t, Status{State: c.state, Calls: c.calls, Until: until, Idle: c.idle}, g.Status(t.Context(), time.Now()))
			})
		})
	}
}

func TestStatusSpent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{}
		g := scarce(s, 2)
		lookup(t.Context(), g, nth(0))
		<-time.After(time.Hour)
		lookup(t.Context(), g, nth(1))
		status := g.Status(t.Context(), time.Now())
		require.Equal(t, Status{State: Exhausted, Until: status.Until}, status)
		require.GreaterOrEqual(t, time.Until(status.Until), 23*time.Hour)
		require.Less(t, time.Until(status.Until), 23*time.Hour+10*time.Minute)
		<-time.After(time.Until(status.Until))
		require.Equal(t, Status{State: Working, Calls: 1}, g.Status(t.Context(), time.Now()))
	})
}

func TestStatusProbing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{answer: takes(5 * time.Second)}
		g := newcomer(s)
		out := begin(t.Context(), g, addr)
		synctest.Wait()
		status := g.Status(t.Context(), time.Now())
		require.Equal(t, Status{State: Probing, Until: status.Until}, status)
		require.Greater(t, time.Until(status.Until), timeout)
		require.Less(t, time.Until(status.Until), 2*timeout)
		<-out
		require.Equal(t, Status{State: Working, Calls: Unlimited, Idle: true}, g.Status(t.Context(), time.Now()))
	})
}

func TestStatusFailing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{answer: fails(errBroken)}
		g := newcomer(s)
		for n := range tripAfter {
			lookup(t.Context(), g, nth(n))
		}
		status := g.Status(t.Context(), time.Now())
		require.Equal(t, Status{State: Failing, Until: status.Until}, status)
		require.GreaterOrEqual(t, time.Until(status.Until), 24*time.Second)
		require.LessOrEqual(t, time.Until(status.Until), 36*time.Second)
		<-time.After(time.Until(status.Until))
		require.Equal(t, Status{State: Unproven, Calls: 1}, g.Status(t.Context(), time.Now()))
	})
}

func TestStatusShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &ledger{}
		share := func(c *Config) { c.Ledger = l }
		g, s := scarce(&source{}, 4, share), &source{}
		require.Equal(t, 1, g.Status(t.Context(), time.Now()).Calls, "one at a time")
		another := scarce(s, 4, share)
		lookup(t.Context(), another, addr)
		s.answer = fails(refused(provider.ErrQuotaExhausted, time.Hour, nil))
		lookup(t.Context(), another, other)
		until := time.Now().Add(time.Hour)
		<-time.After(time.Minute)
		status := g.Status(t.Context(), time.Now())
		require.Equal(t, Exhausted, status.State)
		require.WithinDuration(t, until, status.Until, time.Microsecond)
	})
}

func TestScarce(t *testing.T) {
	require.False(t, newGate(&source{}).Scarce())
	require.Empty(t, newGate(&source{}).Windows(noon))
	require.True(t, scarce(&source{}, 1).Scarce())
}

func TestWindows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		minute := provider.Quota{Calls: 4, Window: time.Minute}
		day := provider.Quota{Calls: 500, Window: provider.Day, Calendar: true}
		s := &source{limits: provider.Limits{Quotas: []provider.Quota{minute, day}}}
		g := newcomer(s)
		require.Equal(t, []quota.Window{{Quota: minute, Left: 4}, {Quota: day, Left: 500}}, g.Windows(time.Now()))
		lookup(t.Context(), g, addr)
		all := g.Windows(time.Now())
		require.WithinDuration(t, time.Now().Add(time.Minute), all[0].Reset, time.Second)
		require.Equal(t, []quota.Window{
			{Quota: minute, Left: 3, Reset: all[0].Reset},
			{Quota: day, Left: 499, Reset: day.End(time.Now())},
		}, all)
	})
}
