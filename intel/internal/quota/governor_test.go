package quota

import (
	"context"
	"errors"
	"math"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/provider"
)

var errDown = errors.New("the ledger is down")

// ledger keeps the document of one provider.
type ledger struct {
	mu      sync.Mutex
	doc     []byte
	version uint64
	reads   int
	swaps   int

	down      bool   // nothing works
	frozen    bool   // nothing can be stored
	forgetful bool   // what is stored is not confirmed
	rival     func() // called before a swap, to come first
}

func (l *ledger) Budget(ctx context.Context, name string) ([]byte, uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.reads++
	if l.down || name != "source" {
		return nil, 0, errDown
	}
	return l.doc, l.version, ctx.Err()
}

func (l *ledger) SwapBudget(ctx context.Context, name string, version uint64, doc []byte) (bool, error) {
	if rival := l.rival; rival != nil {
		l.rival = nil
		rival()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.swaps++
	switch {
	case ctx.Err() != nil:
		return false, ctx.Err()
	case l.down || l.frozen || name != "source":
		return false, errDown
	case version != l.version:
		return false, nil
	}
	l.doc, l.version = doc, version+1
	if l.forgetful {
		return false, errDown
	}
	return true, nil
}

// used returns how many calls the ledger's first quota counts.
func (l *ledger) used(t *testing.T, quotas ...provider.Quota) int {
	b := budget(quotas...)
	require.NoError(t, b.decode(l.doc))
	return b.windows[0].total
}

var day = rolling(10, provider.Day)

func govern(l Ledger, quotas ...provider.Quota) *Governor {
	return NewGovernor(Config{Name: "source", Limits: provider.Limits{Quotas: quotas}, Longest: 10 * time.Second, Ledger: l})
}

// try spends a call if one is granted.
func try(ctx context.Context, g *Governor, now, by time.Time) (ok bool, err error) {
	p, err := g.Spend(ctx, now, by, netip.Addr{})
	return p.Granted, err
}

func end(ctx context.Context, g *Governor, by, end time.Time, r Report) error {
	_, err := g.End(ctx, Call{By: by, End: end}, r)
	return err
}

// settle ends a call that tells nothing but what the source said of its allowance.
func settle(ctx context.Context, g *Governor, by, at time.Time, u *provider.Usage) error {
	return end(ctx, g, by, at, Report{Usage: u})
}

func refund(ctx context.Context, g *Governor, now, by time.Time) error {
	return end(ctx, g, by, now, Report{Result: Unsent})
}

// refuse makes the source ask to be left alone for an hour.
func refuse(ctx context.Context, g *Governor, why Reason) error {
	return end(ctx, g, noon, noon, Report{Result: Refused, Why: why, Wait: time.Hour})
}

// pay makes a call that must be granted.
func pay(t *testing.T, g *Governor, now time.Time) {
	t.Helper()
	ok, err := try(t.Context(), g, now, now)
	require.NoError(t, err)
	require.True(t, ok)
	if g.budget.Alone() {
		require.NoError(t, settle(t.Context(), g, now, now, nil))
	}
}

// broke fails the test unless no call is granted.
func broke(t *testing.T, g *Governor, now time.Time) {
	t.Helper()
	ok, err := try(t.Context(), g, now, now)
	require.NoError(t, err)
	require.False(t, ok)
}

func TestGovernorAlone(t *testing.T) {
	g := NewGovernor(Config{Name: "source", Limits: provider.Limits{Quotas: []provider.Quota{rolling(2, time.Minute)}, Assumed: true}, Longest: time.Minute})
	require.True(t, g.Scarce())
	by := noon.Add(10 * time.Second)
	for range 5 {
		ok, err := try(t.Context(), g, noon, by)
		require.NoError(t, err)
		require.True(t, ok)
		require.NoError(t, refund(t.Context(), g, noon, by))
	}
	for range 2 {
		ok, err := try(t.Context(), g, noon, by)
		require.NoError(t, err)
		require.True(t, ok)
		broke(t, g, noon) // one at a time
		require.NoError(t, settle(t.Context(), g, by, by, nil))
	}
	broke(t, g, noon)
	end := noon.Add(time.Second)
	require.NoError(t, settle(t.Context(), g, by, end, nil))
	require.NoError(t, settle(t.Context(), g, by, end, &provider.Usage{Limit: 5, Remaining: 1, Window: time.Minute}))
	s := g.State(t.Context(), end)
	require.Equal(t, 1, s.Left)
	require.False(t, s.Idle)
	pay(t, g, end)
	s = g.State(t.Context(), end)
	require.Zero(t, s.Left)
	require.Equal(t, Spent, s.Why)
	require.WithinDuration(t, end.Add(time.Minute), s.Next, time.Minute/grain)
}

func TestGovernorWithoutQuotas(t *testing.T) {
	l := &ledger{}
	g := govern(l)
	require.False(t, g.Scarce())
	for range 100 {
		pay(t, g, noon)
		require.NoError(t, settle(t.Context(), g, noon, noon, &provider.Usage{Limit: 1, Window: provider.Day}))
		require.NoError(t, refund(t.Context(), g, noon, noon))
	}
	require.Equal(t, State{Left: math.MaxInt, Idle: true}, g.State(t.Context(), noon))
	require.Empty(t, g.Windows(noon))
	require.Equal(t, 1, l.reads)
	require.Zero(t, l.swaps)

	// A rest is shared all the same.
	require.NoError(t, refuse(t.Context(), g, Limited))
	broke(t, g, noon)
	broke(t, govern(l), noon)
	pay(t, g, noon.Add(time.Hour))
}

func TestGovernorWindows(t *testing.T) {
	day := calendar(100, provider.Day)
	g := NewGovernor(Config{Name: "source", Limits: provider.Limits{Quotas: []provider.Quota{rolling(4, time.Minute), day}, Assumed: true}, Longest: time.Minute})
	require.Equal(t, []Window{{Quota: rolling(4, time.Minute), Left: 4}, {Quota: day, Left: 100}}, g.Windows(noon))
	pay(t, g, noon)
	pay(t, g, noon.Add(30*time.Second))
	now := noon.Add(31 * time.Second)
	all := g.Windows(now)
	require.Equal(t, 2, all[0].Left)
	require.Equal(t, 98, all[1].Left)
	require.WithinDuration(t, noon.Add(time.Minute), all[0].Reset, time.Minute/grain)
	require.Equal(t, 2, g.Windows(all[0].Reset.Add(-1))[0].Left)
	require.Equal(t, 3, g.Windows(all[0].Reset)[0].Left)
	require.Equal(t, day.End(noon), all[1].Reset)

	require.NoError(t, settle(t.Context(), g, now, now, &provider.Usage{Limit: 1000, Remaining: 600, Window: provider.Day}))
	w := g.Windows(now)[1]
	require.Equal(t, 1000, w.Calls, "the limit that the source told")
	require.Equal(t, 600, w.Left)
	require.Zero(t, g.Windows(noon.Add(provider.Week))[0].Reset, "nothing is spent")
}

func TestGovernorRestarts(t *testing.T) {
	l := &ledger{}
	for n := range 10 {
		pay(t, govern(l, day), noon.Add(time.Duration(n)*time.Minute))
	}
	broke(t, govern(l, day), noon.Add(time.Hour))
	require.Equal(t, 10, l.used(t, day))
	g := govern(l, day)
	require.Zero(t, g.State(t.Context(), noon).Left)
	pay(t, g, noon.Add(25*time.Hour))
}

// TestGovernorConflicts: who comes second reads again and loses nothing.
func TestGovernorConflicts(t *testing.T) {
	l, day := &ledger{}, rolling(100, provider.Day)
	g, other := govern(l, day), govern(l, day)
	by := noon.Add(10 * time.Second)
	for name, change := range map[string]func() error{
		"spend": func() error {
			ok, err := try(t.Context(), g, noon, by)
			require.True(t, ok)
			return err
		},
		"settle": func() error { return settle(t.Context(), g, by, noon.Add(time.Minute*20), nil) },
		"correct": func() error {
			return settle(t.Context(), g, by, by, &provider.Usage{Limit: 100, Remaining: 97, Window: provider.Day})
		},
		"rest":    func() error { return refuse(t.Context(), g, Limited) },
		"exhaust": func() error { return refuse(t.Context(), g, Spent) },
	} {
		t.Run(name, func(t *testing.T) {
			l.doc, l.version = nil, 0
			g, other = govern(l, day), govern(l, day)
			ok, err := try(t.Context(), g, noon, by)
			require.NoError(t, err)
			require.True(t, ok)
			l.rival = func() { pay(t, other, by) }
			require.NoError(t, change())
			require.Nil(t, l.rival)
			want := map[string]int{"spend": 3, "correct": 3}[name]
			if want == 0 {
				want = 2
			}
			require.Equal(t, want, l.used(t, day))
			require.Equal(t, uint64(3), l.version)
		})
	}
}

// TestGovernorLastCall: the last call goes to one of two.
func TestGovernorLastCall(t *testing.T) {
	l := &ledger{}
	one := rolling(1, provider.Day)
	g, other := govern(l, one), govern(l, one)
	l.rival = func() { pay(t, other, noon) }
	broke(t, g, noon)
	require.Equal(t, 1, l.used(t, one))
}

func TestGovernorsTogether(t *testing.T) {
	l := &ledger{}
	quota := rolling(100, provider.Day)
	var wg sync.WaitGroup
	var granted atomic.Int32
	by := noon.Add(30 * time.Minute)
	for range 4 {
		g := govern(l, quota)
		for n := range 8 {
			wg.Go(func() {
				for made := 0; ; made++ {
					ok, err := try(t.Context(), g, noon, by)
					switch {
					case err != nil || !ok:
					case n%3 == 0 && made < 5:
						err = refund(t.Context(), g, noon, by)
					case n%3 == 1:
						err = settle(t.Context(), g, by, noon.Add(time.Second), &provider.Usage{Limit: 100, Remaining: 50, Window: provider.Day})
						granted.Add(1)
						g.State(t.Context(), noon)
						g.Windows(noon)
					default:
						err = settle(t.Context(), g, by, noon.Add(time.Second), nil)
						granted.Add(1)
					}
					if err != nil {
						t.Error(err)
					}
					if err != nil || !ok {
						return
					}
				}
			})
		}
	}
	wg.Wait()
	require.LessOrEqual(t, granted.Load(), int32(100))
	require.Equal(t, 100, l.used(t, quota))
}

// TestGovernorsTogetherSpend: as many calls are granted as there are.
func TestGovernorsTogetherSpend(t *testing.T) {
	l := &ledger{}
	quota := rolling(200, provider.Day)
	var wg sync.WaitGroup
	granted := make([]int, 32)
	for n := range granted {
		g := govern(l, quota)
		wg.Go(func() {
			for {
				ok, err := try(t.Context(), g, noon, noon)
				if err != nil {
					t.Error(err)
				}
				if err != nil || !ok {
					return
				}
				granted[n]++
			}
		})
	}
	wg.Wait()
	sum := 0
	for _, n := range granted {
		sum += n
	}
	require.Equal(t, 200, sum)
}

func TestGovernorStale(t *testing.T) {
	l := &ledger{}
	g, other := govern(l, day), govern(l, day)
	require.Equal(t, 10, g.State(t.Context(), noon).Left)
	for range 10 {
		pay(t, other, noon)
	}
	require.Equal(t, 10, g.State(t.Context(), noon.Add(time.Minute-1)).Left)
	require.Equal(t, 2, l.reads, "read without need")
	require.Zero(t, g.State(t.Context(), noon.Add(time.Minute)).Left)

	// A call is never granted by what was known.
	g = govern(l, day)
	later := noon.Add(25 * time.Hour)
	pay(t, g, later)
	for range 9 {
		pay(t, other, later)
	}
	broke(t, g, later)
}

// TestGovernorStaleRest: a rest that another process has noted is found within
// a minute even where there are no quotas.
func TestGovernorStaleRest(t *testing.T) {
	l := &ledger{}
	g, other := govern(l), govern(l)
	pay(t, g, noon)
	require.NoError(t, refuse(t.Context(), other, Limited))
	broke(t, g, noon.Add(time.Minute))
	require.Equal(t, Limited, g.State(t.Context(), noon.Add(time.Minute)).Why)
}

func TestGovernorLedgerFails(t *testing.T) {
	for _, c := range []struct {
		name    string
		fail    func(*ledger)
		message string
	}{
		{"read", func(l *ledger) { l.down = true }, "read the budget of source: the ledger is down"},
		{"store", func(l *ledger) { l.frozen = true }, "store the budget of source: the ledger is down"},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := &ledger{}
			c.fail(l)
			g := govern(l, day)
			for range 20 {
				ok, err := try(t.Context(), g, noon, noon)
				require.False(t, ok)
				require.EqualError(t, err, c.message)
				require.ErrorIs(t, err, errDown)
			}
			require.Error(t, settle(t.Context(), g, noon, noon.Add(time.Hour), nil))
			require.Error(t, refund(t.Context(), g, noon, noon))
			l.down, l.frozen = false, false
			for range 10 { // nothing was spent
				pay(t, g, noon)
			}
			broke(t, g, noon)
		})
	}
}

