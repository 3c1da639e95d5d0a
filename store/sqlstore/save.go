package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/decnet/enrich/aggregate"
	"github.com/decnet/enrich/bus"
	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/store"
	"github.com/decnet/enrich/store/decnet"
)

// Save implements [store.Store]. It stores all updates in one transaction; if
// the database refuses one of them, it stores each in a transaction of its own,
// and one that is refused even so without its raw answers. An update under a
// lease that has expired is stored as long as nobody has claimed the attacker
// since. A finding that somebody else wrote to attacker_intel since the claim is
// kept if it is newer than the one to be stored.
func (s *Store) Save(ctx context.Context, updates ...store.Update) error {
	if len(updates) == 0 {
		return ctx.Err()
	}
	failed, err := s.saveAll(ctx, updates, false)
	if err != nil && len(updates) > 1 && !s.interrupted(ctx, err) {
		return s.saveEach(ctx, updates)
	}
	if err != nil && s.poisonous(err) {
		failed, err = s.saveAll(ctx, updates, true)
		if err != nil && s.poisonous(err) {
			failed, err = map[uuid.UUID]error{updates[0].ID: err}, nil
		}
	}
	if err != nil {
		return err
	}
	return saveError(failed)
}

// saveError returns nil if nothing failed.
func saveError(failed map[uuid.UUID]error) error {
	if len(failed) == 0 {
		return nil
	}
	return &store.SaveError{Failed: failed}
}

// interrupted reports whether a transaction failed for a reason that has
// nothing to do with what was in it.
func (s *Store) interrupted(ctx context.Context, err error) bool {
	c := s.classify(err)
	return ctx.Err() != nil || c == busy || c == lost
}

// saveEach stores updates one by one.
func (s *Store) saveEach(ctx context.Context, updates []store.Update) error {
	var (
		failed = make(map[uuid.UUID]error)
		whole  error // what failed although it had nothing to do with the update
		stored bool
	)
	for i := range updates {
		err := s.Save(ctx, updates[i])
		if refused, ok := errors.AsType[*store.SaveError](err); ok {
			maps.Copy(failed, refused.Failed)
			continue
		}
		if err == nil {
			stored = true
			continue
		}
		failed[updates[i].ID], whole = err, err
		if s.interrupted(ctx, err) {
			for _, u := range updates[i+1:] {
				failed[u.ID] = err
			}
			break
		}
	}
	if whole != nil && !stored {
		return whole
	}
	return saveError(failed)
}

// saveAll stores updates in one transaction. It returns the updates that it left
// out, by attacker, and an error if it stored none.
func (s *Store) saveAll(ctx context.Context, updates []store.Update, bare bool) (failed map[uuid.UUID]error, err error) {
	err = s.writeUntimed(ctx, func(t *tx) (err error) {
		t.bare = bare
		failed, err = t.saveAll(updates)
		return err
	})
	return failed, err
}

func (t *tx) saveAll(updates []store.Update) (failed map[uuid.UUID]error, err error) {
	ids := make([]uuid.UUID, len(updates))
	for i := range updates {
		ids[i] = updates[i].ID
	}
	rows, err := t.loadByID("read leases", ids, t.s.d.lock)
	if err != nil {
		return nil, err
	}
	if err := t.readClock(); err != nil { // no row was read
		return nil, err
	}
	theirs, err := t.theirs(updates, rows)
	if err != nil {
		return nil, err
	}
	b := batch{of: make(map[*row]*merged, len(updates))}
	failed = make(map[uuid.UUID]error)
	for i := range updates {
		u := &updates[i]
		why, err := t.save(&b, rows[u.ID], u, theirs[u.ID])
		if err != nil {
			return nil, err
		}
		if why != nil {
			failed[u.ID] = why
		}
	}
	return failed, t.writeBatch(&b)
}

// batch is what is to be written for some updates.
type batch struct {
	all    []*merged
	of     map[*row]*merged
	events [][]any
}

