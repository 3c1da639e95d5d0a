// Package reconnect is for authors of transports. It keeps the connection of a bus:
// the connection is made when it is first needed, and again whenever it is lost.
package reconnect

import (
	"context"
	"sync"
	"time"

	"github.com/decnet/enrich/bus"
	"github.com/decnet/enrich/internal/backoff"
)

// Link is a connection.
type Link interface {
	// Serve returns why the connection was lost, once it is, which is soon after
	// ctx is done.
	Serve(ctx context.Context) error
	// End is called with the reason when the connection is lost and nobody gets it
	// any more. It ends what uses the connection.
	End(reason error)
}

// Keeper keeps a connection. Make one with [New]. It is safe for concurrent use.
type Keeper[L Link] struct {
	dial     func(context.Context) (L, error)
	min, max time.Duration

	ctx  context.Context
	stop func()        // ends run
	done chan struct{} // closed when run has ended

	mu      sync.Mutex
	running bool
	tried   chan struct{} // closed after the first attempt to connect
	link    L             // if linked
	linked  bool
	err     error // why there is no connection
}

// New returns a keeper that connects with dial, after a failure again after min, and
// from then on with growing delays of up to max.
func New[L Link](dial func(context.Context) (L, error), min, max time.Duration) *Keeper[L] {
	k := &Keeper[L]{dial: dial, min: min, max: max, done: make(chan struct{}), tried: make(chan struct{})}
	k.ctx, k.stop = context.WithCancel(context.Background())
	return k
}

// Get returns the connection that there is, or why there is none: what dial or Serve
// returned, or [bus.ErrClosed]. It waits for the first attempt to connect and for no
// later one.
func (k *Keeper[L]) Get(ctx context.Context) (link L, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.linked && k.err == nil {
		if !k.running {
			k.running = true
			go k.run()
		}
		k.mu.Unlock()
		select {
		case <-k.tried:
		case <-ctx.Done():
		}
		k.mu.Lock()
		if !k.linked && k.err == nil {
			return link, ctx.Err()
		}
	}
	if k.err != nil {
		return link, k.err
	}
	return k.link, nil
}

// Closed reports whether Close was called.
func (k *Keeper[L]) Closed() bool { return k.reason() == bus.ErrClosed }

func (k *Keeper[L]) reason() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.err
}

// Close calls drain with the connection, if there is one, and ends it. Nobody gets a
// connection any more. Close returns when dial, Serve and End have returned.
func (k *Keeper[L]) Close(drain func(L)) {
	k.mu.Lock()
	k.err = bus.ErrClosed
	link, linked, running := k.link, k.linked, k.running
	k.mu.Unlock()
	if linked {
		drain(link)
	}
	k.stop()
	if running {
		<-k.done
	}
}

// run connects, again and again, until Close.
func (k *Keeper[L]) run() {
	defer close(k.done)
	tried := sync.OnceFunc(func() { close(k.tried) })
	for failures := 0; k.ctx.Err() == nil; {
		started := time.Now()
		link, err := k.dial(k.ctx)
		if err != nil {
			k.set(link, false, err)
			tried()
		} else {
			k.set(link, true, nil)
			tried()
			err = link.Serve(k.ctx)
			k.set(*new(L), false, err)
			link.End(k.reason())
		}
		if failures++; time.Since(started) > k.max { // it was there for long
			failures = 1
		}
		select {
		case <-k.ctx.Done():
		case <-time.After(backoff.Delay(k.min, k.max, failures)):
		}
	}
}

// set tells what connection there is, or why there is none.
func (k *Keeper[L]) set(link L, linked bool, err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.link, k.linked = link, linked; k.err != bus.ErrClosed {
		k.err = err
	}
}