// TestGovernorLedgerFailsLater: a ledger that fails after it has worked is no
// reason to trust what is known.
func TestGovernorLedgerFailsLater(t *testing.T) {
	l := &ledger{}
	g := govern(l, day)
	pay(t, g, noon)
	l.down = true
	for range 3 {
		ok, err := try(t.Context(), g, noon, noon)
		require.False(t, ok)
		require.ErrorIs(t, err, errDown)
	}
	require.Positive(t, g.State(t.Context(), noon).Left, "what is known has to do")
	l.down = false
	for range 9 {
		pay(t, g, noon)
	}
	broke(t, g, noon)
}

// TestGovernorClockSetBack: calls that a clock ahead of time has forgotten count
// again when it is set back, although the ledger's document has not changed.
func TestGovernorClockSetBack(t *testing.T) {
	g := govern(&ledger{}, day)
	for range 10 {
		pay(t, g, noon)
	}
	require.Equal(t, 10, g.State(t.Context(), noon.Add(48*time.Hour)).Left)
	require.Zero(t, g.State(t.Context(), noon.Add(time.Minute)).Left)
	broke(t, g, noon.Add(time.Minute))
}

func TestGovernorWithoutQuotasLedgerFails(t *testing.T) {
	l := &ledger{down: true}
	g := govern(l)
	ok, err := try(t.Context(), g, noon, noon)
	require.False(t, ok)
	require.ErrorIs(t, err, errDown)
	l.down = false
	pay(t, g, noon)
}

