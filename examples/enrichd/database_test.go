package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/store"
)

// migrator fails as often as it is told to.
type migrator struct {
	errs  []error
	calls int
}

func (m *migrator) Migrate(context.Context) error {
	m.calls++
	if m.calls > len(m.errs) {
		return nil
	}
	return m.errs[m.calls-1]
}

var quiet = slog.New(slog.DiscardHandler)

func TestServerThatIsDownIsWaitedFor(t *testing.T) {
	down := errors.New("down")
	for name, c := range map[string]struct {
		engine string
		errs   []error
		calls  int
		err    error
		within time.Duration
	}{
		"server":       {"mysql", []error{down, down, down, down}, 5, nil, 10 * time.Second},
		"long":         {"postgres", make20(down), 21, nil, 10 * time.Minute},
		"schema":       {"mysql", []error{down, fmt.Errorf("%w: too new", store.ErrSchema)}, 2, store.ErrSchema, time.Second},
		"file":         {"sqlite", []error{down}, 1, down, 0},
		"without harm": {"sqlite", nil, 1, nil, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				eng := engineFor(c.engine)
				m := &migrator{errs: c.errs}
				started := time.Now()
				err := database{engine: eng, port: eng.port}.prepare(t.Context(), m, time.Minute, quiet)
				require.ErrorIs(t, err, c.err)
				require.Equal(t, c.calls, m.calls)
				require.LessOrEqual(t, time.Since(started), c.within)
			})
		})
	}
}

func make20(err error) []error {
	errs := make([]error, 20)
	for i := range errs {
		errs[i] = err
	}
	return errs
}

func TestWaitingForServerEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		started := time.Now()
		m := &migrator{errs: make([]error, 1000)}
		for i := range m.errs {
			m.errs[i] = errors.New("down")
		}
		eng := engineFor("postgres")
		require.ErrorIs(t, database{engine: eng, port: eng.port}.prepare(ctx, m, time.Minute, quiet), context.DeadlineExceeded)
		require.Equal(t, time.Hour, time.Since(started))
		require.Greater(t, m.calls, 100)
	})
}
