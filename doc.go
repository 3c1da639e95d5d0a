// Package enrich is documentation only. It describes a library that turns an
// attacker, seen by a honeypot or any other service, into a verdict that an
// operator can act on.
//
// An attacker becomes a ledger of findings: one entry per threat-intelligence
// provider, each with its own age and its own schedule. The verdict is a pure
// function of the ledger. The worker moves findings into the ledger. An event on
// the bus or a tick wakes it. It claims the attackers that are due, queries the
// providers that are due for each of them, merges the answers, decides, saves
// everything in one transaction and announces it. A failure is not a finding: it
// changes a schedule, never a verdict.
//
//	s := memstore.New()
//	key := func() string { return os.Getenv("DECNET_GREYNOISE_API_KEY") }
//	gn, err := greynoise.New(greynoise.Options{KeyFunc: key})
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
//	addr := netip.MustParseAddr("45.155.205.233")
//	err = s.Observe(ctx, store.Attacker{ID: store.AttackerID(addr), IP: addr.String()})
//	if err != nil {
//		return err
//	}
//	return w.Run(ctx) // until ctx is done
//
// # Packages
//
//   - intel: the Worker, its configuration, hooks, topics and payload.
//     intel/sighting reads attackers from logs. intel/httpapi serves records over HTTP. intel/intelmock has mocks of the
//     interfaces.
//   - provider: what a source of intelligence is. provider/greynoise,
//     provider/abuseipdb, provider/feodo and provider/threatfox are built in.
//     provider/rest is for authors of providers over an HTTP JSON API,
//     provider/feed for authors of providers that load lists in bulk.
//   - store: what keeps the records. store/memstore is the reference in memory,
//     store/sqlstore keeps them in a database, store/decnet describes DECNET's
//     rows.
//   - bus: what carries events. bus/membus works inside one process, bus/unixbus
//     is DECNET's bus over a UNIX socket, bus/natsbus is a bus over NATS and a
//     module of its own. bus/reconnect is for authors of transports.
//   - aggregate: policies that turn findings into a verdict.
//   - provider/providertest, store/storetest and bus/bustest: conformance suites
//     for your own implementations, and fakes.
//
// # Promises
//
// The attacker's UUID is the key. An address is a value: no attacker is found by
// it. The store is the truth and the bus a notification. Providers fail alone. Not
// listed, not seen and not answered are three different things, and none of them
// is benign. No private address and no key leaves the process, and no request
// names this library. A crash loses nothing that was saved.
package enrich
