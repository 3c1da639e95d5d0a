package httpapi

import (
	"context"
	"encoding/json"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/decnet/enrich/bus"
	"github.com/decnet/enrich/intel"
	"github.com/decnet/enrich/internal/backoff"
	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/store"
)

const (
	// ringSize is the number of events that a client can resume from.
	ringSize = 10_000
	// gather is how long events are gathered before they are sent together, if others
	// were sent shortly before. It bounds the number of writes.
	gather = 100 * time.Millisecond
	// maxBatch is the greatest number of events in one write.
	maxBatch = 256
)

// Change is an event of a [Feed]: a finding about an attacker was stored.
type Change struct {
	// EventID is the ID of the event on the bus, see [store.EventID].
	EventID      string           `json:"event_id"`
	AttackerUUID uuid.UUID        `json:"attacker_uuid"`
	AttackerIP   string           `json:"attacker_ip"`
	Verdict      provider.Verdict `json:"aggregate_verdict"`
	// Changed says that the verdict is another than before.
	Changed bool `json:"changed"`
	// Answered are the providers whose findings were stored, Pending those that are
	// still to answer.
	Answered []string `json:"answered"`
	Pending  []string `json:"pending"`
	Revision uint64   `json:"revision"`
	// At is when the finding was stored, in UTC.
	At time.Time `json:"at"`
}

// Feed sends changes to any number of clients as they come, and keeps the last
// 10,000 for clients that resume. Make one with [NewFeed], tell it what is stored
// with [Feed.Saved] or [Feed.Follow], and give it to [Options].Feed. Its methods are
// safe for concurrent use.
type Feed struct {
	closed chan struct{}
	once   sync.Once

	mu     sync.Mutex
	epoch  string            // stands for the place before the first event
	frames []frame           // a ring: event n is at n % ringSize
	next   uint64            // number of the next event; the first has 1
	oldest uint64            // number of the oldest event that is kept, or next
	ids    map[string]uint64 // numbers by event ID
	gaps   uint64            // how often events were missed
	wake   chan struct{}     // closed when there is something to send
	sent   time.Time         // when wake was last closed
	timer  bool              // wake will be closed
	batch  batch             // what most streams send next; later events are not sent yet
}

// batch is what came between two wakes, as it is sent. Streams that wait for the same
// event share it, so that each makes one write, and no copy.
type batch struct {
	first, next uint64 // the events from first on, before next
	text        []byte // never modified
}

// frame is an event as it is sent.
type frame struct {
	change Change
	text   []byte
}

// NewFeed returns a feed without events.
func NewFeed() *Feed {
	f := &Feed{closed: make(chan struct{}), wake: make(chan struct{}), next: 1}
	f.clear()
	return f
}

// clear forgets all events. The caller has mu, or the only reference.
func (f *Feed) clear() {
	f.epoch = "start-" + uuid.NewString()
	f.ids = map[string]uint64{f.epoch: f.next - 1}
	f.frames, f.oldest = nil, f.next
}

// Close ends all streams. Later streams end at once. Call it before the server is
// shut down, for example with RegisterOnShutdown.
func (f *Feed) Close() { f.once.Do(func() { close(f.closed) }) }

// Saved is an [intel.Hooks].Saved that adds what a worker stores. Updates without a
// new finding are skipped.
func (f *Feed) Saved(info intel.SavedInfo) {
	if len(info.Answered) == 0 {
		return
	}
	r := &info.Record
	f.add(Change{
		EventID: store.EventID(r.ID, r.Revision, r.CachedAt), AttackerUUID: r.ID, AttackerIP: r.IP, Verdict: r.Decision.Verdict,
		Changed: info.Changed, Answered: info.Answered, Pending: info.Pending, Revision: r.Revision, At: r.CachedAt.UTC(),
	})
}

// Follow adds the changes that other workers announce on a bus, until ctx is done.
// An event that the feed already has is skipped. A lost subscription is made again;
// clients then have to reload, as events may have been missed.
func (f *Feed) Follow(ctx context.Context, b bus.Bus, log *slog.Logger) {
	for attempt := 0; ctx.Err() == nil; {
		sub, err := b.Subscribe(ctx, intel.TopicEnriched)
		if err == nil {
			if attempt > 0 {
				f.missed()
			}
			attempt = 0
			err = f.follow(ctx, sub)
		}
		if ctx.Err() != nil {
			return
		}
		attempt++
		log.Debug("live events of other workers are interrupted", "error", err)
		select {
		case <-ctx.Done():
		case <-time.After(backoff.Delay(500*time.Millisecond, 30*time.Second, attempt)):
		}
	}
}

