package storetest_test

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"github.com/google/uuid"

	"github.com/decnet/enrich/aggregate"
	"github.com/decnet/enrich/store"
)

// callBugs concern calls as such.
var callBugs = bugs{
	"NoAliasing": {
		"attackers kept": func(b *broken) {
			var kept [][]store.Attacker
			b.observe = func(attackers []store.Attacker) error {
				kept = append(kept, attackers)
				return b.Store.Observe(background, attackers...)
			}
			b.read = func(r *store.Record) { r.IP = kept[0][0].IP }
		},
		"update kept": func(b *broken) {
			var kept []store.Entry
			b.save = func(ups []store.Update) error {
				kept = ups[0].Entries
				return b.Store.Save(background, ups...)
			}
			b.read = func(r *store.Record) {
				if r.Revision > 0 {
					r.Entries = kept
				}
			}
		},
		"reasons kept": func(b *broken) {
			var kept []aggregate.Reason
			b.save = func(ups []store.Update) error {
				kept = ups[0].Decision.Reasons
				return b.Store.Save(background, ups...)
			}
			b.read = func(r *store.Record) { r.Decision.Reasons = kept }
		},
		"record shared": func(b *broken) {
			var kept *store.Record
			b.read = func(r *store.Record) {
				if r.Revision > 0 && kept == nil {
					kept = r
				}
				if kept != nil {
					*r = *kept
				}
			}
		},
		"claimed record shared": func(b *broken) {
			var kept []store.Entry
			b.claimed = func(_ store.ClaimRequest, c *store.Claimed) { kept = c.Records[0].Entries }
			b.read = func(r *store.Record) {
				if len(kept) > 0 {
					r.Entries = kept
				}
			}
		},
		"listed record shared": func(b *broken) {
			var kept []store.Entry
			b.list = func(req store.ListRequest) (store.Page, error) {
				page, err := b.Store.List(background, req)
				kept = page.Records[0].Entries
				return page, err
			}
			b.read = func(r *store.Record) {
				if kept != nil {
					r.Entries = kept
				}
			}
		},
	},
	"NothingToDo": {
		"Save": func(b *broken) {
			b.save = func(ups []store.Update) error {
				if len(ups) == 0 {
					return errors.New("syntax error near )")
				}
				return nil
			}
		},
		"Release": func(b *broken) {
			b.release = func(time.Time, []store.Lease) error { return errors.New("syntax error near )") }
		},
		"Forget": func(b *broken) { b.forget = func([]uuid.UUID) error { return errors.New("syntax error near )") } },
		"Forget of all": func(b *broken) {
			b.forget = func(ids []uuid.UUID) error {
				page, err := b.Store.List(background, store.ListRequest{Limit: 9})
				for _, rec := range page.Records {
					ids = append(ids, rec.ID)
				}
				return errors.Join(err, b.Store.Forget(background, ids...))
			}
		},
		"Answers": func(b *broken) {
			b.answers = func(time.Time, []netip.Addr) ([]store.Answer, error) {
				return nil, errors.New("syntax error near )")
			}
		},
		"Published": func(b *broken) {
			b.published = func(ids []string) error {
				if len(ids) == 0 {
					return errors.New("syntax error near )")
				}
				return nil
			}
		},
		"Published of an unknown event": func(b *broken) {
			b.published = func(ids []string) error {
				if len(ids) > 0 {
					return store.ErrNotFound
				}
				return nil
			}
		},
	},
	"CancelledContext": func() map[string]func(b *broken) {
		each := make(map[string]func(b *broken))
		for _, call := range []string{
			"Claim", "Get", "Save", "Release", "Observe", "Forget", "ForgetUnseen", "Position", "ObserveAt", "Answers",
			"Unpublished", "Published", "Expire", "List", "Count", "Stats", "Prune",
		} {
			each[call] = func(b *broken) { b.patient[call] = true }
		}
		each["Save stores and then looks"] = func(b *broken) {
			b.patient["Save"] = true
			b.save = func(ups []store.Update) error {
				return errors.Join(b.Store.Save(background, ups...), context.Canceled)
			}
		}
		return each
	}(),
}
