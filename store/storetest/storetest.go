// Package storetest is the conformance suite for implementations of
// [store.Store] and of the optional interfaces of package store.
//
//	func TestStore(t *testing.T) {
//		storetest.Run(t, storetest.Harness{
//			New: func(tb testing.TB) store.Store { return mystore.Open(tb.TempDir()) },
//		})
//	}
//
// It needs the standard library only. [Run] does everything; [Checks] gives the
// single checks to whoever wants to run them one by one; [Benchmark] measures.
package storetest

import (
	"testing"
	"time"

	"github.com/decnet/enrich/store"
)

// Harness tells the suite how to make the stores it tests.
type Harness struct {
	// New returns an empty store that is ready for use, and has tb clean up
	// after it. The store must implement [store.Registrar], because the suite
	// has no other way to put attackers into it. Required.
	New func(tb testing.TB) store.Store
	// Reopen ends s, a store that New or Reopen returned, as the end of a
	// process would, and returns a store on the same data. It is nil for stores
	// that forget everything, which skips the checks that need it.
	Reopen func(tb testing.TB, s store.Store) store.Store
	// Shift adds a time, which may be negative, to all that the store's own clock has
	// stamped in s, a store that New or Reopen returned, and to what it remembers of
	// the clock: the ends of leases and of the turn to publish, when events were saved.
	// It is as if the clock had been wrong and was then corrected. It is nil for stores
	// that this cannot be done to, which skips the checks that need it.
	Shift func(tb testing.TB, s store.Store, by time.Duration)
}

// Check is one property of a store.
type Check struct {
	// Name names the property, in the form of a test name.
	Name string
	// Run reports to tb whether the stores that h makes have the property. It
	// skips the test if they lack the optional interface it is about.
	Run func(tb testing.TB, h Harness)
}

// Run tests the stores that h makes with every one of [Checks], each as a
// subtest, one after the other. The optional interfaces that they lack are
// logged, and the checks of them are skipped.
func Run(t *testing.T, h Harness) {
	s := h.New(t)
	log := func(name string, ok bool) {
		if !ok {
			t.Logf("the store is no store.%s: the checks of it are skipped", name)
		}
	}
	_, ok := store.As[store.Registrar](s)
	if !ok {
		t.Fatal("the store is no store.Registrar; the suite needs one to put attackers into it")
	}
	_, ok = store.As[store.Positions](s)
	log("Positions", ok)
	_, ok = store.As[store.Forgetter](s)
	log("Forgetter", ok)
	_, ok = store.As[store.Answers](s)
	log("Answers", ok)
	_, ok = store.As[store.Outbox](s)
	log("Outbox", ok)
	_, ok = store.As[store.Readers](s)
	log("Readers", ok)
	_, ok = store.As[store.QuotaLedger](s)
	log("QuotaLedger", ok)
	_, ok = store.As[store.ByAddress](s)
	log("ByAddress", ok)
	_, ok = store.As[store.Lister](s)
	log("Lister", ok)
	_, ok = store.As[store.Counter](s)
	log("Counter", ok)
	_, ok = store.As[store.Statistician](s)
	log("Statistician", ok)
	_, ok = store.As[store.Pruner](s)
	log("Pruner", ok)
	_, ok = store.As[store.Migrator](s)
	log("Migrator", ok)
	if h.Reopen == nil {
		t.Log("the harness has no Reopen: the checks of what survives are skipped")
	}
	if h.Shift == nil {
		t.Log("the harness has no Shift: the checks of a clock that was wrong are skipped")
	}
	for _, c := range Checks() {
		t.Run(c.Name, func(t *testing.T) { c.Run(t, h) })
	}
}

// Checks returns every check of the suite. They are independent of each other.
func Checks() []Check {
	return []Check{
		{"ClaimNewestFirst", claimNewestFirst},
		{"ClaimNeverEnriched", claimNeverEnriched},
		{"ClaimDueBoundary", claimDueBoundary},
		{"ClaimOnly", claimOnly},
		{"ClaimRefusesNonsense", claimRefusesNonsense},
		{"ClaimGreatestLimit", claimGreatestLimit},
		{"ClaimConcurrently", claimConcurrently},
		{"NextDue", nextDue},
		{"NextDueOfLease", nextDueOfLease},
		{"NextDueBeyondLimit", nextDueBeyondLimit},

		{"LeaseExcludes", leaseExcludes},
		{"LeaseExpires", leaseExpires},
		{"LeaseExpiresUnfinished", leaseExpiresUnfinished},
		{"FenceRefusesLostLease", fenceRefusesLostLease},
		{"FenceSurvivesForget", fenceSurvivesForget},
		{"FenceAdmitsOneSave", fenceAdmitsOneSave},
		{"HoldKeepsLease", holdKeepsLease},
		{"HoldSavedTogether", holdSavedTogether},
		{"Release", release},
		{"ReleaseLostLease", releaseLostLease},

		{"Parked", parked},
		{"Waiting", waiting},
		{"WaitingOrDue", waitingOrDue},
		{"WaitingRank", waitingRank},
		{"WaitingLongest", waitingLongest},
		{"WaitingGranted", waitingGranted},
		{"WaitingShared", waitingShared},
		{"MixedOrder", mixedOrder},
		{"SeenAhead", seenAhead},
		{"KeepDue", keepDue},

		{"ClockDue", clockDue},
		{"ClockLease", clockLease},
		{"ClockSeen", clockSeen},
		{"ClockAnswers", clockAnswers},
		{"ClockWaiting", clockWaiting},
		{"ClockTurn", clockTurn},
		{"ClockOutbox", clockOutbox},

		{"Ledger", ledger},
		{"HostileText", hostileText},
		{"UnchangedFindings", unchangedFindings},
		{"DroppedFinding", droppedFinding},
		{"KeptDecision", keptDecision},
		{"NotFound", notFound},
		{"SaveDeleted", saveDeleted},
		{"SaveMany", saveMany},
		{"NoAliasing", noAliasing},
		{"NothingToDo", nothingToDo},
		{"CancelledContext", cancelledContext},

		{"AddressChanged", addressChanged},
		{"AddressRespelled", addressRespelled},
		{"AddressShared", addressShared},
		{"Observe", observe},
		{"ObserveRejects", observeRejects},
		{"ObserveFillsTimes", observeFillsTimes},
		{"Forget", forget},
		{"OddNames", oddNames},
		{"ObserveTwice", observeTwice},
		{"AwayAndBack", awayAndBack},
		{"Nameless", nameless},
		{"ForgetUnseen", forgetUnseen},

		{"Positions", positions},
		{"Answers", answers},
		{"AnswersBoundary", answersBoundary},
		{"AnswersOnce", answersOnce},
		{"AnswersForgotten", answersForgotten},
		{"Outbox", outbox},
		{"OutboxOfAttacker", outboxOfAttacker},
		{"OutboxOfRefusedUpdates", outboxOfRefusedUpdates},
		{"OutboxExpire", outboxExpire},
		{"OutboxTurn", outboxTurn},
		{"OutboxReaders", outboxReaders},
		{"Budget", budget},
		{"BudgetConcurrently", budgetConcurrently},
		{"ByAddress", byAddress},
		{"List", list},
		{"ListEnriched", listEnriched},
		{"ListFiltered", listFiltered},
		{"ListOfSource", listOfSource},
		{"Count", count},
		{"Stats", stats},
		{"Prune", prune},
		{"Migrate", migrate},
		{"Reopen", reopen},
		{"Model", model},
	}
}
