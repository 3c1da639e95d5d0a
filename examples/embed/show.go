package main

import (
	"encoding/json"
	"fmt"

	"github.com/decnet/enrich/bus"
)

// show prints the parts of an event that are the same at every run.
func show(ev bus.Event) error {
	var payload struct {
		IP      string `json:"attacker_ip"`
		Verdict string `json:"aggregate_verdict"`
		Listed  bool   `json:"mine_listed"`
	}
	if err := json.Unmarshal(ev.Payload, &payload); err != nil {
		return err
	}
	fmt.Printf("%s: %s is %s; mine_listed is %v\n", ev.Topic, payload.IP, payload.Verdict, payload.Listed)
	return nil
}
