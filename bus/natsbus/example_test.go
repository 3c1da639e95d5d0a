package natsbus_test

import (
	"context"

	"github.com/nats-io/nats.go"

	"github.com/decnet/enrich/bus/natsbus"
	"github.com/decnet/enrich/intel"
	"github.com/decnet/enrich/store/memstore"
)

// A worker that is woken and heard through a cluster, with credentials from a
// file.
func Example() {
	events, err := natsbus.New(natsbus.Options{
		URL:    "tls://nats-1.example.org,tls://nats-2.example.org",
		Prefix: "decnet",
		Nats:   []nats.Option{nats.UserCredentials("/etc/enrich/nats.creds")},
	})
	if err != nil {
		panic(err)
	}
	defer events.Close()
	w, err := intel.NewWorker(intel.Config{Store: memstore.New(), Bus: events})
	if err != nil {
		panic(err)
	}
	if err := w.Run(context.Background()); err != nil {
		panic(err)
	}
}
