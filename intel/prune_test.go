package intel_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/intel"
	"github.com/decnet/enrich/store"
	"github.com/decnet/enrich/store/memstore"
)

// pruning is a store that notes what it is asked to prune, and when.
type pruning struct {
	*memstore.Store
	before, at []time.Time
	err        error
	panics     bool
}

func (p *pruning) Prune(_ context.Context, before time.Time) (store.Pruned, error) {
	p.before, p.at = append(p.before, before), append(p.at, time.Now())
	if p.panics {
		panic("the store is broken")
	}
	return store.Pruned{Raws: 7, Orphans: 1}, p.err
}

// TestPruneDaily: Run prunes the store once a day. Without KeepRaw all raw answers
// stay.
func TestPruneDaily(t *testing.T) {
	for name, c := range map[string]struct {
		keep  time.Duration
		err   error
		first time.Duration // when it prunes first
	}{
		"keep 30 days": {720 * time.Hour, nil, 0},
		"failing":      {720 * time.Hour, errors.New("the database is away"), 0},
		"keep all":     {0, nil, time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log bytes.Buffer
				p := &pruning{Store: memstore.New(), err: c.err}
				r := newRig(t, intel.Config{Store: p, KeepRaw: c.keep, Logger: slog.New(slog.NewTextHandler(&log, nil))}, newSource("a"))
				started := time.Now()
				r.start()
				time.Sleep(50 * time.Hour)
				r.stop()
				require.Len(t, p.at, 3)
				for i, at := range p.at {
					require.Equal(t, c.first+time.Duration(i)*24*time.Hour, at.Sub(started))
					if c.keep == 0 {
						require.Zero(t, p.before[i])
					} else {
						require.Equal(t, c.keep, at.Sub(p.before[i]))
					}
				}
				require.Equal(t, 3, strings.Count(log.String(), "raws=7"))
				if c.err != nil {
					require.Equal(t, 3, strings.Count(log.String(), c.err.Error()))
				}
			})
		})
	}
}

// TestDrainPrunes: Drain prunes at its end if raw answers are not kept for ever.
func TestDrainPrunes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &pruning{Store: memstore.New()}
		require.NoError(t, newRig(t, intel.Config{Store: p}, newSource("a")).worker.Drain(t.Context()))
		require.Empty(t, p.at)
		require.NoError(t, newRig(t, intel.Config{Store: p, KeepRaw: time.Hour}, newSource("a")).worker.Drain(t.Context()))
		require.Len(t, p.at, 1)
		p.err = errors.New("the database is away")
		require.ErrorIs(t, newRig(t, intel.Config{Store: p, KeepRaw: time.Hour}, newSource("a")).worker.Drain(t.Context()), p.err)
		p.panics = true
		require.ErrorContains(t, newRig(t, intel.Config{Store: p, KeepRaw: time.Hour}, newSource("a")).worker.Drain(t.Context()), "prune the store: panic")
	})
}

// bare hides what a store can do besides.
type bare struct{ store.Store }

func TestKeepRawNeedsAPruner(t *testing.T) {
	_, err := intel.NewWorker(intel.Config{Store: bare{memstore.New()}, KeepRaw: time.Hour})
	require.ErrorContains(t, err, "KeepRaw is 1h0m0s; the Store cannot remove raw answers")
}