// save prepares one update, whose row is nil if there is none. It returns why
// the update was refused, or an error that spoils the transaction.
func (t *tx) save(b *batch, r *row, u *store.Update, theirs []store.Entry) (why, err error) {
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
		return nil, t.release(r, atOnce)
	}
	m := b.of[r]
	if m == nil {
		m = &merged{row: r, was: r.schedule}
	}
	if why := m.merge(u, theirs); why != nil {
		return why, nil
	}
	if b.of[r] == nil {
		b.of[r], b.all = m, append(b.all, m)
	}
	if ev := u.Event; ev != nil {
		b.events = append(b.events, letter(r.uuid, *ev, t.clock))
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

// theirs returns findings that somebody else wrote to attacker_intel since the
// claim and that are newer than those of the updates, by attacker.
func (t *tx) theirs(updates []store.Update, rows map[uuid.UUID]*row) (map[uuid.UUID][]store.Entry, error) {
	var written []*row
	for i := range updates {
		u := &updates[i]
		if r := rows[u.ID]; r != nil && !r.gone && r.fence == int64(u.Fence) && slices.ContainsFunc(u.Changed, hasColumns) {
			written = append(written, r)
		}
	}
	times, err := t.queriedAt(written)
	if err != nil || len(times) == 0 {
		return nil, err
	}
	newer := make(map[string][]string) // by UUID as found: providers
	for i := range updates {
		u := &updates[i]
		r := rows[u.ID]
		if r == nil {
			continue
		}
		for j, at := range times[r.uuid] {
			name := columnProviders[j]
			if at.IsZero() || !slices.Contains(u.Changed, name) || !t.s.isNewer(at, find(u.Entries, name)) {
				continue
			}
			old, err := r.ledger()
			if err != nil {
				break // merge reports it
			}
			if t.s.isNewer(at, old.entry(name)) {
				newer[r.uuid] = append(newer[r.uuid], name)
			}
		}
	}
	if len(newer) == 0 {
		return nil, nil
	}
	var uuids []string
	for uuid := range newer {
		uuids = append(uuids, uuid)
	}
	slices.Sort(uuids)
	foreign, err := t.intelRows(uuids)
	if err != nil {
		return nil, err
	}
	theirs := make(map[uuid.UUID][]store.Entry)
	for id, r := range rows {
		if ir := foreign[r.uuid]; ir != nil {
			theirs[id] = slices.DeleteFunc(ir.entries(), func(e store.Entry) bool { return !slices.Contains(newer[r.uuid], e.Provider) })
		}
	}
	return theirs, nil
}

// merged is a row of the ledger with what results from the updates of it.
type merged struct {
	*row
	was schedule
	old []store.Entry // before the first of the updates
	rec store.Record
	// changed are the providers whose finding is replaced or dropped, and decided
	// says that the verdict may have changed.
	changed []string
	decided bool
	raws    []string // providers whose finding had a Raw before
}

// merge applies an update to the row. The error says why it cannot; the row is
// then as it was.
func (m *merged) merge(u *store.Update, theirs []store.Entry) error {
	r := m.row
	changed := slices.Clone(u.Changed)
	old, err := r.ledger()
	if err != nil {
		return err
	}
	entries := slices.Clone(u.Entries)
	sortEntries(entries)
	for i := range entries {
		e := &entries[i]
		if err := provider.ValidateName(e.Provider); err != nil {
			return fmt.Errorf("%w: provider %w", store.ErrInvalid, err)
		}
		if i > 0 && e.Provider == entries[i-1].Provider {
			return fmt.Errorf("%w: two entries of provider %q", store.ErrInvalid, e.Provider)
		}
		if !slices.Contains(u.Changed, e.Provider) {
			was := old.entry(e.Provider)
			if slices.Contains(m.changed, e.Provider) { // by an update before this one: it still has its Raw
				was = find(m.rec.Entries, e.Provider)
			}
			e.Finding = nil
			if was != nil {
				e.Finding = was.Finding
			}
		}
	}
	for i := range old.entries {
		e := &old.entries[i]
		if e.Finding != nil && find(entries, e.Provider) == nil && !slices.Contains(u.Changed, e.Provider) {
			changed = append(changed, e.Provider) // an entry left out takes its finding with it
		}
	}
	for _, e := range theirs {
		changed = slices.DeleteFunc(changed, func(name string) bool { return name == e.Provider })
		if was := find(entries, e.Provider); was != nil {
			*was = e
		} else {
			entries = append(entries, e)
		}
	}
	sortEntries(entries)
	doc, err := encode(entries, func(e *store.Entry) bool {
		if slices.Contains(u.Changed, e.Provider) {
			return rawPresent(e)
		}
		return slices.Contains(old.raws, e.Provider)
	})
	if err != nil {
		return err
	}
	var decision aggregate.Decision
	text := r.decision
	if u.Decision == nil {
		decision, err = decodeDecision(r.decision)
	} else {
		decision = *u.Decision
		text, err = encodeDecision(u.Decision)
	}
	if err != nil {
		return err
	}

	if m.old == nil {
		m.old, m.raws = old.entries, old.raws
	}
	for _, name := range changed {
		if !slices.Contains(m.changed, name) {
			m.changed = append(m.changed, name)
		}
	}
	m.decided = m.decided || u.Decision != nil
	r.entries, r.decision, r.decoded = doc, text, nil
	r.revision = int64(u.Revision)
	if !u.SavedAt.IsZero() {
		r.cachedAt = micros(u.SavedAt)
	}
	due := dueOf(u.Due)
	if u.KeepDue {
		due = max(r.due, atOnce)
	}
	if u.Hold && r.state == leased {
		r.due = due
	} else {
		r.free(due)
	}
	if !u.Hold {
		r.fence++
	}
	r.queues, r.ahead = queuesOf(entries, due), dueOf(u.Ahead)
	m.rec = store.Record{
		Attacker: r.attacker, Entries: entries, Decision: decision, Revision: u.Revision, CachedAt: fromMicros(r.cachedAt),
	}
	return nil
}

// ledgerColumns are the columns of enrich_ledger that row.values gives.
const ledgerColumns = `attacker_uuid, ip, last_seen, addr, verdict, state, wake_at, due_at, ahead_at, fence, owner, queues,
	revision, cached_at, entries, decision`

const ledgerWidth = 16

// What a save writes of them: all but those that only a sighting changes, or
// these without the ones that rarely change and that SQLite would write to the
// indexes again.
var (
	savedColumns = append([]string{"addr", "verdict"}, steadyColumns...)

	steadyColumns = []string{
		"state", "wake_at", "due_at", "ahead_at", "fence", "owner", "queues", "revision", "cached_at", "entries", "decision",
	}
)

// describe sets what is derived from the ledger's content.
func (r *row) describe(entries []store.Entry, d *aggregate.Decision) {
	r.addr = addrOf(entries)
	r.verdict = -1
	if r.revision > 0 {
		r.verdict = int(d.Verdict)
	}
}

func (r *row) values() []any {
	owner := r.owner
	if r.state != leased {
		owner = ""
	}
	return []any{
		r.uuid, r.ip, r.seen, r.addr, r.verdict, r.state, r.wake, r.due, r.ahead, r.fence, owner, r.queues,
		r.revision, r.cachedAt, r.entries, r.decision,
	}
}

// writeBatch writes what was merged, in order of UUID.
func (t *tx) writeBatch(b *batch) error {
	slices.SortFunc(b.all, func(x, y *merged) int { return strings.Compare(x.uuid, y.uuid) })
	var (
		rows, steady [][]any
		leave        []string
		join         []*schedule
	)
	for _, m := range b.all {
		addr, verdict := m.addr, m.verdict
		m.describe(m.rec.Entries, &m.rec.Decision)
		if m.addr == addr && m.verdict == verdict {
			steady = append(steady, m.values())
		} else {
			rows = append(rows, m.values())
		}
		if m.was.state != leased && m.was.queues != "" {
			leave = append(leave, m.uuid)
		}
		if m.state != leased && m.queues != "" {
			join = append(join, &m.schedule)
		}
	}
	for _, part := range []struct {
		rows    [][]any
		columns []string
	}{{rows, savedColumns}, {steady, steadyColumns}} {
		err := t.insert("write the ledger", "INSERT INTO enrich_ledger ("+ledgerColumns+")", params(ledgerWidth),
			t.s.d.upsert("attacker_uuid", part.columns), part.rows)
		if err != nil {
			return err
		}
	}
	if err := t.leave(leave...); err != nil {
		return err
	}
	if err := t.join(join...); err != nil {
		return err
	}
	if err := t.writeIntel(b.all); err != nil {
		return err
	}
	if err := t.writeRaws(b.all); err != nil {
		return err
	}
	for _, m := range b.all {
		if err := t.moreAddresses(m.uuid, m.old, m.rec.Entries); err != nil {
			return err
		}
	}
	return t.insert("put events into the outbox",
		"INSERT INTO enrich_outbox (event_id, attacker_uuid, topic, type, at, saved_at, payload)", params(7),
		t.s.d.upsert("event_id", nil), b.events)
}

// writeRaws stores the raw answers that attacker_intel has no column for.
func (t *tx) writeRaws(all []*merged) error {
	var rows [][]any
	for _, m := range all {
		for _, name := range m.changed {
			if hasColumns(name) {
				continue
			}
			if e := m.rec.Entry(name); e != nil && e.Finding != nil && rawPresent(e) {
				rows = append(rows, []any{m.uuid, name, micros(e.Finding.ObservedAt), t.raw(e.Finding.Raw)})
				continue
			}
			if slices.Contains(m.raws, name) {
				err := t.exec("remove a raw answer", "DELETE FROM enrich_raw WHERE attacker_uuid = ? AND provider = ?", m.uuid, name)
				if err != nil {
					return err
				}
			}
		}
	}
	return t.insert("write raw answers", "INSERT INTO enrich_raw (attacker_uuid, provider, observed_at, raw)", params(4),
		t.s.d.upsert("attacker_uuid, provider", []string{"observed_at", "raw"}), rows)
}

// raw returns what is stored for a raw answer.
func (t *tx) raw(raw []byte) string {
	if t.bare && len(raw) > len("{}") {
		return fmt.Sprintf(`{"truncated":true,"bytes":%d}`, len(raw))
	}
	return cleanJSON(raw)
}

// letter returns the row of the outbox for an event.
func letter(attacker string, ev bus.Event, clock int64) []any {
	if ev.ID == "" {
		ev.ID = uuid.NewString()
	}
	return []any{
		decnet.CleanText(ev.ID), attacker, decnet.CleanText(ev.Topic), decnet.CleanText(ev.Type),
		micros(ev.Time), clock, cleanJSON(ev.Payload),
	}
}
