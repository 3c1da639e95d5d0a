package membus_test

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/decnet/enrich/bus"
	"github.com/decnet/enrich/bus/membus"
)

func Example() {
	ctx := context.Background()
	b := membus.New(membus.Options{})
	defer b.Close()

	sub, err := b.Subscribe(ctx, "attacker.*")
	if err != nil {
		fmt.Println(err)
		return
	}
	err = b.Publish(ctx, bus.Event{
		Topic:   "attacker.observed",
		Payload: json.RawMessage(`{"attacker_ip":"185.220.101.4"}`),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	ev := <-sub.Events()
	fmt.Printf("%s %s\n", ev.Topic, ev.Payload)
	// Output: attacker.observed {"attacker_ip":"185.220.101.4"}
}
