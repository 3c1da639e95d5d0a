package store_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/decnet/enrich/aggregate"
	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/store"
	"github.com/decnet/enrich/store/memstore"
)

// What a worker does with a store: it claims attackers that are due, saves what
// it has learnt, and is refused once its lease is over.
func Example() {
	ctx := context.Background()
	attackers := memstore.New()
	id := uuid.MustParse("3f0e8a36-98c4-4a53-9d7b-0f2f1a5a8d11")
	if err := attackers.Observe(ctx, store.Attacker{ID: id, IP: "45.155.205.233"}); err != nil {
		panic(err)
	}

	now := time.Now().UTC()
	claimed, err := attackers.Claim(ctx, store.ClaimRequest{Now: now, Owner: "example", Lease: time.Minute, Limit: 50})
	if err != nil {
		panic(err)
	}
	r := claimed.Records[0]
	finding := &provider.Finding{Provider: "mine", Addr: r.Addr(), Known: true, Verdict: provider.Malicious, ObservedAt: now}
	update := store.Update{
		Lease:    store.Lease{ID: r.ID, Fence: r.Fence},
		IP:       r.IP,
		Entries:  []store.Entry{{Provider: "mine", Finding: finding, Expires: now.Add(time.Hour), Due: now.Add(time.Hour)}},
		Changed:  []string{"mine"},
		Decision: &aggregate.Decision{Verdict: provider.Malicious},
		Revision: r.Revision + 1,
		SavedAt:  now,
	}
	if err := attackers.Save(ctx, update); err != nil {
		panic(err)
	}
	r, err = attackers.Get(ctx, id)
	if err != nil {
		panic(err)
	}
	fmt.Printf("%s is %s, revision %d\n", r.IP, r.Decision.Verdict, r.Revision)

	err = attackers.Save(ctx, update) // the first save ended the lease
	fmt.Println("lease lost:", errors.Is(err, store.ErrConflict))
	// Output:
	// 45.155.205.233 is malicious, revision 1
	// lease lost: true
}

// Optional interfaces are found with As, also behind a decorator.
func ExampleAs() {
	var s store.Store = memstore.New()
	lister, ok := store.As[store.Lister](s)
	fmt.Println("it can list:", ok)
	page, err := lister.List(context.Background(), store.ListRequest{Limit: 100, Verdicts: []provider.Verdict{provider.Malicious}})
	fmt.Println(len(page.Records), err)
	// Output:
	// it can list: true
	// 0 <nil>
}
