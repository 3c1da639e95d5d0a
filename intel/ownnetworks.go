package intel

import (
	"context"
	"net/netip"
	"slices"
	"strings"

	"github.com/decnet/enrich/intel/internal/panics"
	"github.com/decnet/enrich/store"
)

// ownPosition is where a store.Positions keeps the networks of our own, one a line, by
// which a worker has decided: the next one may have others.
const ownPosition = "intel: own networks"

// ownNetworks returns the networks of our own as they are now.
func (w *Worker) ownNetworks() (own []netip.Prefix) {
	own = slices.Clone(w.config.Guard.Own)
	if w.config.Guard.OwnFunc != nil {
		_ = panics.Catch(func() error {
			own = append(own, w.config.Guard.OwnFunc()...)
			return nil
		})
	}
	return slices.DeleteFunc(own, func(p netip.Prefix) bool { return !p.IsValid() })
}

// storedOwn returns those that a worker has stored, in the end.
func (w *Worker) storedOwn(ctx context.Context) (own []netip.Prefix, err error) {
	positions, ok := store.As[store.Positions](w.config.Store)
	if !ok {
		return w.ownNetworks(), nil // as if there had been no others
	}
	doc, err := positions.Position(ctx, ownPosition)
	for line := range strings.FieldsSeq(string(doc)) {
		if p, err := netip.ParsePrefix(line); err == nil {
			own = append(own, p)
		}
	}
	return own, err
}

func (w *Worker) storeOwn(ctx context.Context, own []netip.Prefix) error {
	positions, ok := store.As[store.Positions](w.config.Store)
	if !ok {
		return nil
	}
	var doc []byte
	for _, p := range own {
		doc = append(append(doc, p.String()...), '\n')
	}
	return positions.ObserveAt(ctx, ownPosition, doc)
}
