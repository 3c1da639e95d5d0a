package intel

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"time"

	"github.com/decnet/enrich/bus"
	"github.com/decnet/enrich/intel/internal/panics"
	"github.com/decnet/enrich/internal/backoff"
)

// The delays between two attempts to subscribe. A bus that is back is to be
// noticed soon, as what is published meanwhile wakes nobody.
const (
	subscribeRetryMin = 250 * time.Millisecond
	subscribeRetryMax = time.Second
)

// listen turns events into wakes and commands until ctx is done. The subscriptions
// do not depend on each other: a bus may refuse one of them.
func (w *Worker) listen(ctx context.Context, stop func()) {
	e := ears{Worker: w}
	wake := func(bus.Event) { w.wake.send() }
	var listening sync.WaitGroup
	listening.Go(func() { e.listen(ctx, TopicObserved, wake) })
	listening.Go(func() { e.listen(ctx, TopicScored, wake) })
	if !w.config.IgnoreControl {
		listening.Go(func() { e.listen(ctx, TopicControl, func(ev bus.Event) { w.obey(ev, stop) }) })
	}
	listening.Wait()
}

// ears are the worker's subscriptions.
type ears struct {
	*Worker

	mu     sync.Mutex
	warned map[string]string // the last warning about each topic that is not listened to
}

// listen handles the events on one topic until ctx is done. If subscribing fails
// or the subscription ends, it subscribes again after a delay; the worker polls
// meanwhile.
func (e *ears) listen(ctx context.Context, topic string, handle func(bus.Event)) {
	for failures := 0; ctx.Err() == nil; {
		listened := func() {
			if failures > 0 {
				e.recovered(topic)
			}
			failures = 0
		}
		err := panics.Catch(func() error { return e.attend(ctx, topic, listened, handle) })
		if ctx.Err() != nil {
			return
		}
		if failures++; failures == 1 {
			e.failed(topic, err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(backoff.Delay(subscribeRetryMin, subscribeRetryMax, failures)):
		}
	}
}

// failed logs that a topic is not listened to, once for all topics that fail for
// the same reason.
func (e *ears) failed(topic string, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, other := range e.warned {
		if other == err.Error() {
			return
		}
	}
	if e.warned == nil {
		e.warned = make(map[string]string)
	}
	e.warned[topic] = err.Error()
	e.log.Warn("not listening to the bus; polling meanwhile", "topic", topic, "error", err)
}

// recovered logs that a topic is listened to again, if its failure was logged.
func (e *ears) recovered(topic string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if _, warned := e.warned[topic]; warned {
		delete(e.warned, topic)
		e.log.Info("listening to the bus again", "topic", topic)
	}
	e.events.Reconnected()
}

// attend subscribes, calls listened, and handles events until ctx is done or the
// subscription ends.
func (e *ears) attend(ctx context.Context, topic string, listened func(), handle func(bus.Event)) error {
	sub, err := e.config.Bus.Subscribe(ctx, topic)
	if err != nil {
		return err
	}
	defer sub.Close()
	listened()
	e.wake.send() // for events published while not subscribed
	for {
		select {
		case <-ctx.Done():
			return nil
		case ev, ok := <-sub.Events():
			switch {
			case ok:
				handle(ev)
			case sub.Err() != nil:
				return sub.Err()
			default:
				return errors.New("the subscription ended without a reason")
			}
		}
	}
}

// obey carries out a command.
func (w *Worker) obey(ev bus.Event, stop func()) {
	var command struct {
		Action string `json:"action"`
	}
	if err := json.Unmarshal(ev.Payload, &command); err != nil || command.Action != "stop" {
		w.log.Warn("ignoring an unknown command", "topic", ev.Topic, "action", command.Action)
		return
	}
	w.log.Info("stopping on command", "topic", ev.Topic)
	stop()
}
