package sqlstore

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/decnet/enrich/store"
)

// isolating is how long an isolation looks for what is locked. After that a part that
// fails is not divided any more.
const isolating = 5 * time.Second

// isolation does something with items: all in one transaction or, if other clients have
// locked rows, all but those that need such rows. It asks the database which rows are
// locked. That does not show rows that were not committed yet, nor gaps between rows,
// so it also divides what still fails into halves, which hardly wait, down to single
// items, of which the first few wait once more.
type isolation[T any] struct {
	s *Store
	// try does it in one transaction of the given mode.
	try func(items []T, m mode) error
	// fail is told about each item that is left out, and why.
	fail func(item T, err error)
	// id returns the attacker that an item is about; nil if the items are in order of
	// what they lock, and which are locked cannot be asked for.
	id func(item *T) uuid.UUID
	// refused says that items are divided also after errors other than locks.
	refused bool

	done    bool  // something was committed
	err     error // the last failure that may be one of everything
	stopped bool  // err ends it all
	failed  int   // items that were tried and left out
	until   time.Time
}

// run does it. It leaves items unchanged.
func (i *isolation[T]) run(ctx context.Context, items []T, m mode) {
	if len(items) == 0 {
		return
	}
	err := i.err
	if !i.stopped {
		if err = i.try(items, m); err == nil {
			i.done = true
			return
		}
	}
	isLocked := errors.Is(err, store.ErrLocked)
	switch {
	case i.stopped:
	case i.s.interrupted(ctx, err), !isLocked && !i.refused:
		i.err, i.stopped = err, true
	case !isLocked && !i.s.poisonous(err):
		i.err = err
	}
	if isLocked && m == writing && len(items) > 1 && !i.stopped {
		if m = brief; i.until.IsZero() {
			i.until = time.Now().Add(isolating)
		}
		if i.id != nil {
			free, unknown := i.leaveOutLocked(ctx, items, err)
			if unknown != nil { // a whole table is locked
				i.err, i.stopped = err, true
			} else if len(free) < len(items) {
				i.run(ctx, free, m)
				return
			}
			items = free
		}
	}
	if isLocked && m == brief && len(items) == 1 && !i.stopped && i.failed < maxWaits && time.Now().Before(i.until) {
		i.run(ctx, items, writing) // it may be locked for a moment only
		return
	}
	if i.stopped || len(items) == 1 || isLocked && time.Now().After(i.until) {
		for _, item := range items {
			i.fail(item, err)
		}
		if i.failed += len(items); isLocked && i.failed >= maxWaits {
			i.err = err
		}
		return
	}
	i.run(ctx, items[:len(items)/2], m)
	i.run(ctx, items[len(items)/2:], m)
}

// leaveOutLocked returns the items about attackers of which no row is seen to be
// locked, and fails the others with the given error. What is next to each other in an
// index is then next to each other. It returns the error of lockedOf, and then all items.
func (i *isolation[T]) leaveOutLocked(ctx context.Context, items []T, err error) (free []T, unknown error) {
	ids := make([]uuid.UUID, len(items))
	for n := range items {
		ids[n] = i.id(&items[n])
	}
	locked, unknown := i.s.lockedOf(ctx, ids)
	for n := range items {
		if locked[ids[n]] {
			i.fail(items[n], err)
		} else {
			free = append(free, items[n])
		}
	}
	slices.SortStableFunc(free, func(a, b T) int {
		x, y := i.id(&a), i.id(&b)
		return bytes.Compare(x[:], y[:])
	})
	return free, unknown
}

// lockedOf returns those of the attackers of which another client is seen to have
// locked a row. It returns an error that wraps store.ErrLocked if a whole table is
// locked, or that of an interruption. Rows that cannot be asked about, as those of a
// table that this user may only read, count as not locked.
func (s *Store) lockedOf(ctx context.Context, ids []uuid.UUID) (locked map[uuid.UUID]bool, err error) {
	texts := spellings(ids)
	slices.Sort(texts)
	locked = make(map[uuid.UUID]bool)
	for _, in := range [][2]string{{"attackers", "uuid"}, {"attacker_intel", "attacker_uuid"}, {"enrich_ledger", "attacker_uuid"}} {
		var rows []string
		err := s.writeUnlessLocked(ctx, writing, func(t *tx) (err error) {
			rows, err = t.lockedIn(in[0], in[1], texts)
			return err
		})
		switch {
		case err == nil:
		case errors.Is(err, store.ErrLocked), s.interrupted(ctx, err):
			return nil, err
		}
		for _, text := range rows {
			id, _ := parseUUID(text) // spelled as we asked for it
			locked[id] = true
		}
	}
	return locked, nil
}

// lockedIn returns those of the keys of which another client has locked the row in a
// table.
func (t *tx) lockedIn(table, column string, keys []string) ([]string, error) {
	rows := make(map[string]bool)
	for _, lock := range []string{"", t.s.d.skip} {
		err := t.queryAmong("look for locked rows", "SELECT "+column+" FROM "+table+" WHERE "+column, keys, lock,
			func(scan func(...any) error) error {
				var key string
				err := scan(&key)
				if lock == "" {
					rows[key] = true
				} else {
					delete(rows, key)
				}
				return err
			})
		if err != nil {
			return nil, err
		}
	}
	return slices.Collect(maps.Keys(rows)), nil
}