// TestGovernorUnconfirmed: if it is not known whether a call was stored, it is
// spent if it was, and not made.
func TestGovernorUnconfirmed(t *testing.T) {
	l := &ledger{forgetful: true}
	g := govern(l, day)
	for range 3 {
		ok, err := try(t.Context(), g, noon, noon)
		require.False(t, ok)
		require.ErrorIs(t, err, errDown)
	}
	l.forgetful = false
	for range 7 {
		pay(t, g, noon)
	}
	broke(t, g, noon)
}

func TestGovernorContext(t *testing.T) {
	l := &ledger{}
	g := govern(l, day)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	ok, err := try(ctx, g, noon, noon)
	require.False(t, ok)
	require.ErrorIs(t, err, context.Canceled)
	require.Zero(t, l.version)
}

// TestGovernorRestWithoutLedger: a source that wants to be left alone is left
// alone, whatever the ledger does then and afterwards.
func TestGovernorRestWithoutLedger(t *testing.T) {
	for _, quotas := range [][]provider.Quota{nil, {day}} {
		for name, fail := range map[string]func(*ledger, bool){
			"down":        func(l *ledger, b bool) { l.down = b },
			"frozen":      func(l *ledger, b bool) { l.frozen = b },
			"unconfirmed": func(l *ledger, b bool) { l.forgetful = b },
		} {
			for action, leave := range map[string]func(*Governor) error{
				"rest":    func(g *Governor) error { return refuse(t.Context(), g, Limited) },
				"exhaust": func(g *Governor) error { return refuse(t.Context(), g, Spent) },
			} {
				t.Run(name+" "+action, func(t *testing.T) {
					l := &ledger{}
					g, other := govern(l, quotas...), govern(l, quotas...)
					pay(t, g, noon)
					fail(l, true)
					require.ErrorIs(t, leave(g), errDown)
					require.Zero(t, g.State(t.Context(), noon).Left)
					ok, _ := try(t.Context(), g, noon, noon)
					require.False(t, ok)

					fail(l, false)
					soon := noon.Add(2 * time.Minute)
					if len(quotas) > 0 && name != "unconfirmed" {
						pay(t, other, soon) // it does not know
					}
					require.Zero(t, g.State(t.Context(), soon).Left, "forgotten since the ledger works again")
					broke(t, g, soon)
					pay(t, g, noon.Add(time.Hour))
				})
			}
		}
	}
}

