package storetest_test

import (
	"encoding/json"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/decnet/enrich/bus"
	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/store"
)

// unpublishing returns a bug that changes what Unpublished returns.
func unpublishing(change func(events []bus.Event) []bus.Event) func(b *broken) {
	return func(b *broken) {
		b.unpublished = func(age time.Duration, limit int) ([]bus.Event, error) {
			events, err := b.Store.Unpublished(background, age, limit)
			return change(events), err
		}
	}
}

// lastWhere returns a bug by which a claim finds the last, or the first, of the
// events in the outbox for which choose returns true, by whether the event is
// about the attacker.
func lastWhere(choose func(own bool) bool, first bool) func(b *broken) {
	return func(b *broken) {
		of := make(map[string]uuid.UUID)
		b.update = func(u *store.Update) {
			if u.Event != nil {
				of[u.Event.ID] = u.ID
			}
		}
		b.claimed = func(_ store.ClaimRequest, c *store.Claimed) {
			events, _ := b.Store.Unpublished(background, 0, 1000)
			if first {
				slices.Reverse(events)
			}
			for i := range c.Records {
				r := &c.Records[i]
				r.Unpublished = ""
				for _, ev := range events {
					if choose(of[ev.ID] == r.ID) {
						r.Unpublished = ev.ID
					}
				}
			}
		}
	}
}

// counting returns a bug that changes what Stats returns.
func counting(change func(s *store.Stats)) func(b *broken) {
	return func(b *broken) {
		b.stats = func(now time.Time) (store.Stats, error) {
			s, err := b.Store.Stats(background, now)
			change(&s)
			return s, err
		}
	}
}

