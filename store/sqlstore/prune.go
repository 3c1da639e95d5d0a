package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/decnet/enrich/store"
	"github.com/decnet/enrich/store/decnet"
)

// pruneBatch is how many rows Prune looks at in one transaction.
const pruneBatch = 1000

// keepDeliveries is how long events are kept for readers that nobody reads for.
const keepDeliveries = 30 * 24 * time.Hour

// Prune implements [store.Pruner]. In attacker_intel an empty object takes the
// place of a raw answer, whoever wrote it. Of attackers that are gone it removes
// the rows of our own tables, and those of attacker_intel that this package added.
// It looks at everything, in short transactions. It prunes the others and returns an
// error that wraps [store.ErrLocked] if another client keeps rows locked for more than
// a second. It goes on to the next table where all of a thousand rows are locked.
func (s *Store) Prune(ctx context.Context, before time.Time) (pruned store.Pruned, err error) {
	for _, step := range []struct {
		table, key string
		prune      func(t *tx, where string, args []any) (store.Pruned, error)
	}{
		{"enrich_ledger", "attacker_uuid", (*tx).pruneLedger},
		{"attacker_intel", "uuid", func(t *tx, where string, args []any) (store.Pruned, error) { return t.pruneIntel(where, args, before) }},
		{"enrich_raw", "attacker_uuid", func(t *tx, where string, args []any) (store.Pruned, error) {
			n, err := t.changed("remove old raw answers", "DELETE FROM enrich_raw WHERE "+where+" AND observed_at < ?",
				append(args, micros(before))...)
			return store.Pruned{Raws: n}, err
		}},
	} {
		kept, after := 0, ""
		var why error
		for last := ""; ; {
			keys, err := s.keysAfter(ctx, step.table, step.key, last)
			if err != nil {
				return pruned, err
			}
			work := isolation[string]{
				s: s,
				try: func(keys []string, m mode) error {
					var part store.Pruned
					err := s.writeUnlessLocked(ctx, m, func(t *tx) (err error) {
						part, err = step.prune(t, step.key+" >= ? AND "+step.key+" <= ?", []any{keys[0], keys[len(keys)-1]})
						return err
					})
					if err == nil {
						pruned.Raws += part.Raws
						pruned.Orphans += part.Orphans
					}
					return err
				},
				fail: func(_ string, err error) { kept, why = kept+1, err },
			}
			if work.run(ctx, keys, writing); work.stopped {
				return pruned, work.err
			}
			if !work.done && len(keys) == pruneBatch && errors.Is(why, store.ErrLocked) { // a whole table is locked
				after = ", and those after them,"
				break
			}
			if len(keys) < pruneBatch {
				break
			}
			last = keys[len(keys)-1]
		}
		if why != nil {
			err = errors.Join(err, fmt.Errorf("sqlstore: %d rows of %s%s are not pruned: %w", kept, step.table, after, why))
		}
	}
	return pruned, errors.Join(err, s.write(ctx, func(t *tx) error {
		return t.exec("remove events that nobody reads", "DELETE FROM enrich_delivery WHERE saved_at < ?", t.clock-keepDeliveries.Microseconds())
	}))
}

// keysAfter returns the next keys of a table, in order.
func (s *Store) keysAfter(ctx context.Context, table, key, last string) (keys []string, err error) {
	err = s.read(ctx, func(t *tx) error {
		keys = keys[:0]
		return t.query("find what to prune", "SELECT "+key+" FROM "+table+" WHERE "+key+" > ? ORDER BY "+key+limit(pruneBatch), []any{last},
			into(&keys))
	})
	return keys, err
}

// pruneLedger removes attackers that are gone from our own tables.
func (t *tx) pruneLedger(where string, args []any) (store.Pruned, error) {
	var gone []string
	err := t.query("look for attackers that are gone", `SELECT attacker_uuid FROM enrich_ledger WHERE `+where+
		` AND NOT EXISTS (SELECT 1 FROM attackers a WHERE a.uuid = attacker_uuid) ORDER BY attacker_uuid`, args, into(&gone))
	if err != nil {
		return store.Pruned{}, err
	}
	return store.Pruned{Orphans: len(gone)}, t.purge(gone)
}

// pruneIntel removes old raw answers from attacker_intel, and rows that this
// package added and whose attackers are gone.
func (t *tx) pruneIntel(where string, args []any, before time.Time) (pruned store.Pruned, err error) {
	foreign, err := t.foreignProviders()
	if err != nil {
		return pruned, err
	}
	for _, name := range slices.Concat(columnProviders, foreign) {
		raw, at := t.s.d.quote(name+"_raw"), t.s.d.quote(name+"_queried_at")
		n, err := t.changed("remove old raw answers from attacker_intel", "UPDATE attacker_intel SET "+raw+" = '{}' WHERE "+where+
			" AND "+at+" < ? AND CAST("+raw+" AS "+t.s.d.char+") <> '{}'", append(args, t.s.d.time(before))...)
		if err != nil {
			return pruned, err
		}
		pruned.Raws += n
	}
	var ours []string
	err = t.query("look for rows of attackers that are gone", "SELECT uuid, attacker_uuid FROM attacker_intel WHERE "+where+
		" AND NOT EXISTS (SELECT 1 FROM attackers a WHERE a.uuid = attacker_uuid)", args,
		func(scan func(...any) error) error {
			var uuid, attacker string
			err := scan(&uuid, &attacker)
			if id, ok := parseUUID(attacker); ok && uuid == decnet.RowID(id).String() {
				ours = append(ours, uuid)
			}
			return err
		})
	if err != nil {
		return pruned, err
	}
	return pruned, t.delete("remove rows of attackers that are gone", "attacker_intel", "uuid", ours)
}