// TestGovernorRestUnread: the same before the ledger has answered once.
func TestGovernorRestUnread(t *testing.T) {
	l := &ledger{down: true}
	g := govern(l, day)
	require.ErrorIs(t, refuse(t.Context(), g, Limited), errDown)
	l.down = false
	broke(t, g, noon)
	pay(t, g, noon.Add(time.Hour))
	broke(t, govern(l, day), noon) // with the next change it is told
}

// TestGovernorDamaged: a document that cannot be read counts as if all had been
// spent when that was found, once.
func TestGovernorDamaged(t *testing.T) {
	l := &ledger{doc: []byte("<html>"), version: 7}
	g := govern(l, rolling(10, time.Hour), rolling(3, time.Minute))
	broke(t, g, noon)
	require.Equal(t, Spent, g.State(t.Context(), noon).Why)
	now := noon
	for range 60 { // as somebody who keeps an eye on it
		require.Zero(t, g.State(t.Context(), now).Left)
		broke(t, govern(l, rolling(10, time.Hour), rolling(3, time.Minute)), now)
		now = now.Add(time.Minute)
	}
	now = now.Add(time.Minute)
	require.Equal(t, 3, g.State(t.Context(), now).Left, "the damage goes on for ever")
	pay(t, g, now)
	require.Equal(t, 1, l.used(t, rolling(10, time.Hour)))
}

