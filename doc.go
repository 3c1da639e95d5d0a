// Package enrich is documentation only: it describes a library that turns an
// attacker a honeypot saw into a verdict an operator can act on.
//
// An attacker becomes a ledger of findings, one entry per threat-intelligence
// provider, each with its own age and its own schedule. The verdict is a pure
// function of the ledger. A worker moves findings into it: woken by a bus or by
// a tick, it claims the attackers that are due, asks the providers that are due
// for each of them, merges what came back, decides, saves everything in one
// transaction and announces it. A failure is not a finding: it moves a schedule,
// never a verdict.
//
//	s := memstore.New()
//	gn, err := greynoise.New(greynoise.Options{
//		KeyFunc: func() string { return os.Getenv("DECNET_GREYNOISE_API_KEY") },
//	})
//	if err != nil {
//		return err
//	}
//	w, err := intel.NewWorker(intel.Config{
//		Store:     s,
//		Bus:       membus.New(membus.Options{}),
//		Providers: []intel.Provider{gn},
//	})
//	if err != nil {
//		return err
//	}
//	err = s.Observe(ctx, store.Attacker{ID: uuid.New(), IP: "45.155.205.233"})
//	if err != nil {
//		return err
//	}
//	return w.Run(ctx) // until ctx is done
//
// # Packages
//
//   - intel: the Worker, its configuration, hooks, topics and payload.
//     intel/httpapi answers over HTTP what is known about an attacker.
//     intel/intelmock has mocks of the interfaces.
//   - provider: what a source of intelligence is. provider/greynoise,
//     provider/abuseipdb, provider/feodo and provider/threatfox are the four
//     that ship, provider/feed is what lists in bulk are built on.
//   - store: what keeps the records. store/memstore is the reference in memory,
//     store/sqlstore keeps them in a database.
//   - bus: what carries events. bus/membus is the one inside a process,
//     bus/unixbus DECNET's over a UNIX socket, bus/natsbus the one over NATS,
//     which is a module of its own.
//   - aggregate: policies that turn findings into a verdict.
//   - provider/providertest, store/storetest and bus/bustest: conformance suites
//     for whoever implements an interface, and fakes.
//
// # Promises
//
// The attacker's UUID is the key; an address is a value, and no attacker is
// looked up by it. The store is the truth and the bus a notification. Providers
// fail alone. Not listed, not seen and not answered are three different things,
// and none of them is benign. No private address and no key leaves, and no
// request names this library. A crash loses nothing.
package enrich
