package sqlstore

import (
	"database/sql"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/decnet/enrich/aggregate"
	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/store"
)

// The states of a row of enrich_ledger. The statements spell them out, so that
// partial indexes apply.
const (
	asleep = 0 // due at a time
	ready  = 1 // was found to be due, or due at once
	leased = 2
	parked = 3 // due at no time
)

// Values of due_at that are no times.
const (
	atOnce = 0
	never  = math.MaxInt64
	moved  = math.MinInt64 // under a lease: at once whatever Release says, for the address has changed
)

// row is a row of enrich_ledger with the row of attackers it is about.
type row struct {
	uuid     string // as found in attackers
	id       uuid.UUID
	ip       string // as the ledger knows it
	seen     int64
	state    int
	due      int64
	ahead    int64 // not among rowColumns
	fence    int64
	queues   string
	revision int64
	cachedAt int64
	entries  string // the document
	decision string

	gone     bool     // there is no such attacker any more
	granted  []string // the providers whose grants paid for the claim
	attacker store.Attacker

	decoded *ledger // entries, see ledger
}

// ledger returns the decoded entries, decoding them once.
func (r *row) ledger() (*ledger, error) {
	if r.decoded == nil {
		l, err := decode(r.entries)
		if err != nil {
			return nil, fmt.Errorf("sqlstore: attacker %s: %w", r.id, err)
		}
		r.decoded = &l
	}
	return r.decoded, nil
}

const rowColumns = `l.attacker_uuid, l.ip, l.last_seen, l.state, l.due_at, l.fence, l.queues, l.revision,
	l.cached_at, l.entries, l.decision, a.uuid, a.ip, a.first_seen, a.last_seen`

func (r *row) scan(scan func(...any) error) error {
	var (
		found, ip   sql.NullString
		first, last timestamp
	)
	err := scan(&r.uuid, &r.ip, &r.seen, &r.state, &r.due, &r.fence, &r.queues, &r.revision,
		&r.cachedAt, &r.entries, &r.decision, &found, &ip, &first, &last)
	if err != nil {
		return err
	}
	r.id, _ = parseUUID(r.uuid)
	r.gone = !found.Valid
	r.attacker = store.Attacker{ID: r.id, IP: ip.String, FirstSeen: first.Time, LastSeen: last.Time}
	return nil
}

// load returns the rows of the given attackers, spelled as in the ledger, in no
// order.
func (t *tx) load(purpose string, uuids []string) ([]*row, error) {
	rows := make([]*row, 0, len(uuids))
	for chunk := range slices.Chunk(uuids, maxParams) {
		err := t.query(purpose, `SELECT `+rowColumns+` FROM enrich_ledger l
			LEFT JOIN attackers a ON a.uuid = l.attacker_uuid
			WHERE l.attacker_uuid IN `+params(len(chunk)), anys(chunk), func(scan func(...any) error) error {
			r := new(row)
			rows = append(rows, r)
			return r.scan(scan)
		})
		if err != nil {
			return nil, err
		}
	}
	return rows, nil
}

// loadByID is load for UUIDs in either spelling.
func (t *tx) loadByID(purpose string, ids []uuid.UUID) (map[uuid.UUID]*row, error) {
	rows, err := t.load(purpose, spellings(ids))
	if err != nil {
		return nil, err
	}
	byID := make(map[uuid.UUID]*row, len(rows))
	for _, r := range rows {
		if other := byID[r.id]; other == nil || better(r, other) {
			byID[r.id] = r
		}
	}
	return byID, nil
}

// better chooses between two rows for one UUID, which is not supposed to happen.
func better(r, other *row) bool {
	if r.gone != other.gone {
		return other.gone
	}
	return len(r.uuid) > len(other.uuid)
}

// record returns the record, without Raw, and the names of the providers whose
// findings have one.
func (r *row) record() (rec store.Record, raws []string, err error) {
	l, err := r.ledger()
	if err != nil {
		return rec, nil, err
	}
	if rec.Decision, err = decodeDecision(r.decision); err != nil {
		return rec, nil, fmt.Errorf("sqlstore: attacker %s: %w", r.id, err)
	}
	rec.Attacker = r.attacker
	rec.Entries = l.entries
	rec.Revision = uint64(r.revision)
	rec.CachedAt = fromMicros(r.cachedAt)
	return rec, l.raws, nil
}

