package dashboard

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

const (
	// patience is how long a page waits for a value that takes long, if there is none
	// yet or the next one is overdue for tooOld.
	patience = 300 * time.Millisecond
	tooOld   = time.Minute
	// loadTimeout is how long it may take to load a value.
	loadTimeout = 30 * time.Second
)

// cached is a value that takes long to load: it is loaded by one goroutine at a time,
// at most every so often and for at most a tenth of the time, and pages show the last
// one. The zero value has none.
type cached[T any] struct {
	every time.Duration
	load  func(context.Context) (T, error)

	mu      sync.Mutex
	value   T
	known   bool
	at      time.Time
	took    time.Duration // to load it
	loading chan struct{} // closed when the load under way ends; nil if none is
}

// get returns the value, and whether there is one. It waits a little for a new one if
// it has to, and otherwise lets later calls have it.
func (c *cached[T]) get(ctx context.Context, log *slog.Logger) (value T, known bool) {
	if c.load == nil {
		return value, false
	}
	c.mu.Lock()
	loading := c.loading
	overdue := time.Since(c.at) - max(c.every, 10*c.took)
	if loading == nil && overdue >= 0 {
		loading = make(chan struct{})
		c.loading = loading
		go c.reload(context.WithoutCancel(ctx), loading, log)
	}
	wait := loading != nil && (!c.known || overdue >= tooOld)
	c.mu.Unlock()
	if wait {
		timer := time.NewTimer(patience)
		defer timer.Stop()
		select {
		case <-loading:
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.value, c.known
}

func (c *cached[T]) reload(ctx context.Context, done chan struct{}, log *slog.Logger) {
	ctx, cancel := context.WithTimeout(ctx, loadTimeout)
	defer cancel()
	start := time.Now()
	value, err := c.load(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil {
		c.value, c.known = value, true
	} else {
		log.Warn("the dashboard shows an old value", "error", err)
	}
	c.at, c.took, c.loading = time.Now(), time.Since(start), nil
	close(done)
}
