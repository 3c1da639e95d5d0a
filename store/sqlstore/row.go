package sqlstore

import (
	"crypto/sha256"
	"database/sql"
	"encoding/base64"
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

// schedule is the part of a row of enrich_ledger that says who may claim it and
// when.
type schedule struct {
	uuid  string // as found in attackers
	id    uuid.UUID
	ip    string // as the ledger knows it
	seen  int64
	state int
	wake  int64
	due   int64
	ahead int64
	fence int64
	// queues are where it stands in enrich_queue, see queuesOf.
	queues string
}

const scheduleColumns = `attacker_uuid, ip, last_seen, state, wake_at, due_at, ahead_at, fence, queues`

func (r *schedule) dest() []any {
	return []any{&r.uuid, &r.ip, &r.seen, &r.state, &r.wake, &r.due, &r.ahead, &r.fence, &r.queues}
}

// row is a row of enrich_ledger with the row of attackers it is about.
type row struct {
	schedule
	owner    string
	addr     sql.NullString
	verdict  int
	revision int64
	cachedAt int64
	entries  string // the document
	decision string

	gone     bool // there is no such attacker any more
	attacker store.Attacker
	queried  []timestamp // when each of columnProviders answered, according to attacker_intel, see meet
	granted  []string

	decoded *ledger             // entries, see ledger
	decided *aggregate.Decision // decision, see mend
}

const rowColumns = scheduleColumns + `, owner, addr, verdict, revision, cached_at, ledger, decision`

// scan reads a row, whose last columns go to more.
func (r *row) scan(scan func(...any) error, more ...any) error {
	dest := append(r.dest(), &r.owner, &r.addr, &r.verdict, &r.revision, &r.cachedAt, &r.entries, &r.decision)
	err := scan(append(dest, more...)...)
	r.entries, r.decision = unpack(r.entries), unpack(r.decision)
	r.id, _ = parseUUID(r.uuid)
	return err
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

// mend makes a row usable whose ledger or decision cannot be decoded, and returns
// what is wrong with it. The ledger is then empty; of the decision the verdict is
// left.
func (r *row) mend() (damage error) {
	if _, damage = r.ledger(); damage != nil {
		r.entries = "[]"
	}
	d, err := decodeDecision(r.decision)
	if err != nil {
		damage = err
		d = aggregate.Decision{Verdict: provider.Verdict(max(r.verdict, 0))}
		r.decision, _ = encodeDecision(&d) // a verdict always encodes
	}
	r.decided = &d
	return damage
}

// anybodyWaits is a column that says whether anybody waits for a provider.
const anybodyWaits = ", EXISTS (SELECT 1 FROM enrich_queue WHERE queue >= 'waiting:' AND queue < 'waiting;')"

// load returns the rows of the given attackers, spelled as in the ledger, and
// reads the clock and t.waits with them. The lock is one of the dialect's, or empty; rows are
// locked in order of UUID.
func (t *tx) load(purpose string, uuids []string, lock string) ([]*row, error) {
	rows := make([]*row, 0, len(uuids))
	for chunk := range slices.Chunk(uuids, maxParams) {
		among, args := t.among(chunk)
		clock, dest := t.clocked()
		err := t.query(purpose, "SELECT "+rowColumns+anybodyWaits+clock+" FROM enrich_ledger WHERE attacker_uuid "+among+ordered(lock), args,
			func(scan func(...any) error) error {
				r := new(row)
				rows = append(rows, r)
				return r.scan(scan, append([]any{&t.waits}, dest...)...)
			})
		if err != nil {
			return nil, err
		}
	}
	return rows, t.meet(rows)
}

// ordered makes the rows of a query be locked in order of UUID: transactions
// that wait for each other's rows do so in the same order.
func ordered(lock string) string {
	if lock == "" {
		return ""
	}
	return " ORDER BY attacker_uuid" + lock
}

// meet reads the attackers that rows are about and, if t.foreign is set, when the
// providers answered according to attacker_intel.
func (t *tx) meet(rows []*row) error {
	columns, from := "a.uuid, a.ip, "+t.s.d.moment("a.first_seen")+", "+t.s.d.moment("a.last_seen"), " FROM attackers a"
	if t.foreign {
		columns += ", i.attacker_uuid, " + t.s.d.timeColumns()
		from += " LEFT JOIN attacker_intel i ON i.attacker_uuid = a.uuid"
	}
	byUUID := make(map[string]*row, len(rows))
	uuids := make([]string, len(rows))
	for i, r := range rows {
		byUUID[r.uuid], uuids[i], r.gone = r, r.uuid, true
	}
	slices.Sort(uuids)
	return t.queryAmong("read attackers", "SELECT "+columns+from+" WHERE a.uuid", uuids, "", func(scan func(...any) error) error {
		var (
			uuid        string
			ip, intel   sql.NullString
			first, last timestamp
			queried     []timestamp
		)
		dest := []any{&uuid, &ip, &first, &last}
		if t.foreign {
			queried = make([]timestamp, len(columnProviders))
			dest = append(dest, &intel)
			for i := range queried {
				dest = append(dest, &queried[i])
			}
		}
		err := scan(dest...)
		if r := byUUID[uuid]; r != nil {
			r.gone = false
			r.attacker = store.Attacker{ID: r.id, IP: ip.String, FirstSeen: first.Time, LastSeen: last.Time}
			if intel.String == uuid { // to MySQL, upper and lower case may be the same
				r.queried = queried
			}
		}
		return err
	})
}

// loadByID is load for UUIDs in either spelling. Where there are rows for both,
// which is not supposed to happen, it takes one whose attacker is there, and
// rather the one with dashes.
func (t *tx) loadByID(purpose string, ids []uuid.UUID, lock string) (map[uuid.UUID]*row, error) {
	byID := make(map[uuid.UUID]*row, len(ids))
	find := func(uuids []string) error {
		rows, err := t.load(purpose, uuids, lock)
		for _, r := range rows {
			if other := byID[r.id]; other == nil || other.gone && !r.gone {
				byID[r.id] = r
			}
		}
		return err
	}
	texts := make([]string, len(ids))
	for i, id := range ids {
		texts[i], _ = forms(id)
	}
	if err := find(texts); err != nil {
		return nil, err
	}
	texts = texts[:0]
	for _, id := range ids {
		if r := byID[id]; r == nil || r.gone {
			_, plain := forms(id)
			texts = append(texts, plain)
		}
	}
	return byID, find(texts)
}

// record returns the record, without Raw, and the names of the providers whose
// findings have one.
func (r *row) record() (rec store.Record, raws []string, err error) {
	l, err := r.ledger()
	if err != nil {
		return rec, nil, err
	}
	if r.decided != nil {
		rec.Decision = *r.decided
	} else if rec.Decision, err = decodeDecision(r.decision); err != nil {
		return rec, nil, fmt.Errorf("sqlstore: attacker %s: %w", r.id, err)
	}
	rec.Attacker = r.attacker
	rec.Entries = l.entries
	rec.Revision = uint64(r.revision)
	rec.CachedAt = fromMicros(r.cachedAt)
	return rec, l.raws, nil
}

// queue names: those of rows that wait for a provider's quota, and those of
// parked rows by the providers their records have an entry of.
const (
	waitingFor = "waiting:"
	parkedWith = "parked:"
)

// queuesOf returns where a row with these entries stands when it is due then:
// names separated by spaces, those of rows that wait with rank and since, as in
// "waiting:a/2/1795541400000000".
func queuesOf(entries []store.Entry, due int64) string {
	var b []byte
	for i := range entries {
		if e := &entries[i]; e.State == store.Waiting {
			if b != nil {
				b = append(b, ' ')
			}
			b = append(append(append(b, waitingFor...), e.Provider...), '/')
			b = append(strconv.AppendInt(b, int64(e.Rank), 10), '/')
			b = strconv.AppendInt(b, micros(e.Since), 10)
		}
	}
	if b != nil || due != never {
		return string(b)
	}
	names := make([]string, len(entries))
	for i := range entries {
		names[i] = entries[i].Provider
	}
	return parkedQueue(names)
}

// maxQueue is the greatest length of the name of a queue: that of the column is
// 1024.
const maxQueue = 900

// parkedQueue returns the queue of rows that have an entry of each of the named
// providers. Names that are too long together are replaced by their short forms
// behind the mark of short names; rows with still more providers are in one queue
// that no new provider takes them out of.
func parkedQueue(names []string) string {
	queue := parkedWith + strings.Join(names, ",")
	if len(queue) <= maxQueue {
		return queue
	}
	var b strings.Builder
	b.WriteString(parkedWith + shortNames)
	for _, name := range names {
		b.WriteString(shortName(name))
	}
	if b.Len() > maxQueue {
		return parkedWith + anyNames
	}
	return b.String()
}

// What stands in place of names in the name of a queue. Neither begins the name of
// a provider.
const (
	shortNames = "#" // short names follow
	anyNames   = "*"
)

// shortName returns four characters that stand for the name of a provider.
func shortName(name string) string {
	sum := sha256.Sum256([]byte(name))
	return base64.RawURLEncoding.EncodeToString(sum[:3])
}

// place is one of the queues a row stands in.
type place struct {
	queue       string
	rank, since int64
}

// places takes apart what queuesOf returned. Numbers that are not there are
// zero.
func (r *schedule) places() []place {
	var all []place
	for text := range strings.FieldsSeq(r.queues) {
		if strings.HasPrefix(text, parkedWith) {
			all = append(all, place{queue: text})
			continue
		}
		p := place{}
		var numbers string
		p.queue, numbers, _ = strings.Cut(text, "/")
		rank, since, _ := strings.Cut(numbers, "/")
		p.rank, _ = strconv.ParseInt(rank, 10, 64)
		p.since, _ = strconv.ParseInt(since, 10, 64)
		all = append(all, p)
	}
	return all
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
	return min(max(micros(t), 1), never-1)
}

// free ends a row's lease, if it has one, and makes it due at the given time.
func (r *schedule) free(due int64) {
	r.state, r.wake = stateAt(due)
	r.due = max(due, atOnce)
	if r.state != parked && strings.HasPrefix(r.queues, parkedWith) {
		r.queues = ""
	}
}

// change is a schedule that replaces what it was.
type change struct {
	was, is *schedule
}

// differs returns the columns that change, and their values. A column that is set
// to what it was would have its indexes written again.
func (c *change) differs() (columns []string, values []any) {
	was, is := c.was, c.is
	put := func(column string, changed bool, value any) {
		if changed {
			columns, values = append(columns, column), append(values, value)
		}
	}
	put("ip", is.ip != was.ip, is.ip)
	put("last_seen", is.seen != was.seen, is.seen)
	put("state", is.state != was.state, is.state)
	put("owner", was.state == leased && is.state != leased, "")
	put("wake_at", is.wake != was.wake, is.wake)
	put("due_at", is.due != was.due, is.due)
	put("ahead_at", is.ahead != was.ahead, is.ahead)
	put("fence", is.fence != was.fence, is.fence)
	put("queues", is.queues != was.queues, is.queues)
	return columns, values
}

// reschedule stores schedules whose rows are locked.
func (t *tx) reschedule(all []change) error {
	var (
		u     = updates{purpose: "schedule attackers", table: "enrich_ledger", key: "attacker_uuid"}
		leave []string
		join  []*schedule
	)
	for i := range all {
		c := &all[i]
		columns, values := c.differs()
		u.add(c.is.uuid, columns, values)
		if c.was.state != leased && c.was.queues != "" {
			leave = append(leave, c.was.uuid)
		}
		if c.is.state != leased {
			join = append(join, c.is)
		}
	}
	if err := t.update(&u); err != nil {
		return err
	}
	if err := t.leave(leave...); err != nil {
		return err
	}
	return t.join(join...)
}

// join puts attackers into the queues where they stand.
func (t *tx) join(all ...*schedule) error {
	var rows [][]any
	for _, r := range all {
		for _, p := range r.places() {
			rows = append(rows, []any{r.uuid, p.queue, r.seen, p.rank, p.since})
		}
	}
	return t.insert("put attackers into a queue", "INSERT INTO enrich_queue (attacker_uuid, queue, last_seen, ranked, since)",
		params(5), "", rows)
}

// leave takes attackers out of all queues.
func (t *tx) leave(uuids ...string) error {
	return t.delete("take attackers out of their queues", "enrich_queue", "attacker_uuid", uuids)
}

// delete removes the rows of a table whose column has one of the values.
func (t *tx) delete(purpose, table, column string, values []string) error {
	for chunk := range slices.Chunk(values, maxParams) {
		among, args := t.among(chunk)
		if err := t.exec(purpose, "DELETE FROM "+table+" WHERE "+column+" "+among, args...); err != nil {
			return err
		}
	}
	return nil
}

// purge removes what our own tables hold about attackers that are gone. Their
// events stay in the outbox, and rows of attacker_intel are not ours to remove.
func (t *tx) purge(uuids []string) error {
	for _, table := range []string{"enrich_queue", "enrich_raw", "enrich_address", "enrich_ledger"} {
		if err := t.delete("remove gone attackers from "+table, table, "attacker_uuid", uuids); err != nil {
			return err
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
