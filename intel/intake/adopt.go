package intake

import (
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"time"

	"github.com/decnet/enrich/bus"
	"github.com/decnet/enrich/internal/backoff"
	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/store"
)

// Adopt takes attackers from events on a bus, until ctx is done; then it returns
// nil. An event on one of the topics that has an address of an attacker as
// attacker_ip in its payload adds that attacker, unless the store has one with that
// address. Events about others change nothing. A lost subscription is established
// again.
func (in *Intake) Adopt(ctx context.Context, b bus.Bus, topics ...string) error {
	for failures := 0; ctx.Err() == nil; {
		err := in.adopt(ctx, b, topics, func() { failures = 0 })
		if ctx.Err() != nil {
			break
		}
		if failures++; failures == 1 {
			in.log.Warn("not taking attackers from the bus; trying again", "error", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(backoff.Delay(250*time.Millisecond, 5*time.Second, failures)):
		}
	}
	return nil
}

// adopt subscribes, calls subscribed and handles events until a subscription ends.
func (in *Intake) adopt(ctx context.Context, b bus.Bus, topics []string, subscribed func()) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, len(topics))
	events := make(chan bus.Event)
	for _, topic := range topics {
		sub, err := b.Subscribe(ctx, topic)
		if err != nil {
			return err
		}
		defer sub.Close()
		go func() {
			for ev := range sub.Events() {
				select {
				case events <- ev:
				case <-ctx.Done():
					return
				}
			}
			ended <- sub.Err()
		}()
	}
	subscribed()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-ended:
			if err == nil {
				err = errors.New("the subscription ended without a reason")
			}
			return err
		case ev := <-events:
			in.consider(ctx, ev)
		}
	}
}

// consider adds the attacker that an event is about, if it is unknown.
func (in *Intake) consider(ctx context.Context, ev bus.Event) {
	var payload struct {
		IP string `json:"attacker_ip"`
	}
	if json.Unmarshal(ev.Payload, &payload) != nil || payload.IP == "" {
		return
	}
	addr, err := provider.ParseAddr(payload.IP)
	switch {
	case err != nil:
		in.log.Warn("an event names an attacker whose address is none", "topic", ev.Topic, "attacker_ip", payload.IP[:min(len(payload.IP), 60)])
		return
	case !in.options.Allow(addr):
		in.log.Info("an event names an address that is private or your own; it is not taken", "topic", ev.Topic, "attacker_ip", addr)
		return
	}
	_ = in.persist(ctx, ev.Topic, func() error { // which logs
		known, err := in.known(ctx, addr)
		if err != nil || known {
			return err
		}
		var one batch
		one.add(addr, ev.Time)
		return in.observe(ctx, one.list)
	})
}

// known reports whether an attacker has the address.
func (in *Intake) known(ctx context.Context, addr netip.Addr) (bool, error) {
	_, err := in.options.Store.Get(ctx, store.AttackerID(addr))
	if !errors.Is(err, store.ErrNotFound) {
		return err == nil, err
	}
	lister, ok := store.As[store.Lister](in.options.Store)
	if !ok {
		return false, nil
	}
	page, err := lister.List(ctx, store.ListRequest{Limit: 100, Text: addr.String()})
	if err != nil {
		return false, err
	}
	for i := range page.Records {
		if page.Records[i].Addr() == addr {
			return true, nil
		}
	}
	return false, nil
}