var optionalBugs = bugs{
	"Answers": {
		"none":      answering(func([]store.Answer) []store.Answer { return nil }),
		"first one": answering(func(got []store.Answer) []store.Answer { return got[:min(1, len(got))] }),
		"twice":     answering(func(got []store.Answer) []store.Answer { return append(got, got...) }),
		"without raw": answering(func(got []store.Answer) []store.Answer {
			for i := range got {
				bare := *got[i].Finding
				bare.Raw = nil
				got[i].Finding = &bare
			}
			return got
		}),
		"first address only": func(b *broken) {
			b.answers = func(now time.Time, addrs []netip.Addr) ([]store.Answer, error) {
				return b.Store.Answers(background, now, addrs[0])
			}
		},
		"any address": func(b *broken) {
			all := make(map[netip.Addr]bool)
			b.update = func(u *store.Update) {
				for _, e := range u.Entries {
					all[e.Finding.Addr] = true
				}
			}
			b.answers = func(now time.Time, addrs []netip.Addr) ([]store.Answer, error) {
				for addr := range all {
					addrs = append(addrs, addr)
				}
				return b.Store.Answers(background, now, addrs...)
			}
		},
		"the one that expires first": func(b *broken) {
			b.answers = func(now time.Time, addrs []netip.Addr) ([]store.Answer, error) {
				page, err := b.Store.List(background, store.ListRequest{Limit: 99})
				var got []store.Answer
				for _, addr := range addrs {
					first := make(map[string]store.Answer)
					for _, rec := range page.Records {
						for _, e := range rec.Entries {
							if old, ok := first[e.Provider]; e.Finding.Addr == addr && (!ok || e.Expires.Before(old.Expires)) {
								first[e.Provider] = store.Answer{Finding: e.Finding, Expires: e.Expires}
							}
						}
					}
					for _, a := range first {
						got = append(got, a)
					}
				}
				return got, err
			}
		},
	},
	"AnswersBoundary": {
		"too long":  answeringAt(-time.Microsecond),
		"too short": answeringAt(time.Microsecond),
	},
	"AnswersForgotten": {
		"forgotten ones answer": forgetsNothing,
		"dropped ones answer": func(b *broken) {
			b.update = func(u *store.Update) {
				for i, e := range u.Entries {
					if e.Finding == nil {
						old, _ := b.Store.Get(background, u.ID)
						u.Entries[i] = *old.Entry(e.Provider)
						u.Changed = nil
					}
				}
			}
		},
	},
	"Outbox": {
		"empty":        unpublishing(func([]bus.Event) []bus.Event { return nil }),
		"newest first": unpublishing(func(events []bus.Event) []bus.Event { slices.Reverse(events); return events }),
		"topic lost":   unpublishing(func(events []bus.Event) []bus.Event { return rewrite(events, func(ev *bus.Event) { ev.Topic = "" }) }),
		"type lost":    unpublishing(func(events []bus.Event) []bus.Event { return rewrite(events, func(ev *bus.Event) { ev.Type = "" }) }),
		"time lost": unpublishing(func(events []bus.Event) []bus.Event {
			return rewrite(events, func(ev *bus.Event) { ev.Time = time.Time{} })
		}),
		"payload lost": unpublishing(func(events []bus.Event) []bus.Event {
			return rewrite(events, func(ev *bus.Event) { ev.Payload = json.RawMessage(`{}`) })
		}),
		"another ID":    unpublishing(func(events []bus.Event) []bus.Event { return rewrite(events, func(ev *bus.Event) { ev.ID += "x" }) }),
		"never removed": func(b *broken) { b.published = func([]string) error { return nil } },
		"limit ignored": func(b *broken) {
			b.unpublished = func(age time.Duration, _ int) ([]bus.Event, error) {
				return b.Store.Unpublished(background, age, 1000)
			}
		},
		"one more than the limit": func(b *broken) {
			b.unpublished = func(age time.Duration, limit int) ([]bus.Event, error) {
				return unlessOverflow(limit, func() ([]bus.Event, error) { return b.Store.Unpublished(background, age, limit) })
			}
		},
		"time ignored": func(b *broken) {
			b.unpublished = func(_ time.Duration, limit int) ([]bus.Event, error) {
				return b.Store.Unpublished(background, 0, limit)
			}
		},
		"given out once": func(b *broken) {
			b.unpublished = func(age time.Duration, limit int) ([]bus.Event, error) {
				events, err := b.Store.Unpublished(background, age, limit)
				for _, ev := range events {
					_ = b.Store.Published(background, ev.ID)
				}
				return events, err
			}
		},
		"all removed": func(b *broken) {
			b.published = func([]string) error {
				_, err := b.Store.Expire(background, 0)
				return err
			}
		},
	},
	"OutboxOfAttacker": {
		"never set": func(b *broken) {
			b.claimed = func(_ store.ClaimRequest, c *store.Claimed) {
				for i := range c.Records {
					c.Records[i].Unpublished = ""
				}
			}
		},
		"of any attacker": lastWhere(func(bool) bool { return true }, false),
		"the oldest":      lastWhere(func(own bool) bool { return own }, true),
		"published ones": func(b *broken) {
			last := make(map[uuid.UUID]string)
			b.update = func(u *store.Update) {
				if u.Event != nil {
					last[u.ID] = u.Event.ID
				}
			}
			b.claimed = func(_ store.ClaimRequest, c *store.Claimed) {
				for i := range c.Records {
					c.Records[i].Unpublished = last[c.Records[i].ID]
				}
			}
		},
		"only of the last save": func(b *broken) {
			last := make(map[uuid.UUID]string)
			b.update = func(u *store.Update) {
				if u.Event != nil {
					last[u.ID] = u.Event.ID
				}
			}
			b.claimed = func(_ store.ClaimRequest, c *store.Claimed) {
				for i := range c.Records {
					if r := &c.Records[i]; r.Unpublished != last[r.ID] {
						r.Unpublished = ""
					}
				}
			}
		},
		"also in Get": func(b *broken) {
			last := make(map[uuid.UUID]string)
			b.claimed = func(_ store.ClaimRequest, c *store.Claimed) {
				for _, rec := range c.Records {
					last[rec.ID] = rec.Unpublished
				}
			}
			b.read = func(r *store.Record) { r.Unpublished = last[r.ID] }
		},
		"gone with the attacker": func(b *broken) {
			gone := make(map[uuid.UUID]bool)
			b.forget = func(ids []uuid.UUID) error {
				for _, id := range ids {
					gone[id] = true
				}
				return b.Store.Forget(background, ids...)
			}
			b.claimed = func(_ store.ClaimRequest, c *store.Claimed) {
				for i := range c.Records {
					if gone[c.Records[i].ID] {
						c.Records[i].Unpublished = ""
					}
				}
			}
		},
	},
	"OutboxOfRefusedUpdates": {
		"announced": everyEvent,
		"none":      updating(func(u *store.Update) { u.Event = nil }),
	},
	"OutboxTurn": {
		"everybody's": func(b *broken) {
			b.turn = func(_ string, lasting time.Duration) (bool, error) { return lasting > 0, nil }
		},
		"nobody's": func(b *broken) { b.turn = func(string, time.Duration) (bool, error) { return false, nil } },
		"not prolonged": turning(func(b *broken, owner string, lasting time.Duration, mine bool) (bool, error) {
			if mine && lasting > 0 {
				return false, nil
			}
			return b.Store.Turn(background, owner, lasting)
		}),
		"never ended": turning(func(b *broken, owner string, lasting time.Duration, _ bool) (bool, error) {
			if lasting <= 0 {
				return false, nil
			}
			return b.Store.Turn(background, owner, lasting)
		}),
		"ended by others": turning(func(b *broken, owner string, lasting time.Duration, _ bool) (bool, error) {
			if lasting <= 0 {
				for _, owner := range []string{"first", "second"} {
					_, _ = b.Store.Turn(background, owner, 0)
				}
				return false, nil
			}
			return b.Store.Turn(background, owner, lasting)
		}),
		"too short": turning(func(b *broken, owner string, lasting time.Duration, _ bool) (bool, error) {
			return b.Store.Turn(background, owner, min(lasting, 100*time.Millisecond))
		}),
		"end reported as turn": turning(func(b *broken, owner string, lasting time.Duration, _ bool) (bool, error) {
			got, err := b.Store.Turn(background, owner, lasting)
			return got || lasting <= 0, err
		}),
		"nobody may": func(b *broken) {
			b.turn = func(owner string, lasting time.Duration) (bool, error) {
				return b.Store.Turn(background, owner+"x", lasting)
			}
		},
	},
	"OutboxExpire": {
		"nothing": func(b *broken) { b.expire = func(time.Duration) (int, error) { return 0, nil } },
		"everything": func(b *broken) {
			b.expire = func(time.Duration) (int, error) { return b.Store.Expire(background, 0) }
		},
		"not counted": func(b *broken) {
			b.expire = func(age time.Duration) (int, error) {
				_, err := b.Store.Expire(background, age)
				return 0, err
			}
		},
		"only counted": func(b *broken) {
			b.expire = func(age time.Duration) (int, error) {
				events, err := b.Store.Unpublished(background, age, 1000)
				return len(events), err
			}
		},
	},
	"List": {
		"oldest first": paging(func(_ store.ListRequest, p *store.Page) { slices.Reverse(p.Records) }),
		"limit ignored": func(b *broken) {
			b.list = func(req store.ListRequest) (store.Page, error) {
				if req.Limit > 0 {
					req.Limit++
				}
				return b.Store.List(background, req)
			}
		},
		"one more than the limit": func(b *broken) {
			b.list = func(req store.ListRequest) (store.Page, error) {
				return unlessOverflow(req.Limit, func() (store.Page, error) { return b.Store.List(background, req) })
			}
		},
		"one page": paging(func(_ store.ListRequest, p *store.Page) { p.Next = "" }),
		"no end":   paging(func(req store.ListRequest, p *store.Page) { p.Next = req.Cursor }),
		"cursor is a time": func(b *broken) {
			var last time.Time
			b.list = func(req store.ListRequest) (store.Page, error) {
				page, err := b.Store.List(background, req)
				if req.Cursor != "" {
					page.Records = slices.DeleteFunc(page.Records, func(r store.Record) bool { return !r.LastSeen.Before(last) })
				}
				if n := len(page.Records); n > 0 {
					last = page.Records[n-1].LastSeen
				}
				return page, err
			}
		},
		"cursor is a number": func(b *broken) {
			b.list = func(req store.ListRequest) (store.Page, error) {
				if req.Limit <= 0 || len(req.Cursor) > 3 {
					return store.Page{}, store.ErrInvalid
				}
				all, err := b.Store.List(background, store.ListRequest{Limit: 1000, Enriched: req.Enriched})
				skip := 3 * len(req.Cursor)
				page := store.Page{Records: all.Records[min(skip, len(all.Records)):]}
				if len(page.Records) > req.Limit {
					page.Records, page.Next = page.Records[:req.Limit], req.Cursor+"x"
				}
				return page, err
			}
		},
		"without findings": paging(func(_ store.ListRequest, p *store.Page) {
			for i := range p.Records {
				p.Records[i].Entries = nil
			}
		}),
		"any cursor": func(b *broken) {
			b.list = func(req store.ListRequest) (store.Page, error) {
				if req.Cursor == "no cursor" {
					req.Cursor = ""
				}
				return b.Store.List(background, req)
			}
		},
		"any limit": func(b *broken) {
			b.list = func(req store.ListRequest) (store.Page, error) {
				if req.Limit <= 0 {
					req.Limit = 50
				}
				return b.Store.List(background, req)
			}
		},
	},
	"ListEnriched": {
		"ignored": func(b *broken) {
			b.list = func(req store.ListRequest) (store.Page, error) {
				req.Enriched = false
				return b.Store.List(background, req)
			}
		},
		"always": func(b *broken) {
			b.list = func(req store.ListRequest) (store.Page, error) {
				req.Enriched = true
				return b.Store.List(background, req)
			}
		},
		"after the limit": paging(func(req store.ListRequest, p *store.Page) {
			if req.Enriched {
				p.Next = ""
			}
		}),
	},
	"ByAddress": {
		"oldest first": func(b *broken) {
			b.found = func(ids []uuid.UUID) []uuid.UUID {
				slices.Reverse(ids)
				return ids
			}
		},
		"one of several with an address": func(b *broken) {
			b.found = func(ids []uuid.UUID) []uuid.UUID { return ids[:min(len(ids), 1)] }
		},
		"nobody": func(b *broken) {
			b.found = func([]uuid.UUID) []uuid.UUID { return nil }
		},
		"networks only as they are spelled": func(b *broken) {
			b.within = func(networks []netip.Prefix) []netip.Prefix {
				return slices.DeleteFunc(slices.Clone(networks), func(p netip.Prefix) bool { return p != provider.CanonicalPrefix(p) })
			}
		},
	},
	"ListFiltered": {
		"verdicts ignored": listing(func(req *store.ListRequest) { req.Verdicts = nil }),
		"one verdict": listing(func(req *store.ListRequest) {
			if len(req.Verdicts) > 1 {
				req.Verdicts = req.Verdicts[:1]
			}
		}),
		"no opinion is none": listing(func(req *store.ListRequest) {
			if slices.Equal(req.Verdicts, []provider.Verdict{provider.None}) {
				req.Verdicts = nil
			}
		}),
		"since ignored":  listing(func(req *store.ListRequest) { req.SeenSince = time.Time{} }),
		"before ignored": listing(func(req *store.ListRequest) { req.SeenBefore = time.Time{} }),
		"since without its time": listing(func(req *store.ListRequest) {
			if !req.SeenSince.IsZero() {
				req.SeenSince = req.SeenSince.Add(time.Microsecond)
			}
		}),
		"before with its time": listing(func(req *store.ListRequest) {
			if !req.SeenBefore.IsZero() {
				req.SeenBefore = req.SeenBefore.Add(time.Microsecond)
			}
		}),
		"text ignored": listing(func(req *store.ListRequest) { req.Text = "" }),
		"text is a pattern": listing(func(req *store.ListRequest) {
			req.Text = strings.TrimSuffix(strings.ReplaceAll(req.Text, "45_", "45."), "%")
		}),
	},
	"OutboxReaders": {
		"not counted": func(b *broken) {
			b.stats = func(now time.Time) (store.Stats, error) {
				s, err := b.Store.Stats(background, now)
				s.Readers = nil
				return s, err
			}
		},
		"that of the bus":     func(b *broken) { b.outboxOf = func(string) store.Outbox { return b.Store } },
		"one for all":         func(b *broken) { b.outboxOf = func(string) store.Outbox { return b.Store.OutboxOf("one") } },
		"always the bus, too": func(b *broken) { b.update = func(u *store.Update) { u.NoBus = false } },
		"never the bus, too": func(b *broken) {
			b.update = func(u *store.Update) { u.NoBus = len(u.Readers) > 0 }
		},
		"one reader only": func(b *broken) {
			b.update = func(u *store.Update) { u.Readers = u.Readers[:min(1, len(u.Readers))] }
		},
		"no readers": func(b *broken) { b.update = func(u *store.Update) { u.Readers = nil } },
	},
	"Prune": {
		"nothing": func(b *broken) { b.prune = func(time.Time) (store.Pruned, error) { return store.Pruned{}, nil } },
		"everything": func(b *broken) {
			b.prune = func(time.Time) (store.Pruned, error) { return b.Store.Prune(background, farAhead) }
		},
		"everything at the zero time": func(b *broken) {
			b.prune = func(before time.Time) (store.Pruned, error) {
				if before.IsZero() {
					before = farAhead
				}
				return b.Store.Prune(background, before)
			}
		},
		"those of the time itself": func(b *broken) {
			b.prune = func(before time.Time) (store.Pruned, error) {
				return b.Store.Prune(background, before.Add(time.Second))
			}
		},
		"without counting": func(b *broken) {
			b.prune = func(before time.Time) (store.Pruned, error) {
				_, err := b.Store.Prune(background, before)
				return store.Pruned{}, err
			}
		},
		"with the findings": func(b *broken) {
			b.read = func(r *store.Record) {
				for i := range r.Entries {
					if f := r.Entries[i].Finding; f != nil && f.Raw == nil {
						r.Entries[i].Finding = nil
					}
				}
			}
		},
		"makes due": func(b *broken) {
			b.prune = func(before time.Time) (store.Pruned, error) {
				pruned, err := b.Store.Prune(background, before)
				page, _ := b.Store.List(background, store.ListRequest{Limit: 9})
				for _, rec := range page.Records {
					again := rec.Attacker
					for _, again.IP = range []string{"45.200.200.200", rec.IP} {
						_ = b.Store.Observe(background, again)
					}
				}
				return pruned, err
			}
		},
	},
	"ListOfSource": {
		"without what was asked for": paging(func(req store.ListRequest, p *store.Page) {
			for i := range p.Records {
				if req.OnlyTrue != "" {
					p.Records[i].Entries = nil
				}
			}
		}),
		"changed since": listing(func(req *store.ListRequest) { req.ChangedSince = time.Time{} }),
		"source":        listing(func(req *store.ListRequest) { req.Source = "" }),
		"entry of another": listing(func(req *store.ListRequest) {
			if req.Source == "b_c" {
				req.Source = "bxc"
			}
		}),
		"not known": func(b *broken) {
			b.list = func(req store.ListRequest) (store.Page, error) {
				source := req.Source
				req.Source = ""
				page, err := b.Store.List(background, req)
				page.Records = slices.DeleteFunc(page.Records, func(rec store.Record) bool { return source != "" && rec.Entry(source) == nil })
				return page, err
			}
		},
	},
	"Count": {
		"before From": counts(func(req *store.CountRequest) { req.From = req.From.Add(-req.Every) }),
		"after To":    counts(func(req *store.CountRequest) { req.To = req.To.Add(time.Hour) }),
		"length":      counts(func(req *store.CountRequest) { req.Every *= 2 }),
		"invalid": func(b *broken) {
			b.count = func(req store.CountRequest) ([]store.Count, error) {
				if req.Validate() != nil {
					return nil, nil
				}
				return b.Store.Count(background, req)
			}
		},
	},
	"Stats": {
		"attackers": counting(func(s *store.Stats) { s.Attackers++ }),
		"enriched":  counting(func(s *store.Stats) { s.Enriched++ }),
		"due":       counting(func(s *store.Stats) { s.Due++ }),
		"leased":    counting(func(s *store.Stats) { s.Leased++ }),
		"waiting":   counting(func(s *store.Stats) { s.Waiting = nil }),
		"outbox":    counting(func(s *store.Stats) { s.Outbox = 0 }),
		"due now": func(b *broken) {
			b.stats = func(time.Time) (store.Stats, error) { return b.Store.Stats(background, time.Now()) }
		},
	},
}

