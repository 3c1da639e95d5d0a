package intel

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/decnet/enrich/intel/internal/panics"
	"github.com/decnet/enrich/internal/backoff"
	"github.com/decnet/enrich/store"
)

const (
	// listTick is how often watched files are looked at.
	listTick = time.Second
	// relistBatch attackers are decided again at once, and relistPause after each
	// batch keeps that below 500 a second.
	relistBatch = 125
	relistPause = 260 * time.Millisecond
	// relistRetries is how often an attacker is tried that another worker has.
	relistRetries = 20
)

// followed is what was seen of what decides on attackers by their address.
type followed struct {
	lists map[*source]uint64 // versions
	own   []netip.Prefix     // networks of our own, and at first those of the workers before
	begun bool               // own was read from the store
}

// followLists decides again on attackers whose address is in what has changed in a
// list, after each signal, or in a network that is no longer one of our own, until
// ctx is done.
func (w *Worker) followLists(ctx context.Context, changed signal) {
	finder, ok := store.As[store.ByAddress](w.config.Store)
	if !ok && (w.config.Guard.OwnFunc != nil || slices.ContainsFunc(w.sources, func(s *source) bool { return s.Local() && s.Listing() })) {
		w.log.Warn("changes in lists, and in own networks, reach attackers only as they become due: the store cannot find attackers by address")
	}
	if !ok {
		return
	}
	seen := new(followed)
	for failures := 1; ; failures++ {
		if w.followOnce(ctx, finder, seen) {
			failures = 0
		}
		if !w.awaitChange(ctx, changed, seen, failures) {
			return
		}
	}
}

// awaitChange returns when there is something to deal with, or to try again after a
// number of failures, and reports false if ctx is done.
func (w *Worker) awaitChange(ctx context.Context, changed signal, seen *followed, failures int) bool {
	for {
		var again <-chan time.Time
		switch {
		case failures > 0:
			again = time.After(backoff.Delay(storeRetryMin, storeRetryMax, failures))
		case w.config.Guard.OwnFunc != nil:
			again = time.After(listTick)
		}
		select {
		case <-ctx.Done():
			return false
		case <-changed:
			return true
		case <-again:
			if failures > 0 || !slices.Equal(w.ownNetworks(), seen.own) {
				return true
			}
		}
	}
}

// follow deals once with what has changed in lists and own networks, as far as the
// store can find attackers by address.
func (w *Worker) follow(ctx context.Context) {
	if finder, ok := store.As[store.ByAddress](w.config.Store); ok {
		w.followOnce(ctx, finder, new(followed))
	}
}

// followOnce deals with what has changed since it was seen. It reports whether it
// has.
func (w *Worker) followOnce(ctx context.Context, finder store.ByAddress, seen *followed) bool {
	err := w.catchUp(ctx, finder, seen)
	if err != nil && ctx.Err() == nil {
		w.log.Error("cannot decide again on attackers that a change in a list or in own networks affects; trying again", "error", err)
	}
	return err == nil
}

// catchUp is followOnce with the error.
func (w *Worker) catchUp(ctx context.Context, finder store.ByAddress, seen *followed) error {
	own := w.ownNetworks()
	var record ownRecord // by which attackers may have been decided
	if !seen.begun || !slices.Equal(own, seen.own) {
		before, err := w.storedOwn(ctx)
		if err != nil {
			return err
		}
		record = before.with(own) // in case the rest is not reached
		if err := w.storeOwn(ctx, before, record); err != nil {
			return err
		}
		if !seen.begun {
			seen.lists, seen.own, seen.begun = make(map[*source]uint64), slices.Collect(maps.Keys(before)), true
		}
	}
	for _, p := range own { // they are no change, and one if they are replaced before all is done
		if !slices.Contains(seen.own, p) {
			seen.own = append(seen.own, p)
		}
	}
	networks := slices.DeleteFunc(slices.Clone(seen.own), func(p netip.Prefix) bool { return slices.Contains(own, p) })
	versions := make(map[*source]uint64)
	for _, s := range w.sources {
		if !s.Local() || !s.Listing() {
			continue
		}
		changed, version := s.Changed(seen.lists[s])
		if version != seen.lists[s] || len(changed) > 0 {
			networks = append(networks, changed...)
			versions[s] = version
		}
	}
	if len(networks) > 0 {
		if err := w.relist(ctx, finder, networks); err != nil {
			return err
		}
	}
	for s, version := range versions {
		seen.lists[s] = version
		s.Settled(version)
	}
	if record != nil {
		if err := w.storeOwn(ctx, record, record.only(own, time.Now())); err != nil {
			return err
		}
		seen.own = own
	}
	return nil
}

