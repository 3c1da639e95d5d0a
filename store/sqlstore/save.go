package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/decnet/enrich/aggregate"
	"github.com/decnet/enrich/bus"
	"github.com/decnet/enrich/internal/jsontext"
	"github.com/decnet/enrich/store"
	"github.com/decnet/enrich/store/decnet"
)

// Save implements [store.Store]. It stores all updates in one transaction; if
// the database refuses that, it finds the updates that it refuses by dividing them into
// halves, and stores these without more and more of what the database may refuse; see
// care. An update that waits for more than a second for what another client has locked
// is not stored; its error wraps [store.ErrLocked]. An update under
// a lease that has expired is stored as long as nobody has claimed the attacker
// since. A finding that somebody else wrote to attacker_intel since the claim is
// kept if it is newer than the one to be stored.
func (s *Store) Save(ctx context.Context, updates ...store.Update) error {
	if len(updates) == 0 {
		return ctx.Err()
	}
	failed := make(map[uuid.UUID]error)
	work := isolation[store.Update]{
		s: s,
		try: func(part []store.Update, m mode) error {
			refused, err := s.saveAll(ctx, part, nil, m)
			if err != nil && len(part) == 1 && s.poisonous(err) {
				refused, err = s.saveWithCare(ctx, part[0], m, err)
			}
			maps.Copy(failed, refused)
			return err
		},
		fail:    func(u store.Update, err error) { failed[u.ID] = err },
		id:      func(u *store.Update) uuid.UUID { return u.ID },
		refused: true,
	}
	work.run(ctx, updates, writing)
	if work.err != nil && !work.done {
		return work.err
	}
	if len(failed) > 0 {
		return &store.SaveError{Failed: failed}
	}
	return nil
}

// care is what a transaction leaves out of a finding, or of the rest of a record,
// because the database has refused the update with it. Each level includes those before
// it.
type care uint8

const (
	asIs care = iota
	// inASCII: other characters are escaped in JSON, which loses nothing, and are
	// question marks in other texts. A column, or a database, may have a small
	// character set.
	inASCII
	// withoutRaw: raw answers are replaced by their size.
	withoutRaw
	// withoutAttributes: columns of attacker_intel that hold attributes say nothing.
	// The ledger has them.
	withoutAttributes
)

// saveWithCare stores an update that the database has refused with an error: it takes
// the first level of care that helps, and takes it only where it must.
func (s *Store) saveWithCare(ctx context.Context, u store.Update, m mode, refused error) (failed map[uuid.UUID]error, err error) {
	updates := []store.Update{u}
	parts := append([]string{""}, u.Changed...)
	err = refused
	for level := inASCII; level <= withoutAttributes && s.poisonous(err); level++ {
		with := make(map[string]care)
		for _, part := range parts {
			with[part] = level
		}
		if err = s.trySave(ctx, updates, with, m); err != nil {
			continue
		}
		for _, part := range parts {
			for with[part] = asIs; with[part] < level && s.trySave(ctx, updates, with, m) != nil; with[part]++ {
			}
		}
		if failed, err = s.saveAll(ctx, updates, with, m); err == nil {
			s.log.Warn("the database refuses a part of a record; the record is stored without it", "attacker", u.ID, "error", refused)
			return failed, nil
		}
	}
	return nil, err
}

// interrupted reports whether a transaction failed for a reason that has
// nothing to do with what was in it.
func (s *Store) interrupted(ctx context.Context, err error) bool {
	c := s.classify(err)
	return ctx.Err() != nil || c == busy || c == lost
}

func idsOf(updates []store.Update) []uuid.UUID {
	ids := make([]uuid.UUID, len(updates))
	for i := range updates {
		ids[i] = updates[i].ID
	}
	return ids
}

// saveAll stores updates in one transaction. It returns the updates that it left
// out, by attacker, and an error if it stored none.
func (s *Store) saveAll(ctx context.Context, updates []store.Update, with map[string]care, m mode) (failed map[uuid.UUID]error, err error) {
	err = s.writeUnlessLocked(ctx, m, func(t *tx) (err error) {
		t.care = with
		failed, err = t.saveAll(updates)
		return err
	})
	return failed, err
}

// trySave returns the error of saveAll and stores nothing.
func (s *Store) trySave(ctx context.Context, updates []store.Update, with map[string]care, m mode) error {
	err := s.writeUnlessLocked(ctx, m, func(t *tx) error {
		t.care = with
		if _, err := t.saveAll(updates); err != nil {
			return err
		}
		return errUndo
	})
	if errors.Is(err, errUndo) {
		return nil
	}
	return err
}

