package sqlstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"

	"github.com/google/uuid"

	"github.com/decnet/enrich/bus"
	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/store"
)

// Save implements [store.Store]. It stores all updates in one transaction; if
// the database refuses one of them, it stores each in a transaction of its own.
// An update under a lease that has expired is stored as long as nobody has
// claimed the attacker since.
func (s *Store) Save(ctx context.Context, updates ...store.Update) error {
	if len(updates) == 0 {
		return ctx.Err()
	}
	refused, err := s.saveAll(ctx, updates)
	if err != nil && len(updates) > 1 && !s.interrupted(ctx, err) {
		return s.saveEach(ctx, updates)
	}
	if err != nil {
		if s.poisonous(err) {
			return &store.UpdateError{ID: updates[0].ID, Err: err}
		}
		return err
	}
	return errors.Join(refused...)
}

// interrupted reports whether a transaction failed for a reason that has
// nothing to do with what was in it.
func (s *Store) interrupted(ctx context.Context, err error) bool {
	return ctx.Err() != nil || errors.Is(err, driver.ErrBadConn) || errors.Is(err, sql.ErrConnDone) || s.busy(err)
}

// saveEach stores updates one by one.
func (s *Store) saveEach(ctx context.Context, updates []store.Update) error {
	var (
		errs   []error
		whole  error // what failed although it had nothing to do with the update
		stored bool
	)
	for i := range updates {
		refused, err := s.saveAll(ctx, updates[i:i+1])
		if err == nil {
			errs = append(errs, refused...)
			stored = stored || len(refused) == 0
			continue
		}
		errs = append(errs, &store.UpdateError{ID: updates[i].ID, Err: err})
		if s.poisonous(err) {
			continue
		}
		whole = err
		if s.interrupted(ctx, err) {
			for _, u := range updates[i+1:] {
				errs = append(errs, &store.UpdateError{ID: u.ID, Err: err})
			}
			break
		}
	}
	if whole != nil && !stored {
		return whole
	}
	return errors.Join(errs...)
}

// saveAll stores updates in one transaction. It returns an UpdateError for each
// that it left out, and another error if it stored none.
func (s *Store) saveAll(ctx context.Context, updates []store.Update) (refused []error, err error) {
	err = s.write(ctx, func(t *tx) error {
		refused = nil
		ids := make([]uuid.UUID, len(updates))
		for i := range updates {
			ids[i] = updates[i].ID
		}
		rows, err := t.loadByID("read leases", ids)
		if err != nil {
			return err
		}
		for i := range updates {
			u := &updates[i]
			why, err := s.save(t, rows[u.ID], u)
			if err != nil {
				return err
			}
			if why != nil {
				refused = append(refused, &store.UpdateError{ID: u.ID, Err: why})
			}
		}
		return nil
	})
	return refused, err
}

// save stores one update, whose row is nil if there is none. It returns why the
// update was refused, before it wrote anything, or an error that spoils the
// transaction.
func (s *Store) save(t *tx, r *row, u *store.Update) (why, err error) {
	switch {
	case r == nil:
		known, err := t.known(u.ID)
		if known {
			why = errConflict(u.Fence)
		}
		return why, err
	case r.gone:
		return nil, t.purge([]string{r.uuid})
	case r.fence != int64(u.Fence):
		return errConflict(u.Fence), nil
	case !sameIP(r.attacker.IP, u.IP):
		return nil, t.enter(r, atOnce, never, r.fence+1)
	}
	m, why := merge(r, u)
	if why != nil {
		return why, nil
	}
	if err := s.writeLedger(t, r, u, m); err != nil {
		return nil, err
	}
	if len(m.changed) > 0 || u.Decision != nil {
		if err := s.intel.write(t, r, &m.rec, m.changed); err != nil {
			return nil, err
		}
	}
	if err := s.writeRaws(t, r, m); err != nil {
		return nil, err
	}
	if err := t.moreAddresses(r.uuid, m.old, m.rec.Entries); err != nil {
		return nil, err
	}
	if u.Event != nil {
		return nil, s.post(t, r.uuid, *u.Event)
	}
	return nil, nil
}

func errConflict(fence uint64) error {
	return fmt.Errorf("%w: fence %d is no longer valid", store.ErrConflict, fence)
}

// known reports whether there is such an attacker at all.
func (t *tx) known(id uuid.UUID) (bool, error) {
	dashed, plain := forms(id)
	var n int
	_, err := t.one("look for an attacker", "SELECT count(*) FROM attackers WHERE uuid IN (?, ?)", []any{dashed, plain}, &n)
	return n > 0, err
}

// merged is what results from an update.
type merged struct {
	rec           store.Record
	old           []store.Entry
	doc, decision string
	// changed are the providers whose finding is replaced or dropped.
	changed []string
}