// queue names: those of rows that wait for a provider, and those of parked rows
// by the providers their records have an entry of.
const (
	waitingFor = "waiting:"
	parkedWith = "parked:"
)

// queuesOf returns where a row with these entries stands when it is due then:
// names separated by spaces, those of rows that wait with rank and since, as in
// "waiting:a/2/1795541400000000".
func queuesOf(entries []store.Entry, due int64) string {
	var names []string
	for i := range entries {
		if e := &entries[i]; e.State == store.Waiting {
			names = append(names, fmt.Sprintf("%s%s/%d/%d", waitingFor, e.Provider, e.Rank, micros(e.Since)))
		}
	}
	if len(names) > 0 || due != never {
		return strings.Join(names, " ")
	}
	for i := range entries {
		names = append(names, entries[i].Provider)
	}
	return parkedWith + strings.Join(names, ",")
}

// stateAt returns the state of a row that is not leased, and its wake_at.
func stateAt(due int64) (state int, wake int64) {
	switch due {
	case atOnce, moved:
		return ready, 0
	case never:
		return parked, never
	}
	return asleep, due
}

// dueOf returns due_at for a time at which nothing is due if it is zero.
func dueOf(t time.Time) int64 {
	if t.IsZero() {
		return never
	}
	return min(max(t.UnixMicro(), 1), never-1)
}

// join puts an attacker into queues.
func (t *tx) join(uuid, queues string, seen int64) error {
	for place := range strings.FieldsSeq(queues) {
		queue, at, _ := strings.Cut(place, "/")
		rank, since, _ := strings.Cut(at, "/")
		err := t.exec("put an attacker into a queue",
			"INSERT INTO enrich_queue (attacker_uuid, queue, ranked, last_seen, since) VALUES (?, ?, ?, ?, ?)",
			uuid, queue, number(rank), seen, number(since))
		if err != nil {
			return err
		}
	}
	return nil
}

// number returns the value of a number that queuesOf wrote, 0 if it wrote none.
func number(text string) int64 {
	n, _ := strconv.ParseInt(text, 10, 64)
	return n
}

// leave takes an attacker out of all queues.
func (t *tx) leave(uuid string) error {
	return t.exec("take an attacker out of its queues", "DELETE FROM enrich_queue WHERE attacker_uuid = ?", uuid)
}

// enter ends a row's lease, if it has one, makes it due at the given time, or
// ahead of it, and puts it into the queues it then stands in. A new fence makes
// the old one useless.
func (t *tx) enter(r *row, due, ahead, fence int64) error {
	state, wake := stateAt(due)
	queues := r.queues
	if state != parked && strings.HasPrefix(queues, parkedWith) {
		queues = ""
	}
	err := t.exec("schedule an attacker", `UPDATE enrich_ledger
		SET state = ?, wake_at = ?, due_at = ?, ahead_at = ?, fence = ?, owner = '', queues = ? WHERE attacker_uuid = ?`,
		state, wake, max(due, atOnce), ahead, fence, queues, r.uuid)
	if err != nil {
		return err
	}
	if r.state != leased && r.queues != "" {
		if err := t.leave(r.uuid); err != nil {
			return err
		}
	}
	r.state, r.due, r.ahead, r.fence, r.queues = state, max(due, atOnce), ahead, fence, queues
	return t.join(r.uuid, queues, r.seen)
}

// purge removes what our own tables and attacker_intel hold about attackers
// that are gone. Their events stay in the outbox.
func (t *tx) purge(uuids []string) error {
	for chunk := range slices.Chunk(uuids, maxParams) {
		for _, table := range []string{"enrich_queue", "enrich_raw", "enrich_address", "enrich_ledger", "attacker_intel"} {
			err := t.exec("remove a gone attacker from "+table,
				"DELETE FROM "+table+" WHERE attacker_uuid IN "+params(len(chunk)), anys(chunk)...)
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// verdictText returns what the column aggregate_verdict holds.
func verdictText(d *aggregate.Decision) any {
	if d.Verdict == provider.None {
		return nil
	}
	return d.Verdict.String()
}