func (t *tx) saveAll(updates []store.Update) (failed map[uuid.UUID]error, err error) {
	rows, err := t.loadByID("read leases", idsOf(updates), t.s.d.lock)
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
	if err := t.writeBatch(&b); err != nil {
		return nil, err
	}
	return failed, t.share(&b)
}

// batch is what is to be written for some updates.
type batch struct {
	all    []*merged
	of     map[*row]*merged
	events [][]any
	// deliveries are rows of enrich_delivery.
	deliveries [][]any
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
	case !store.SameIP(r.attacker.IP, u.IP):
		return nil, t.reschedule([]change{r.release(atOnce)})
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
		row := t.letter(r.uuid, *ev)
		if !u.NoBus {
			b.events = append(b.events, row)
		}
		for _, reader := range u.Readers {
			b.deliveries = append(b.deliveries, append([]any{reader + " " + row[0].(string), reader, row[0]}, row[2:]...))
		}
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
	foreign, err := t.intelRows(slices.Sorted(maps.Keys(newer)))
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
	raws    []string  // providers whose finding had a Raw before
	expires time.Time // of the row in attacker_intel, if an update said so
}

// merge applies an update to the row. The error says why it cannot; the row is
// then as it was.
func (m *merged) merge(u *store.Update, theirs []store.Entry) error {
	r := m.row
	if err := u.Validate(); err != nil {
		return err
	}
	changed := slices.Clone(u.Changed)
	old, err := r.ledger()
	if err != nil {
		return err
	}
	entries := slices.Clone(u.Entries)
	sortEntries(entries)
	for i := range entries {
		e := &entries[i]
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
	if !u.ExpiresAt.IsZero() {
		m.expires = u.ExpiresAt
	}
	due := dueOf(u.Due)
	switch {
	case r.due == moved: // away and back
		if due = atOnce; u.Hold && r.state == leased {
			due = moved
		}
	case u.KeepDue:
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
	revision, cached_at, ledger, decision`

const ledgerWidth = 16

// What a save writes of them: all but those that only a sighting changes, or
// these without the ones that rarely change and that SQLite would write to the
// indexes again.
var (
	savedColumns = append([]string{"addr", "verdict"}, steadyColumns...)

	steadyColumns = []string{
		"state", "wake_at", "due_at", "ahead_at", "fence", "owner", "queues", "revision", "cached_at", "ledger", "decision",
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

// values returns what a save writes to ledgerColumns.
func (t *tx) values(r *row) []any {
	owner := r.owner
	if r.state != leased {
		owner = ""
	}
	return []any{
		r.uuid, r.ip, r.seen, r.addr, r.verdict, r.state, r.wake, r.due, r.ahead, r.fence, owner, r.queues,
		r.revision, r.cachedAt, pack(t.json("", r.entries)), pack(t.json("", r.decision)),
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
			steady = append(steady, t.values(m.row))
		} else {
			rows = append(rows, t.values(m.row))
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
		if err := t.moreAddresses(&m.schedule, m.old, m.rec.Entries); err != nil {
			return err
		}
	}
	err := t.insert("put events into the outbox",
		"INSERT INTO enrich_outbox (event_id, attacker_uuid, topic, type, at, saved_at, payload)", params(7),
		t.s.d.upsert("event_id", nil), b.events)
	if err != nil {
		return err
	}
	return t.insert("put events into the outboxes of readers",
		"INSERT INTO enrich_delivery (delivery, reader, event_id, topic, type, at, saved_at, payload)", params(8),
		t.s.d.upsert("delivery", nil), b.deliveries)
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
				rows = append(rows, []any{m.uuid, name, micros(e.Finding.ObservedAt), t.raw(name, e.Finding.Raw)})
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

// raw returns what is stored for a raw answer of the named provider.
func (t *tx) raw(name string, raw []byte) string {
	if t.care[name] >= withoutRaw && len(raw) > len("{}") {
		return fmt.Sprintf(`{"truncated":true,"bytes":%d}`, len(raw))
	}
	return t.json(name, cleanJSON(raw))
}

// json returns what is stored for a JSON text of the named provider, or of nobody.
func (t *tx) json(name, text string) string {
	if t.care[name] >= inASCII {
		return jsontext.ASCII(text)
	}
	return text
}

// letter returns the row of the outbox for an event.
func (t *tx) letter(attacker string, ev bus.Event) []any {
	if ev.ID == "" {
		ev.ID = uuid.NewString()
	}
	return []any{
		decnet.CleanText(ev.ID), attacker, decnet.CleanText(ev.Topic), decnet.CleanText(ev.Type),
		micros(ev.Time), t.clock, t.json("", cleanJSON(ev.Payload)),
	}
}
