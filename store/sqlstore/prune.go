package sqlstore

import (
	"context"
	"slices"
	"strconv"
	"time"

	"github.com/decnet/enrich/store"
	"github.com/decnet/enrich/store/decnet"
)

// pruneBatch is how many rows Prune looks at in one transaction.
const pruneBatch = 1000

// Prune implements [store.Pruner]. In attacker_intel an empty object takes the
// place of a raw answer, whoever wrote it. Of attackers that are gone it removes
// the rows of our own tables, and those of attacker_intel that this package added.
// It looks at everything, in short transactions.
func (s *Store) Prune(ctx context.Context, before time.Time) (pruned store.Pruned, err error) {
	steps := []struct {
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
	}
	for _, step := range steps {
		for last, more := "", true; more; {
			start := last
			var part store.Pruned
			err := s.write(ctx, func(t *tx) (err error) {
				more, err = t.one("find how far to prune", "SELECT "+step.key+" FROM "+step.table+" WHERE "+step.key+" > ? ORDER BY "+
					step.key+limit(1)+" OFFSET "+strconv.Itoa(pruneBatch-1), []any{start}, &last)
				if err != nil {
					return err
				}
				where, args := step.key+" > ?", []any{start}
				if more {
					where, args = where+" AND "+step.key+" <= ?", append(args, last)
				}
				part, err = step.prune(t, where, args)
				return err
			})
			if err != nil {
				return pruned, err
			}
			pruned.Raws += part.Raws
			pruned.Orphans += part.Orphans
		}
	}
	return pruned, nil
}

// pruneLedger removes attackers that are gone from our own tables.
func (t *tx) pruneLedger(where string, args []any) (store.Pruned, error) {
	var gone []string
	err := t.query("look for attackers that are gone", `SELECT attacker_uuid FROM enrich_ledger WHERE `+where+
		` AND NOT EXISTS (SELECT 1 FROM attackers a WHERE a.uuid = attacker_uuid) ORDER BY attacker_uuid`, args,
		func(scan func(...any) error) error {
			var uuid string
			err := scan(&uuid)
			gone = append(gone, uuid)
			return err
		})
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
