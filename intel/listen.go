package intel

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/decnet/enrich/bus"
	"github.com/decnet/enrich/internal/backoff"
)

// The delays between two attempts to subscribe. A bus that is back is to be
// noticed soon, as what is published meanwhile wakes nobody.
const (
	subscribeRetryMin = 250 * time.Millisecond
	subscribeRetryMax = time.Second
)

// listen turns events into wakes and commands until ctx is done. If subscribing
// fails or a subscription ends, it subscribes again after a delay; the worker
// polls meanwhile.
func (w *Worker) listen(ctx context.Context, stop func()) {
	for failures := 0; ctx.Err() == nil; {
		listened := func() {
			if failures > 0 {
				w.log.Info("listening to the bus again")
				w.events.Reconnected()
			}
			failures = 0
		}
		err := safely(func() error { return w.attend(ctx, listened, stop) })
		if ctx.Err() != nil {
			return
		}
		if failures++; failures == 1 {
			w.log.Warn("not listening to the bus; polling meanwhile", "error", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(backoff.Delay(subscribeRetryMin, subscribeRetryMax, failures)):
		}
	}
}

// attend subscribes, calls listened, and handles events until ctx is done or a
// subscription ends.
func (w *Worker) attend(ctx context.Context, listened, stop func()) error {
	var subs [3]bus.Subscription
	var events [3]<-chan bus.Event // nil, from which nothing comes, without a subscription
	for i, topic := range []string{TopicObserved, TopicScored, TopicControl} {
		if topic == TopicControl && w.config.IgnoreControl {
			continue
		}
		sub, err := w.config.Bus.Subscribe(ctx, topic)
		if err != nil {
			return err
		}
		defer sub.Close()
		subs[i], events[i] = sub, sub.Events()
	}
	listened()
	w.wake.send() // for events published while not subscribed
	for {
		var ended bus.Subscription
		select {
		case <-ctx.Done():
			return nil
		case _, ok := <-events[0]:
			if ended = subs[0]; ok {
				w.wake.send()
				continue
			}
		case _, ok := <-events[1]:
			if ended = subs[1]; ok {
				w.wake.send()
				continue
			}
		case ev, ok := <-events[2]:
			if ended = subs[2]; ok {
				w.obey(ev, stop)
				continue
			}
		}
		if err := ended.Err(); err != nil {
			return err
		}
		return errors.New("the subscription ended without a reason")
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