func TestGovernorDamagedWithoutQuotas(t *testing.T) {
	l := &ledger{doc: []byte("<html>"), version: 7}
	g := govern(l)
	pay(t, g, noon)
	require.NoError(t, refuse(t.Context(), g, Limited))
	broke(t, govern(l), noon)
}

// TestGovernorNewer: what a newer program has stored is left to it.
func TestGovernorNewer(t *testing.T) {
	l := &ledger{doc: []byte(`{"v":9}`), version: 7}
	g := govern(l, day)
	for range 3 {
		ok, err := try(t.Context(), g, noon, noon)
		require.False(t, ok)
		require.ErrorContains(t, err, "read the budget of source: the stored budget has version 9")
	}
	require.Error(t, refuse(t.Context(), g, Limited))
	require.JSONEq(t, `{"v":9}`, string(l.doc))
	require.Equal(t, uint64(7), l.version)
}

// TestGovernorSettlesInPlace: a call that ends where it was expected to costs
// the ledger nothing.
func TestGovernorSettlesInPlace(t *testing.T) {
	l := &ledger{}
	g := govern(l, rolling(100, provider.Day))
	by := noon.Add(10 * time.Second)
	ok, err := try(t.Context(), g, noon, by)
	require.NoError(t, err)
	require.True(t, ok)
	require.NoError(t, settle(t.Context(), g, by, noon.Add(time.Second), nil))
	require.NoError(t, settle(t.Context(), g, by, noon.Add(time.Second), &provider.Usage{Limit: 100, Remaining: 99, Window: provider.Day}))
	require.Equal(t, 1, l.swaps)
}
