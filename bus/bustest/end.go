package bustest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/decnet/enrich/bus"
)

func closeSubscription(tb testing.TB, h Harness) {
	f := setUp(tb, h)
	sub, other := f.subscribe("a"), f.subscribe("a")
	f.alive(sub)
	f.publish("a", "a", "a")
	for n := range 3 {
		f.receiveNumbered(other, n)
	}
	f.eventually("the events are delivered", func() bool {
		return len(sub.Events()) == 3 || cap(sub.Events()) == 0
	})
	f.succeeds("Close of a subscription", sub.Close())
	for n := range 3 { // what was delivered before can still be received
		f.receiveNumbered(sub, n)
	}
	f.publish("a")
	f.receiveNumbered(other, 0)
	if ev, open := f.next(sub); open {
		f.Errorf("received an event on %s that was published after Close", ev.Topic)
	}
	f.ended(sub, bus.ErrClosed)
	f.succeeds("second Close of a subscription", sub.Close())
}

func closeOneOfTwo(tb testing.TB, h Harness) {
	f := setUp(tb, h)
	subs := []bus.Subscription{f.subscribe("a.*"), f.subscribe("a.*"), f.subscribe("a.>")}
	f.succeeds("Close of a subscription", subs[0].Close())
	f.succeeds("second Close of a subscription", subs[0].Close())
	f.ended(subs[0], bus.ErrClosed)
	f.publish("a.b")
	for _, sub := range subs[1:] {
		f.alive(sub)
		f.receiveNumbered(sub, 0)
	}
}

func closeBus(tb testing.TB, h Harness) {
	f := setUp(tb, h)
	subs := []bus.Subscription{f.subscribe("a"), f.subscribe("b.>"), f.subscribe("a")}
	closed := subs[2]
	f.succeeds("Close of a subscription", closed.Close())
	f.succeeds("Close of a bus", f.within("Close", f.bus.Close))
	for _, sub := range subs {
		f.ended(sub, bus.ErrClosed)
		f.succeeds("Close of a subscription to a closed bus", sub.Close())
	}
	f.isClosed()
	f.succeeds("second Close of a bus", f.within("Close", f.bus.Close))
}

// isClosed fails the test unless the bus refuses everything.
func (f *fixture) isClosed() {
	f.Helper()
	err := f.within("Publish", func() error { return f.bus.Publish(f.Context(), numbered("a", 0)) })
	f.wants("Publish after Close", err, bus.ErrClosed)
	err = f.within("Subscribe", func() error {
		_, err := f.bus.Subscribe(f.Context(), "a")
		return err
	})
	f.wants("Subscribe after Close", err, bus.ErrClosed)
}

func closeWhileReceiving(tb testing.TB, h Harness) {
	f := setUp(tb, h)
	first, second := f.subscribe("a"), f.subscribe("a")
	for _, c := range []struct {
		sub   bus.Subscription
		close func() error
	}{{first, first.Close}, {second, f.bus.Close}} {
		started := make(chan struct{})
		ended := make(chan error, 1)
		go func() {
			close(started)
			for range c.sub.Events() {
			}
			ended <- c.sub.Err()
		}()
		<-started
		errs := make(chan error, 4)
		for range cap(errs) {
			go func() { errs <- c.close() }()
		}
		for range cap(errs) {
			f.succeeds("Close", f.within("Close", func() error { return <-errs }))
		}
		err := f.within("a reader of Events after Close", func() error { return <-ended })
		f.wants("Err after Close", err, bus.ErrClosed)
	}
}

// closeWhilePublishing closes the bus while 16 goroutines publish and others
// subscribe, receive and close.
func closeWhilePublishing(tb testing.TB, h Harness) {
	f := setUp(tb, h)
	ctx, cancel := context.WithCancel(f.Context())
	defer cancel()
	var (
		workers sync.WaitGroup
		atWork  = make(chan struct{}, 20) // one for each worker
		closed  atomic.Bool
		errs    = make(chan error, 20)
	)
	work := func(what string, do func(n int) error) {
		workers.Go(func() {
			started := sync.OnceFunc(func() { atWork <- struct{}{} })
			defer started()
			for n := 0; ctx.Err() == nil; n++ {
				late := closed.Load()
				err := do(n)
				switch {
				case err == nil && !late:
				case errors.Is(err, bus.ErrClosed), ctx.Err() != nil:
					return
				default:
					errs <- fmt.Errorf("%s while the bus is closed, and after: error is %v, want %v", what, err, bus.ErrClosed)
					return
				}
				if n == 5 {
					started()
				}
			}
		})
	}
	for range 16 {
		work("Publish", func(n int) error { return f.peer.Publish(ctx, numbered("a", n)) })
	}
	for range 4 {
		work("Subscribe", func(int) error {
			sub, err := f.bus.Subscribe(ctx, "a")
			if err != nil {
				return err
			}
			select {
			case <-sub.Events():
			default:
			}
			return sub.Close()
		})
	}
	_ = f.within("the start of 20 goroutines", func() error {
		for range cap(atWork) {
			<-atWork
		}
		return nil
	})
	for _, b := range []bus.Bus{f.bus, f.peer} {
		f.succeeds("Close of a busy bus", f.within("Close", b.Close))
	}
	closed.Store(true)
	_ = f.within("Publish or Subscribe on a closed bus", func() error { workers.Wait(); return nil })
	close(errs)
	for err := range errs {
		f.Error(err)
	}
	f.isClosed()
}