// relist decides again on the attackers in networks, the most recently seen first.
func (w *Worker) relist(ctx context.Context, finder store.ByAddress, networks []netip.Prefix) error {
	ids, err := finder.ByAddress(ctx, networks)
	if err != nil {
		return err
	}
	w.relisting.Store(int64(len(ids)))
	defer w.relisting.Store(0)
	decided := 0
	for attempt := 0; len(ids) > 0 && attempt < relistRetries; attempt++ {
		var busy []uuid.UUID
		for batch := range slices.Chunk(ids, relistBatch) {
			n, later, err := w.relistBatch(ctx, batch)
			if err != nil {
				return err
			}
			decided += n
			busy = append(busy, later...)
			w.relisting.Add(int64(len(later) - len(batch)))
			if !pause(ctx, relistPause) {
				return ctx.Err()
			}
		}
		ids = busy
		if len(ids) > 0 && !pause(ctx, listTick) {
			return ctx.Err()
		}
	}
	if decided > 0 {
		w.log.Info("decided again on attackers that a change in a list or in own networks affects", "attackers", decided)
	}
	return nil
}

// relistBatch decides again on some attackers. It returns how many changed, and
// those that another worker has.
func (w *Worker) relistBatch(ctx context.Context, ids []uuid.UUID) (changed int, busy []uuid.UUID, err error) {
	var affected []uuid.UUID
	for _, id := range ids {
		r, err := w.config.Store.Get(ctx, id)
		switch {
		case errors.Is(err, store.ErrNotFound):
			continue
		case err != nil:
			return 0, nil, err
		}
		if p := newPass(w, r); w.relistPass(ctx, p) {
			affected = append(affected, id)
		}
	}
	if len(affected) == 0 {
		return 0, nil, nil
	}
	c, err := w.config.Store.Claim(ctx, store.ClaimRequest{
		Now: time.Now(), Owner: w.config.Owner, Lease: w.config.Lease, Limit: len(affected), Providers: w.remote, Only: affected,
	})
	if err != nil {
		return 0, nil, err
	}
	for _, id := range affected {
		if !slices.ContainsFunc(c.Records, func(r store.Record) bool { return r.ID == id }) {
			busy = append(busy, id)
		}
	}
	jobs := make([]*job, 0, len(c.Records))
	updates := make([]store.Update, 0, len(c.Records))
	for _, r := range c.Records {
		p := newPass(w, r)
		err := panics.Catch(func() error {
			w.relistPass(ctx, p)
			j := p.update(false)
			j.kind = save
			jobs, updates = append(jobs, j), append(updates, j.update)
			return nil
		})
		if err != nil {
			w.log.Error("panic while deciding on an attacker", "attacker", r.ID, "error", err)
			w.release(context.WithoutCancel(ctx), time.Now().UTC(), p.lease())
		}
	}
	failed, err := saveAll(context.WithoutCancel(ctx), w.config.Store, updates)
	if err != nil {
		return 0, nil, err
	}
	for _, j := range jobs {
		switch err := failed[j.update.ID]; {
		case errors.Is(err, store.ErrConflict):
			busy = append(busy, j.update.ID)
			continue
		case err != nil:
			w.log.Error("cannot save a new decision", "attacker", j.update.ID, "error", err)
			continue
		}
		changed++
		w.stored(j)
		if j.update.Event != nil {
			w.events.Publish(context.WithoutCancel(ctx), j.update.Event, j.after)
		}
		if !j.update.Due.IsZero() && !j.update.Due.After(time.Now()) {
			w.wake.send()
		}
	}
	return changed, busy, nil
}

// relistPass asks the local sources again about an attacker, and no other. It
// reports whether anything is to be saved.
func (w *Worker) relistPass(ctx context.Context, p *pass) bool {
	if !p.ledger.addr.IsValid() {
		return false
	}
	p.askLocal(ctx)
	rank := p.exempt()
	for _, s := range w.sources {
		if s.Local() || !s.Applies(p.ledger.addr) {
			continue
		}
		e := p.ledger.record.Entry(s.Name())
		switch {
		case e == nil: // it is due, and its pass will find out
		case w.profiles[s.Name()].Rank < rank:
			p.ledger.spare(s, p.started)
		case e.State == store.NotApplicable && e.Error != rejected: // it was exempt, or in a network of our own
			p.ledger.putOff(s.Name(), p.started)
		}
	}
	return p.ledger.moved || len(p.ledger.changed) > 0
}