// counts returns a bug that changes what is to be counted.
func counts(change func(req *store.CountRequest)) func(b *broken) {
	return func(b *broken) {
		b.count = func(req store.CountRequest) ([]store.Count, error) {
			change(&req)
			return b.Store.Count(background, req)
		}
	}
}

// listing returns a bug that changes what is to be listed.
func listing(change func(req *store.ListRequest)) func(b *broken) {
	return func(b *broken) {
		b.list = func(req store.ListRequest) (store.Page, error) {
			change(&req)
			return b.Store.List(background, req)
		}
	}
}

// paging returns a bug that changes what List returns.
func paging(change func(req store.ListRequest, p *store.Page)) func(b *broken) {
	return func(b *broken) {
		b.list = func(req store.ListRequest) (store.Page, error) {
			page, err := b.Store.List(background, req)
			change(req, &page)
			return page, err
		}
	}
}

func rewrite(events []bus.Event, change func(ev *bus.Event)) []bus.Event {
	for i := range events {
		change(&events[i])
	}
	return events
}

// budgetBugs are about the quota ledger.
var budgetBugs = bugs{
	"Budget": {
		"forgotten": func(b *broken) {
			b.budget = func(string) ([]byte, uint64, error) { return nil, 0, nil }
		},
		"one for all": func(b *broken) {
			b.budget = func(string) ([]byte, uint64, error) { return b.Store.Budget(background, "a") }
			b.swap = func(_ string, version uint64, doc []byte) (bool, error) {
				return b.Store.SwapBudget(background, "a", version, doc)
			}
		},
		"any version": swapAnyVersion,
		"refused with an error": func(b *broken) {
			b.swap = func(name string, version uint64, doc []byte) (bool, error) {
				swapped, err := b.Store.SwapBudget(background, name, version, doc)
				if err == nil && !swapped {
					err = errors.New("another version")
				}
				return swapped, err
			}
		},
		"cut": func(b *broken) {
			b.swap = func(name string, version uint64, doc []byte) (bool, error) {
				return b.Store.SwapBudget(background, name, version, doc[:min(len(doc), 4096)])
			}
		},
		"kept": func(b *broken) {
			docs := make(map[string][]byte)
			b.swap = func(name string, version uint64, doc []byte) (bool, error) {
				swapped, err := b.Store.SwapBudget(background, name, version, doc)
				if swapped {
					docs[name] = doc
				}
				return swapped, err
			}
			b.budget = func(name string) ([]byte, uint64, error) {
				_, version, err := b.Store.Budget(background, name)
				return docs[name], version, err
			}
		},
	},
	"BudgetConcurrently": {
		"any version": swapAnyVersion,
		"nobody wins": func(b *broken) {
			b.swap = func(string, uint64, []byte) (bool, error) { return false, nil }
		},
	},
}

