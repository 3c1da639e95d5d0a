package unixbus_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/decnet/enrich/bus"
	"github.com/decnet/enrich/bus/unixbus"
)

func Example() {
	dir, err := os.MkdirTemp("", "bus")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	socket := filepath.Join(dir, "bus.sock") // as a rule, it is left to SocketPath

	s := unixbus.NewServer(unixbus.ServerOptions{Path: socket, Log: slog.New(slog.DiscardHandler)})
	if err := s.Listen(); err != nil {
		fmt.Println(err)
		return
	}
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	served := make(chan error)
	go func() { served <- s.Serve(ctx) }()

	b, err := unixbus.New(unixbus.Options{Path: socket})
	if err != nil {
		fmt.Println(err)
		return
	}
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

	stop()
	fmt.Println(<-served)
	for range sub.Events() {
	}
	fmt.Println(sub.Err() != nil, b.Close())
	// Output:
	// attacker.observed {"attacker_ip":"185.220.101.4"}
	// <nil>
	// true <nil>
}
