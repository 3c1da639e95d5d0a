package intel

import (
	"context"
)

// pool makes lookups. Its goroutines stay for further lookups, and lookups that
// start at nearly the same time share a deadline.
type pool struct {
	idle     chan func()
	lookup   *deadlines // for one lookup: Config.LookupTimeout
	patience *deadlines // for the wait for an attacker's lookups: Config.Patience
}

// newPool returns a pool whose deadlines end with ctx at the latest. It must be
// closed.
func newPool(ctx context.Context, c *Config) *pool {
	return &pool{
		idle:     make(chan func()),
		lookup:   newDeadlines(ctx, c.LookupTimeout),
		patience: newDeadlines(ctx, c.Patience),
	}
}

// run starts f in a goroutine of its own, idle or new. It does not wait.
func (p *pool) run(f func()) {
	select {
	case p.idle <- f:
	default:
		go func() {
			for more := true; more; f, more = <-p.idle {
				f()
			}
		}()
	}
}

// close ends the goroutines that are idle, and the others once they are done.
// After close, run must not be called.
func (p *pool) close() { close(p.idle) }
