package sqlstore

import (
	"slices"
	"strings"

	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/store"
)

// subject is what a lookup, or an answer, is about: an address and a provider.
type subject struct{ addr, provider string }

// aboutOf returns what an entry is about; its address is empty if that is not known.
func aboutOf(e *store.Entry) (a subject) {
	a.provider = e.Provider
	switch {
	case e.Finding != nil && e.Finding.Addr.IsValid():
		a.addr = provider.Canonical(e.Finding.Addr).String()
	case e.Finding == nil && e.Addr.IsValid():
		a.addr = provider.Canonical(e.Addr).String()
	}
	return a
}

// share makes the attackers due that wait for what a batch has learnt, unless they
// are leased or somebody else has locked them. It waits for no lock, so it needs no
// order; PostgreSQL would read the whole index for one.
func (t *tx) share(b *batch) error {
	if !t.waits && !slices.ContainsFunc(b.all, func(m *merged) bool { return strings.HasPrefix(m.queues, waitingFor) }) {
		return nil
	}
	learnt := make(map[subject]bool)
	var addrs []string
	for _, m := range b.all {
		for i := range m.rec.Entries {
			e := &m.rec.Entries[i]
			if e.Finding == nil || e.State == store.Waiting || !slices.Contains(m.changed, e.Provider) {
				continue // who waits in spite of a finding does not wait for it
			}
			a := aboutOf(e)
			learnt[a] = true
			if !slices.Contains(addrs, a.addr) {
				addrs = append(addrs, a.addr)
			}
		}
	}
	slices.Sort(addrs)
	for chunk := range slices.Chunk(addrs, maxParams/2) {
		having, err := t.having(chunk)
		if err != nil {
			return err
		}
		rows, err := t.waitingFor(having, learnt)
		if err != nil {
			return err
		}
		changes := make([]change, len(rows))
		for i, r := range rows {
			was := *r
			r.free(atOnce)
			changes[i] = change{&was, r}
		}
		if err := t.reschedule(changes); err != nil {
			return err
		}
	}
	return nil
}

// having returns the attackers that have, or had, one of the addresses.
func (t *tx) having(addrs []string) (uuids []string, err error) {
	among, args := t.among(addrs)
	err = t.query("look for attackers with the same address", `SELECT attacker_uuid FROM enrich_ledger WHERE addr `+among+`
		UNION SELECT attacker_uuid FROM enrich_address WHERE addr `+among, append(args, args...), into(&uuids))
	return uuids, err
}

// waitingFor returns those of the attackers that wait for what was learnt.
func (t *tx) waitingFor(uuids []string, learnt map[subject]bool) (rows []*schedule, err error) {
	err = t.queryAmong("look for attackers that wait for the same", "SELECT "+scheduleColumns+", ledger FROM enrich_ledger WHERE attacker_uuid",
		uuids, " AND state <> 2 AND queues LIKE 'waiting:%'"+t.s.d.skip, func(scan func(...any) error) error {
			var text string
			r := new(schedule)
			if err := scan(append(r.dest(), &text)...); err != nil {
				return err
			}
			l, err := decode(unpack(text))
			if err != nil {
				return nil // the next claim begins it anew
			}
			if slices.ContainsFunc(l.entries, func(e store.Entry) bool {
				return e.State == store.Waiting && learnt[aboutOf(&e)]
			}) {
				rows = append(rows, r)
			}
			return nil
		})
	return rows, err
}
