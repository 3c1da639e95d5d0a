package storetest_test

import (
	"errors"

	"github.com/decnet/enrich/store"
)

// positionBugs are about positions.
var positionBugs = bugs{
	"Positions": {
		"forgotten": func(b *broken) {
			b.position = func(string) ([]byte, error) { return nil, nil }
		},
		"one for all": func(b *broken) {
			b.position = func(string) ([]byte, error) { return b.Store.Position(background, "a") }
			b.observeAt = func(_ string, doc []byte, attackers []store.Attacker) error {
				return b.Store.ObserveAt(background, "a", doc, attackers...)
			}
		},
		"without the attackers": func(b *broken) {
			b.observeAt = func(name string, doc []byte, _ []store.Attacker) error {
				return b.Store.ObserveAt(background, name, doc)
			}
		},
		"first one only": func(b *broken) {
			b.observeAt = func(name string, doc []byte, attackers []store.Attacker) error {
				return b.Store.ObserveAt(background, name, doc, attackers[:min(1, len(attackers))]...)
			}
		},
		"never removed": func(b *broken) {
			b.observeAt = func(name string, doc []byte, attackers []store.Attacker) error {
				if doc == nil {
					doc = []byte{}
				}
				return b.Store.ObserveAt(background, name, doc, attackers...)
			}
		},
		"cut": func(b *broken) {
			b.observeAt = func(name string, doc []byte, attackers []store.Attacker) error {
				if doc != nil {
					doc = doc[:min(len(doc), 4096)]
				}
				return b.Store.ObserveAt(background, name, doc, attackers...)
			}
		},
		"kept": func(b *broken) {
			docs := make(map[string][]byte)
			b.observeAt = func(name string, doc []byte, attackers []store.Attacker) error {
				err := b.Store.ObserveAt(background, name, doc, attackers...)
				docs[name] = doc
				return err
			}
			b.position = func(name string) ([]byte, error) { return docs[name], nil }
		},
		"not with a rejected attacker": func(b *broken) {
			b.observeAt = func(name string, doc []byte, attackers []store.Attacker) error {
				if err := b.Store.Observe(background, attackers...); err != nil {
					return err
				}
				return b.Store.ObserveAt(background, name, doc)
			}
		},
		"silent about a rejected attacker": func(b *broken) {
			b.observeAt = func(name string, doc []byte, attackers []store.Attacker) error {
				err := b.Store.ObserveAt(background, name, doc, attackers...)
				if _, ok := errors.AsType[*store.ObserveError](err); ok {
					return nil
				}
				return err
			}
		},
		"any name": func(b *broken) {
			b.observeAt = func(name string, doc []byte, attackers []store.Attacker) error {
				err := b.Store.ObserveAt(background, name, doc, attackers...)
				if errors.Is(err, store.ErrInvalid) {
					return nil
				}
				return err
			}
		},
	},
}
