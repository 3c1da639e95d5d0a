package quota

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/store/memstore"
)

// stacked are quotas as they are stacked in the field.
var stacked = []provider.Quota{rolling(1<<40, time.Minute), rolling(1<<40, provider.Day), calendar(1<<40, provider.Month)}

var addr = netip.MustParseAddr("45.1.2.3")

// reserve spends and settles a call, a quarter of a second after the one before,
// so that the minute's buckets are all in use.
func reserve(tb testing.TB, g *Governor, now *time.Time) {
	*now = now.Add(250 * time.Millisecond)
	by := now.Add(10 * time.Second)
	if p, err := g.Spend(tb.Context(), *now, by, addr); !p.Granted || err != nil {
		tb.Fatal(p, err)
	}
	if _, err := g.End(tb.Context(), Call{addr, by, now.Add(200 * time.Millisecond)}, Report{Result: Answered}); err != nil {
		tb.Fatal(err)
	}
}

func TestReservationAllocatesNothing(t *testing.T) {
	g, now := govern(nil, stacked...), noon
	for range 10_000 { // until the buckets are there
		reserve(t, g, &now)
	}
	require.Zero(t, testing.AllocsPerRun(10_000, func() { reserve(t, g, &now) }))
}

// BenchmarkReserve is what the governor adds to a call that it grants.
func BenchmarkReserve(b *testing.B) {
	for _, c := range []struct {
		name   string
		quotas []provider.Quota
		ledger Ledger
	}{
		{"day", stacked[1:2], nil},
		{"stacked", stacked, nil},
		{"memstore/day", stacked[1:2], memstore.New()},
		{"memstore/stacked", stacked, memstore.New()},
	} {
		b.Run(c.name, func(b *testing.B) {
			g, now := govern(c.ledger, c.quotas...), noon
			b.ReportAllocs()
			for b.Loop() {
				reserve(b, g, &now)
			}
		})
	}
}