// swapAnyVersion stores whatever comes.
func swapAnyVersion(b *broken) {
	b.swap = func(name string, _ uint64, doc []byte) (bool, error) {
		_, version, _ := b.Store.Budget(background, name)
		return b.Store.SwapBudget(background, name, version, doc)
	}
}

// modelBugs are subtle ones that take some luck to notice.
var modelBugs = map[string]func(b *broken){
	"failures above 5": inEntries(func(e *store.Entry) { e.Failures = min(e.Failures, 5) }),
	"hold ignored":     updating(func(u *store.Update) { u.Hold = false }),
	"any fence":        latestFence,
	"late by a minute": asking(func(req *store.ClaimRequest) { req.Now = req.Now.Add(-time.Minute) }),
	"no grants for b": asking(func(req *store.ClaimRequest) {
		req.Grants = maps.Clone(req.Grants)
		delete(req.Grants, "b")
	}),
	"ranks reversed": ranking(func(e *store.Entry) { e.Rank = -e.Rank }),
	"oldest ignored": asking(func(req *store.ClaimRequest) {
		req.Grants = maps.Clone(req.Grants)
		for name, g := range req.Grants {
			req.Grants[name] = store.Grant{Calls: g.Calls}
		}
	}),
	"never due ahead": updating(func(u *store.Update) { u.Ahead = time.Time{} }),
	"next is a minute off": returning(func(req store.ClaimRequest, c *store.Claimed) {
		if c.NextDue.After(req.Now) {
			c.NextDue = c.NextDue.Add(time.Minute)
		}
	}),
	"order of two": returning(func(_ store.ClaimRequest, c *store.Claimed) {
		if len(c.Records) == 2 {
			slices.Reverse(c.Records)
		}
	}),
	"answers": answeringAt(30 * time.Minute),
	"events":  updating(func(u *store.Update) { u.Event = nil }),
	"leased":  counting(func(s *store.Stats) { s.Leased = min(s.Leased, 1) }),
	"page of two": paging(func(_ store.ListRequest, p *store.Page) {
		if len(p.Records) == 2 {
			slices.Reverse(p.Records)
		}
	}),
}

// turning breaks Turn, with knowledge of whether the owner had the last turn.
func turning(turn func(b *broken, owner string, lasting time.Duration, mine bool) (bool, error)) func(*broken) {
	return func(b *broken) {
		last := ""
		b.turn = func(owner string, lasting time.Duration) (bool, error) {
			mine := owner == last
			got, err := turn(b, owner, lasting, mine)
			if got {
				last = owner
			}
			return got, err
		}
	}
}
