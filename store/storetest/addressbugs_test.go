package storetest_test

import (
	"errors"
	"net/netip"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/decnet/enrich/bus"
	"github.com/decnet/enrich/store"
)

// otherText reports whether the update's address is not literally the
// attacker's.
func (b *broken) otherText(u store.Update) bool {
	rec, err := b.Store.Get(background, u.ID)
	return err == nil && rec.IP != u.IP
}

// dropping returns a bug that lets drop handle updates for another address.
func dropping(drop func(b *broken, u store.Update)) func(b *broken) {
	return func(b *broken) {
		b.save = func(ups []store.Update) error {
			var good []store.Update
			for _, u := range ups {
				if b.otherText(u) {
					drop(b, u)
				} else {
					good = append(good, u)
				}
			}
			return b.Store.Save(background, good...)
		}
	}
}

// everyEvent keeps the events of all updates.
func everyEvent(b *broken) {
	var all []bus.Event
	b.save = func(ups []store.Update) error {
		for _, u := range ups {
			if u.Event != nil {
				all = append(all, *u.Event)
			}
		}
		return b.Store.Save(background, ups...)
	}
	b.unpublished = func(time.Duration, int) ([]bus.Event, error) { return all, nil }
}

// again makes attackers due whenever they are observed.
func again(b *broken) {
	b.observe = func(attackers []store.Attacker) error {
		for _, a := range attackers {
			real := a.IP
			if _, err := b.Store.Get(background, a.ID); err == nil {
				a.IP = "45.200.200.200"
				_ = b.Store.Observe(background, a)
			}
			a.IP = real
			if err := b.Store.Observe(background, a); err != nil {
				return err
			}
		}
		return nil
	}
}

// rejecting returns a bug that changes what Observe returns after it rejected
// attackers.
func rejecting(change func(e *store.ObserveError) error) func(b *broken) {
	return func(b *broken) {
		b.observe = func(attackers []store.Attacker) error {
			err := b.Store.Observe(background, attackers...)
			if e, ok := errors.AsType[*store.ObserveError](err); ok {
				return change(e)
			}
			return err
		}
	}
}

// showing returns a bug by which claims return another text of an address.
func showing(ip, text string) func(b *broken) {
	return func(b *broken) {
		b.claimed = func(_ store.ClaimRequest, c *store.Claimed) {
			for i := range c.Records {
				if c.Records[i].IP == ip {
					c.Records[i].IP = text
				}
			}
		}
	}
}

// observing returns a bug that changes what is observed.
func observing(change func(a *store.Attacker)) func(b *broken) {
	return func(b *broken) {
		b.observe = func(attackers []store.Attacker) error {
			changed := slices.Clone(attackers)
			for i := range changed {
				change(&changed[i])
			}
			return b.Store.Observe(background, changed...)
		}
	}
}

func forgetsNothing(b *broken) { b.forget = func([]uuid.UUID) error { return nil } }

