package intel

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// errDeadline is the cause of a context ending by its own deadline.
var errDeadline = errors.New("no answer in time")

// deadlines hands out contexts that end a given time after they were asked
// for. Those asked for at nearly the same time share one, so that thousands a
// second cost a few timers. It is safe for concurrent use.
type deadlines struct {
	parent  context.Context
	timeout time.Duration
	cause   error

	mu    sync.Mutex
	ctx   context.Context // to be shared
	until time.Time       // when it is too old for that
}

// newDeadlines returns deadlines that also end with ctx.
func newDeadlines(ctx context.Context, timeout time.Duration) *deadlines {
	return &deadlines{parent: ctx, timeout: timeout, cause: fmt.Errorf("%w (%v)", errDeadline, timeout)}
}

// Next returns a context that ends the timeout after now, or up to a hundredth
// of it later.
func (d *deadlines) Next(now time.Time) context.Context {
	slack := d.timeout / 100
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ctx == nil || now.After(d.until) {
		ctx, cancel := context.WithDeadlineCause(d.parent, now.Add(d.timeout+slack), d.cause)
		context.AfterFunc(ctx, cancel) // it ends by itself, nobody knows when it is no longer needed
		d.ctx, d.until = ctx, now.Add(slack)
	}
	return d.ctx
}