// follow adds the events of one subscription, until that ends.
func (f *Feed) follow(ctx context.Context, sub bus.Subscription) error {
	defer sub.Close() // which ends it
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case ev, ok := <-sub.Events():
			if !ok {
				return sub.Err()
			}
			e, err := intel.ParseEnriched(ev.Payload)
			if err != nil {
				continue // not ours
			}
			id := e.EventID
			if id == "" {
				id = ev.ID
			}
			f.add(Change{
				EventID: id, AttackerUUID: e.AttackerUUID, AttackerIP: e.AttackerIP, Verdict: e.Verdict,
				Changed: e.Changed, Answered: e.Answered, Pending: e.Pending, Revision: e.Revision, At: ev.Time.UTC(),
			})
		}
	}
}

// missed takes note that events may have been missed: all clients are told to
// reload.
func (f *Feed) missed() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.gaps++
	f.clear()
	f.notify()
}

// Recent returns the latest changes that match, at most n, latest first. A nil match
// matches all.
func (f *Feed) Recent(n int, match func(*Change) bool) []Change {
	f.mu.Lock()
	defer f.mu.Unlock()
	var recent []Change
	for at := f.next; at > f.oldest && len(recent) < n; at-- {
		if c := &f.frames[(at-1)%ringSize].change; match == nil || match(c) {
			recent = append(recent, *c)
		}
	}
	return recent
}

// add adds a change that the feed does not have yet.
func (f *Feed) add(c Change) {
	c.EventID = strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' { // it becomes a line of its own, and a header
			return -1
		}
		return r
	}, c.EventID)
	if c.Answered == nil {
		c.Answered = []string{}
	}
	if c.Pending == nil {
		c.Pending = []string{}
	}
	data, err := json.Marshal(c)
	if err != nil || c.EventID == "" { // a time beyond the year 9999
		return
	}
	text := slices.Concat([]byte("id: "+c.EventID+"\nevent: intel.enriched\ndata: "), data, []byte("\n\n"))

	f.mu.Lock()
	defer f.mu.Unlock()
	if _, known := f.ids[c.EventID]; known {
		return
	}
	if f.next-f.oldest == ringSize {
		delete(f.ids, f.frames[f.oldest%ringSize].change.EventID)
		f.oldest++
		delete(f.ids, f.epoch) // whoever is there has missed an event
	}
	if f.frames == nil {
		f.frames = make([]frame, ringSize)
	}
	f.frames[f.next%ringSize] = frame{c, text}
	f.ids[c.EventID] = f.next
	f.next++
	f.notify()
}

// notify wakes the streams now, or soon if they were woken just before. The caller
// has mu.
func (f *Feed) notify() {
	if f.timer {
		return
	}
	if wait := gather - time.Since(f.sent); wait > 0 {
		f.timer = true
		time.AfterFunc(wait, func() {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.timer = false
			f.send()
		})
		return
	}
	f.send()
}

// send wakes the streams. The caller has mu.
func (f *Feed) send() {
	f.sent = time.Now()
	f.batch = batch{first: max(f.batch.next, f.oldest), next: f.next}
	if f.batch.next-f.batch.first <= maxBatch {
		f.batch.text = f.append(nil, f.batch.first)
	}
	close(f.wake)
	f.wake = make(chan struct{})
}

// place is where a stream is.
type place struct {
	next uint64 // number of the next event to send
	gaps uint64 // Feed.gaps when that was so
}

// open returns where a stream begins that had the event with the given ID last. It
// reports false if events may be missing in between.
func (f *Feed) open(lastID string) (p place, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p = place{f.next, f.gaps}
	if lastID == "" {
		return p, true
	}
	n, ok := f.ids[lastID]
	if ok {
		p.next = n + 1
	}
	return p, ok
}

// read returns what comes at a place, which must not be modified, and the place after
// it. If nothing does, it returns a channel that is closed when something may.
func (f *Feed) read(p place) ([]byte, place, <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case p.gaps != f.gaps || p.next < f.oldest: // too slow, or something was missed
		return []byte(f.reset()), place{f.next, f.gaps}, f.wake
	case p.next == f.batch.first && len(f.batch.text) > 0:
		return f.batch.text, place{f.batch.next, f.gaps}, f.wake
	}
	b := f.append(nil, p.next)
	p.next += min(maxBatch, max(p.next, f.batch.next)-p.next)
	return b, p, f.wake
}

// append appends the events to be sent from one on, at most maxBatch. The caller has mu.
func (f *Feed) append(b []byte, from uint64) []byte {
	for n := from; n < min(from+maxBatch, f.batch.next); n++ {
		b = append(b, f.frames[n%ringSize].text...)
	}
	return b
}

// reset returns the event that tells a client to reload. Its ID is the one to resume
// from. The caller has mu.
func (f *Feed) reset() string {
	id := f.epoch
	if f.next > f.oldest {
		id = f.frames[(f.next-1)%ringSize].change.EventID
	}
	return "id: " + id + "\nevent: reset\ndata: {\"reason\":\"events may have been missed\"}\n\n"
}