var addressBugs = bugs{
	"AddressChanged": {
		"stored all the same": func(b *broken) {
			b.update = func(u *store.Update) {
				rec, _ := b.Store.Get(background, u.ID)
				u.IP = rec.IP
			}
		},
		"still leased": dropping(func(*broken, store.Update) {}),
		"lost leases are good": dropping(func(b *broken, u store.Update) {
			_ = b.Store.Release(background, time.Now(), store.Lease{ID: u.ID, Fence: b.fence(u.ID)})
		}),
		"due later": dropping(func(b *broken, u store.Update) {
			_ = b.Store.Release(background, time.Now(), store.Lease{ID: u.ID, Fence: u.Fence})
			c, _ := b.Store.Claim(background, store.ClaimRequest{
				Now: time.Now(), Owner: "bug", Lease: time.Minute, Limit: 1, Only: []uuid.UUID{u.ID},
			})
			_ = b.Store.Release(background, farAhead, store.Lease{ID: u.ID, Fence: c.Records[0].Fence})
		}),
		"announced": everyEvent,
		"refused": func(b *broken) {
			b.save = func(ups []store.Update) error {
				err := b.Store.Save(background, ups...)
				for _, u := range ups {
					if b.otherText(u) {
						err = alsoFailed(err, u.ID, store.ErrConflict)
					}
				}
				return err
			}
		},
	},
	"AddressRespelled": {
		"update dropped": dropping(func(*broken, store.Update) {}),
		"due again":      again,
	},
	"AddressShared": {
		"found by address": func(b *broken) {
			byIP := make(map[string]uuid.UUID)
			b.observe = func(attackers []store.Attacker) error {
				for _, a := range attackers {
					if _, ok := byIP[a.IP]; !ok {
						byIP[a.IP] = a.ID
					}
				}
				return b.Store.Observe(background, attackers...)
			}
			b.read = func(r *store.Record) {
				if first, err := b.Store.Get(background, byIP[r.IP]); err == nil {
					*r = first
				}
			}
		},
		"unique": func(b *broken) {
			seen := make(map[string]bool)
			b.observe = func(attackers []store.Attacker) error {
				var once []store.Attacker
				for _, a := range attackers {
					if !seen[a.IP] {
						seen[a.IP] = true
						once = append(once, a)
					}
				}
				return b.Store.Observe(background, once...)
			}
		},
	},
	"Observe": {
		"known ones left out": func(b *broken) {
			b.observe = func(attackers []store.Attacker) error {
				attackers = slices.DeleteFunc(slices.Clone(attackers), func(a store.Attacker) bool {
					_, err := b.Store.Get(background, a.ID)
					return err == nil
				})
				return b.Store.Observe(background, attackers...)
			}
		},
		"span narrowed": func(b *broken) {
			last := make(map[uuid.UUID]store.Attacker)
			b.observe = func(attackers []store.Attacker) error {
				for _, a := range attackers {
					last[a.ID] = a
				}
				return b.Store.Observe(background, attackers...)
			}
			b.read = func(r *store.Record) { r.FirstSeen, r.LastSeen = last[r.ID].FirstSeen, last[r.ID].LastSeen }
		},
		"due whenever observed": again,
		"address kept": func(b *broken) {
			b.observe = func(attackers []store.Attacker) error {
				attackers = slices.Clone(attackers)
				for i := range attackers {
					if old, err := b.Store.Get(background, attackers[i].ID); err == nil {
						attackers[i].IP = old.IP
					}
				}
				return b.Store.Observe(background, attackers...)
			}
		},
		"order of first sight": func(b *broken) {
			first := make(map[uuid.UUID]time.Time)
			b.observe = func(attackers []store.Attacker) error {
				for _, a := range attackers {
					if _, ok := first[a.ID]; !ok {
						first[a.ID] = a.LastSeen
					}
				}
				return b.Store.Observe(background, attackers...)
			}
			b.claimed = func(_ store.ClaimRequest, c *store.Claimed) {
				slices.SortFunc(c.Records, func(x, y store.Record) int { return first[y.ID].Compare(first[x.ID]) })
			}
		},
	},
	"ObserveRejects": {
		"all or nothing": func(b *broken) {
			b.observe = func(attackers []store.Attacker) error {
				if _, err := store.Acceptable(attackers); err != nil {
					return err
				}
				return b.Store.Observe(background, attackers...)
			}
		},
		"stops at the first": func(b *broken) {
			b.observe = func(attackers []store.Attacker) error {
				for _, a := range attackers {
					if err := b.Store.Observe(background, a); err != nil {
						return err
					}
				}
				return nil
			}
		},
		"silently": rejecting(func(*store.ObserveError) error { return nil }),
		"one named": rejecting(func(e *store.ObserveError) error {
			for i, why := range e.Rejected {
				return &store.ObserveError{Rejected: map[int]error{i: why}}
			}
			return nil
		}),
		"another index": rejecting(func(e *store.ObserveError) error {
			moved := make(map[int]error)
			for i, why := range e.Rejected {
				moved[i+1] = why
			}
			return &store.ObserveError{Rejected: moved}
		}),
		"another reason": rejecting(func(e *store.ObserveError) error {
			for i := range e.Rejected {
				e.Rejected[i] = errors.New("null value in column")
			}
			return e
		}),
		"a plain error": rejecting(func(*store.ObserveError) error { return store.ErrInvalid }),
		"spaces kept":   showing("45.9.1.3", " 45.9.1.3"),
		"zone kept":     showing("2a01:4f8::7", "2a01:4f8::7%eth0"),
		"known one seen": func(b *broken) {
			b.observe = func(attackers []store.Attacker) error {
				for _, a := range attackers {
					if rec, err := b.Store.Get(background, a.ID); err == nil && !a.Addr().IsValid() {
						a.IP = rec.IP
						_ = b.Store.Observe(background, a)
					}
				}
				return b.Store.Observe(background, attackers...)
			}
		},
		"due again": again,
	},
	"ObserveFillsTimes": {
		"epoch": observing(func(a *store.Attacker) {
			if a.LastSeen.IsZero() {
				a.LastSeen = time.Unix(0, 0)
			}
		}),
		"first seen now": observing(func(a *store.Attacker) {
			if a.FirstSeen.IsZero() {
				a.FirstSeen = time.Now()
			}
		}),
	},
	"ForgetUnseen": {
		"does nothing": func(b *broken) { b.unseen = func(time.Time, int) (int, error) { return 0, nil } },
		"beyond the limit": func(b *broken) {
			b.unseen = func(before time.Time, _ int) (int, error) { return b.Store.ForgetUnseen(background, before, 99) }
		},
		"one more than the limit": func(b *broken) {
			b.unseen = func(before time.Time, limit int) (int, error) {
				return unlessOverflow(limit, func() (int, error) { return b.Store.ForgetUnseen(background, before, limit) })
			}
		},
		"seen at the time itself": func(b *broken) {
			b.unseen = func(before time.Time, limit int) (int, error) {
				return b.Store.ForgetUnseen(background, before.Add(time.Second), limit)
			}
		},
		"seen again": func(b *broken) {
			b.unseen = func(before time.Time, limit int) (int, error) {
				return b.Store.ForgetUnseen(background, farAhead, limit)
			}
		},
		"without counting": func(b *broken) {
			b.unseen = func(before time.Time, limit int) (int, error) {
				_, err := b.Store.ForgetUnseen(background, before, limit)
				return 0, err
			}
		},
	},
	"Forget": {
		"does nothing": forgetsNothing,
		"first only": func(b *broken) {
			b.forget = func(ids []uuid.UUID) error { return b.Store.Forget(background, ids[0]) }
		},
		"unknown ones fail": func(b *broken) {
			b.forget = func(ids []uuid.UUID) error {
				for _, id := range ids {
					if _, err := b.Store.Get(background, id); err != nil {
						return err
					}
				}
				return b.Store.Forget(background, ids...)
			}
		},
		"comes back": func(b *broken) {
			kept := make(map[uuid.UUID][]store.Entry)
			b.forget = func(ids []uuid.UUID) error {
				for _, id := range ids {
					rec, _ := b.Store.Get(background, id)
					kept[id] = rec.Entries
				}
				return b.Store.Forget(background, ids...)
			}
			b.read = func(r *store.Record) { r.Entries = append(r.Entries, kept[r.ID]...) }
		},
	},
}

// answering returns a bug that changes what Answers returns.
func answering(change func(answers []store.Answer) []store.Answer) func(b *broken) {
	return func(b *broken) {
		b.answers = func(now time.Time, addrs []netip.Addr) ([]store.Answer, error) {
			got, err := b.Store.Answers(background, now, addrs...)
			return change(got), err
		}
	}
}

// answeringAt returns a bug in the time at which findings expire.
func answeringAt(shift time.Duration) func(b *broken) {
	return func(b *broken) {
		b.answers = func(now time.Time, addrs []netip.Addr) ([]store.Answer, error) {
			return b.Store.Answers(background, now.Add(shift), addrs...)
		}
	}
}