// merge applies an update to a row. The error says why it cannot.
func merge(r *row, u *store.Update) (*merged, error) {
	m := &merged{changed: slices.Clone(u.Changed), decision: r.decision}
	old, err := r.ledger()
	if err != nil {
		return nil, err
	}
	entries := slices.Clone(u.Entries)
	sortEntries(entries)
	for i := range entries {
		e := &entries[i]
		if err := provider.ValidateName(e.Provider); err != nil {
			return nil, fmt.Errorf("%w: provider %w", store.ErrInvalid, err)
		}
		if i > 0 && e.Provider == entries[i-1].Provider {
			return nil, fmt.Errorf("%w: two entries of provider %q", store.ErrInvalid, e.Provider)
		}
		if !slices.Contains(u.Changed, e.Provider) {
			e.Finding = nil
			if was := old.entry(e.Provider); was != nil {
				e.Finding = was.Finding
			}
		}
	}
	for i := range old.entries {
		e := &old.entries[i]
		if e.Finding != nil && find(entries, e.Provider) == nil && !slices.Contains(u.Changed, e.Provider) {
			m.changed = append(m.changed, e.Provider) // an entry left out takes its finding with it
		}
	}
	m.doc, err = encode(entries, func(e *store.Entry) bool {
		if slices.Contains(u.Changed, e.Provider) {
			return rawPresent(e)
		}
		return slices.Contains(old.raws, e.Provider)
	})
	if err != nil {
		return nil, err
	}
	m.old = old.entries
	m.rec = store.Record{
		Attacker: r.attacker, Entries: entries, Revision: u.Revision, CachedAt: fromMicros(r.cachedAt),
	}
	if !u.SavedAt.IsZero() {
		m.rec.CachedAt = precise(u.SavedAt)
	}
	if u.Decision != nil {
		m.rec.Decision = *u.Decision
		m.decision, err = encodeDecision(u.Decision)
	} else {
		m.rec.Decision, err = decodeDecision(r.decision)
	}
	return m, err
}

// writeLedger stores the ledger and its schedule.
func (s *Store) writeLedger(t *tx, r *row, u *store.Update, m *merged) error {
	due, ahead := dueOf(u.Due), dueOf(u.Ahead)
	if u.KeepDue {
		due = max(r.due, atOnce)
	}
	queues := queuesOf(m.rec.Entries, due)
	held := u.Hold && r.state == leased
	fence := r.fence
	if !u.Hold {
		fence++
	}
	state, wake := stateAt(due)
	text := `UPDATE enrich_ledger SET addr = ?, due_at = ?, ahead_at = ?, fence = ?, queues = ?, revision = ?,
		cached_at = ?, entries = ?, decision = ?, state = ?, wake_at = ?, owner = '' WHERE attacker_uuid = ?`
	args := []any{addrOf(m.rec.Entries), due, ahead, fence, queues, int64(u.Revision), micros(m.rec.CachedAt),
		m.doc, m.decision, state, wake, r.uuid}
	if held {
		text = `UPDATE enrich_ledger SET addr = ?, due_at = ?, ahead_at = ?, fence = ?, queues = ?, revision = ?,
			cached_at = ?, entries = ?, decision = ? WHERE attacker_uuid = ?`
		args = append(args[:9], r.uuid)
		state = leased
	}
	if err := t.exec("write the ledger", text, args...); err != nil {
		return err
	}
	if r.state != leased && r.queues != "" {
		if err := t.leave(r.uuid); err != nil {
			return err
		}
	}
	r.state, r.due, r.ahead, r.fence, r.queues = state, due, ahead, fence, queues
	r.revision, r.cachedAt, r.entries, r.decision = int64(u.Revision), micros(m.rec.CachedAt), m.doc, m.decision
	r.decoded = nil
	if held {
		return nil
	}
	return t.join(r.uuid, queues, r.seen)
}

// writeRaws stores the raw answers that attacker_intel has no column for.
func (s *Store) writeRaws(t *tx, r *row, m *merged) error {
	for _, name := range m.changed {
		if hasColumns(name) {
			continue
		}
		var err error
		if e := m.rec.Entry(name); e != nil && e.Finding != nil && rawPresent(e) {
			err = t.exec("write a raw answer", "INSERT INTO enrich_raw (attacker_uuid, provider, raw) VALUES (?, ?, ?)"+
				s.d.upsert("attacker_uuid, provider", []string{"raw"}), r.uuid, name, cleanJSON(e.Finding.Raw))
		} else {
			err = t.exec("remove a raw answer", "DELETE FROM enrich_raw WHERE attacker_uuid = ? AND provider = ?", r.uuid, name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// post puts an event into the outbox, unless it is there already.
func (s *Store) post(t *tx, attacker string, ev bus.Event) error {
	if ev.ID == "" {
		ev.ID = uuid.NewString()
	}
	return t.exec("put an event into the outbox", `INSERT INTO enrich_outbox
		(event_id, attacker_uuid, topic, type, at, saved_at, payload) VALUES (?, ?, ?, ?, ?, ?, ?)`+
		s.d.upsert("event_id", nil), ev.ID, attacker, ev.Topic, ev.Type, micros(ev.Time), t.clock, string(ev.Payload))
}
