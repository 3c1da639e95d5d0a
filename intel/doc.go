// Package intel enriches attackers: a [Worker] claims those that are due from a
// store, asks the providers that are due for each of them, at once and within
// every limit, merges what came back, decides on a verdict, saves everything
// and announces it.
//
//	w, err := intel.NewWorker(intel.Config{Store: s, Bus: b, Providers: ps})
//	if err != nil {
//		return err
//	}
//	return w.Run(ctx)
//
// # Quotas
//
// A provider that declares quotas is never asked more often than they allow, by
// all workers of a store together if that is a [store.QuotaLedger]. Whom the
// quota does not allow to ask about waits, and so does everybody while a
// provider fails, refuses our key or asks to be left alone: without a call,
// without an error, and without being written to until there is a call to
// spend. [Spending] says who goes first then.
//
// # What a worker promises
//
// The store is the truth and the bus a notification: a lost event costs
// latency, never data, and no failure of the bus stops or undoes anything.
//
// Providers fail alone: one that errors, hangs or panics moves its own schedule
// and changes nothing else. A failure is not a finding: it never changes a
// verdict, and never replaces an earlier answer.
//
// A crash loses nothing: what was claimed becomes due again when its lease
// expires, records are saved whole, and events are published at least once if
// the store has an outbox.
//
// If the store has an outbox, the events of one attacker are first published in
// the order of its revisions, whichever workers saved them, if each of them has a
// bus; one that comes again has the ID it had. The payload says which revision it is
// about.
//
// Package intelmock has mocks of the interfaces; memstore, membus and
// providertest have fakes that behave.
package intel
