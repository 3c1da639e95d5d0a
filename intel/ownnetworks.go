package intel

import (
	"bytes"
	"context"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/decnet/enrich/intel/internal/panics"
	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/store"
)

// ownPosition is where a store.Positions keeps the networks of our own by which workers
// have decided, one a line: the next worker may have others.
const ownPosition = "intel: own networks"

// ownKept is how long a network is kept that is no longer one of our own: other workers
// that share the store may go on deciding by it until they are restarted.
const ownKept = 30 * 24 * time.Hour

// ownRecord are the networks by which workers have decided, and since when each is no
// longer one of our own; the zero time if it still is.
type ownRecord map[netip.Prefix]time.Time

// ownNetworks returns the networks of our own as they are now.
func (w *Worker) ownNetworks() (own []netip.Prefix) {
	add := func(networks []netip.Prefix) {
		for _, p := range networks {
			if p = provider.CanonicalPrefix(p); p.IsValid() {
				own = append(own, p)
			}
		}
	}
	add(w.config.Guard.Own)
	if w.config.Guard.OwnFunc != nil {
		_ = panics.Catch(func() error {
			add(w.config.Guard.OwnFunc())
			return nil
		})
	}
	return own
}

// storedOwn returns the record of the workers before, also of those that have crashed.
func (w *Worker) storedOwn(ctx context.Context) (ownRecord, error) {
	record := make(ownRecord)
	positions, ok := store.As[store.Positions](w.config.Store)
	if !ok {
		return record, nil // as if there had been no others
	}
	doc, err := positions.Position(ctx, ownPosition)
	for line := range strings.Lines(string(doc)) {
		network, since, _ := strings.Cut(strings.TrimSpace(line), " ")
		p, err := netip.ParsePrefix(network)
		if err != nil {
			continue
		}
		record[p] = time.Time{}
		if seconds, err := strconv.ParseInt(since, 10, 64); err == nil {
			record[p] = time.Unix(seconds, 0)
		}
	}
	return record, err
}

// storeOwn replaces the record, if it was another.
func (w *Worker) storeOwn(ctx context.Context, was, is ownRecord) error {
	positions, ok := store.As[store.Positions](w.config.Store)
	if doc := is.doc(); ok && !bytes.Equal(doc, was.doc()) {
		return positions.ObserveAt(ctx, ownPosition, doc)
	}
	return nil
}

// with returns the record with our own networks added.
func (r ownRecord) with(own []netip.Prefix) ownRecord {
	is := make(ownRecord)
	maps.Copy(is, r)
	for _, p := range own {
		is[p] = time.Time{}
	}
	return is
}

// only returns the record of these networks, and of the others as no longer our own.
func (r ownRecord) only(own []netip.Prefix, now time.Time) ownRecord {
	is := make(ownRecord)
	for p, since := range r {
		if since.IsZero() {
			since = now
		}
		if now.Sub(since) < ownKept {
			is[p] = since
		}
	}
	return is.with(own)
}

// doc returns the record as it is stored.
func (r ownRecord) doc() (doc []byte) {
	lines := make([]string, 0, len(r))
	for p, since := range r {
		line := p.String()
		if !since.IsZero() {
			line += " " + strconv.FormatInt(since.Unix(), 10)
		}
		lines = append(lines, line+"\n")
	}
	slices.Sort(lines)
	for _, line := range lines {
		doc = append(doc, line...)
	}
	return doc
}
