package bus_test

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/decnet/enrich/bus"
)

// A transport puts what arrives into the mailboxes of those who subscribed, and
// ends them when the connection is lost.
func ExampleMailbox() {
	mailboxes := map[*bus.Mailbox]bool{}
	subscribe := func() bus.Subscription {
		var m *bus.Mailbox
		m = bus.NewMailbox(2, func() { delete(mailboxes, m) })
		mailboxes[m] = true
		return m
	}

	sub := subscribe()
	for m := range mailboxes {
		for _, topic := range []string{"a", "b", "c"} {
			if m.Deliver(bus.Event{Topic: topic}) {
				fmt.Println("dropped the oldest event")
			}
		}
		m.End(fmt.Errorf("%w: connection reset", bus.ErrLost))
	}
	for ev := range sub.Events() {
		fmt.Println("received", ev.Topic)
	}
	fmt.Println(sub.Err())
	// Output:
	// dropped the oldest event
	// received b
	// received c
	// bus: connection lost: connection reset
}

// An event as it goes over the wire, and what arrives.
func ExampleEnvelope() {
	ev := bus.Event{
		ID: "5f0c", Topic: "attacker.observed", Time: time.Unix(1767225600, 250e6),
		Payload: json.RawMessage(`{"attacker_ip":"192.0.2.1"}`),
	}
	if err := ev.Validate(); err != nil {
		fmt.Println(err)
		return
	}
	sent := bus.NewEnvelope(&ev)
	message := sent.Append(nil, ev.Topic)
	fmt.Printf("%s\n", message)

	received, err := bus.ParseEnvelope(message)
	if err != nil {
		fmt.Println(err)
		return
	}
	got, err := received.Event("attacker.observed")
	if err != nil {
		fmt.Println(err)
		return
	}
	got.Complete()
	fmt.Println(got.ID, got.Topic, got.Time)
	// Output:
	// {"v":1,"id":"5f0c","topic":"attacker.observed","type":"","ts":1767225600.250000,"payload":{"attacker_ip":"192.0.2.1"}}
	// 5f0c attacker.observed 2026-01-01 00:00:00.25 +0000 UTC
}
