package storetest_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/decnet/enrich/aggregate"
	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/store"
)

// reading returns a bug that changes what Get returns.
func reading(change func(r *store.Record)) func(b *broken) {
	return func(b *broken) { b.read = change }
}

// inFindings returns a bug that changes the findings that Get returns.
func inFindings(change func(f *provider.Finding)) func(b *broken) {
	return reading(func(r *store.Record) {
		for i, e := range r.Entries {
			if e.Finding != nil {
				f := *e.Finding
				f.Attrs = maps.Clone(f.Attrs)
				change(&f)
				r.Entries[i].Finding = &f
			}
		}
	})
}

// inAttrs returns a bug that changes the attributes that Get returns.
func inAttrs(change func(v any) any) func(b *broken) {
	return inFindings(func(f *provider.Finding) {
		for name, v := range f.Attrs {
			f.Attrs[name] = change(v)
		}
	})
}

// inEntries returns a bug that changes the entries that Get returns.
func inEntries(change func(e *store.Entry)) func(b *broken) {
	return reading(func(r *store.Record) {
		for i := range r.Entries {
			change(&r.Entries[i])
		}
	})
}

// refusing returns a bug that fails every save of an update that has something.
func refusing(has func(u store.Update) bool) func(b *broken) {
	return func(b *broken) {
		b.save = func(ups []store.Update) error {
			if slices.ContainsFunc(ups, has) {
				return errors.New("invalid byte sequence")
			}
			return b.Store.Save(background, ups...)
		}
	}
}

var ledgerBugs = bugs{
	"Ledger": {
		"whole numbers become integers": inAttrs(func(v any) any {
			if n, ok := v.(float64); ok && n == 5 {
				return int64(n)
			}
			return v
		}),
		"integers become floats": inAttrs(func(v any) any {
			if n, ok := v.(int64); ok {
				return float64(n)
			}
			return v
		}),
		"integers go through floats": inAttrs(func(v any) any {
			if n, ok := v.(int64); ok && n > 1<<52 && n < 1<<62 {
				return int64(float64(n))
			}
			return v
		}),
		"empty lists are nothing": inAttrs(func(v any) any {
			if list, ok := v.([]int64); ok && len(list) == 0 {
				return nil
			}
			return v
		}),
		"empty lists are of text": inAttrs(func(v any) any {
			if list, ok := v.([]int64); ok && len(list) == 0 {
				return []string{}
			}
			return v
		}),
		"the address of a failure is lost": inEntries(func(e *store.Entry) { e.Addr = netip.Addr{} }),
		"empty text is nothing": inAttrs(func(v any) any {
			if v == "" {
				return nil
			}
			return v
		}),
		"text that looks like a number": inAttrs(func(v any) any {
			if v == "5" {
				return int64(5)
			}
			return v
		}),
		"nil is left out": inFindings(func(f *provider.Finding) {
			maps.DeleteFunc(f.Attrs, func(_ string, v any) bool { return v == nil })
		}),
		"text cut to the column": inAttrs(func(v any) any {
			if s, ok := v.(string); ok && len(s) > 64 {
				return s[:64]
			}
			return v
		}),
		"an attribute added":  inFindings(func(f *provider.Finding) { f.Attrs["more"] = true }),
		"raw lost":            inFindings(func(f *provider.Finding) { f.Raw = nil }),
		"TTL lost":            inFindings(func(f *provider.Finding) { f.TTL = 0 }),
		"known lost":          inFindings(func(f *provider.Finding) { f.Known = false }),
		"verdict lost":        inFindings(func(f *provider.Finding) { f.Verdict = provider.None }),
		"unknown is nothing":  inFindings(func(f *provider.Finding) { f.Verdict &^= provider.Unknown }),
		"finding of today":    inFindings(func(f *provider.Finding) { f.ObservedAt = time.Now() }),
		"address of attacker": reading(func(r *store.Record) { inFindingsOf(r, func(f *provider.Finding) { f.Addr = r.Addr() }) }),
		"address not normal": inFindings(func(f *provider.Finding) {
			if f.Addr.Is4() {
				f.Addr = netip.AddrFrom16(f.Addr.As16())
			}
		}),
		"milliseconds": reading(func(r *store.Record) { r.CachedAt = r.CachedAt.Truncate(time.Millisecond) }),
		"milliseconds in entries": inEntries(func(e *store.Entry) {
			e.Expires = e.Expires.Truncate(time.Millisecond)
		}),
		"another zone": reading(func(r *store.Record) { r.LastSeen = r.LastSeen.In(time.FixedZone("here", 3600)) }),
		"zero time is an epoch": inEntries(func(e *store.Entry) {
			if e.Due.IsZero() {
				e.Due = time.Unix(0, 0).UTC()
			}
		}),
		"state lost":     inEntries(func(e *store.Entry) { e.State = store.Due }),
		"reason lost":    inEntries(func(e *store.Entry) { e.Reason = "" }),
		"error lost":     inEntries(func(e *store.Entry) { e.Error = "" }),
		"failures lost":  inEntries(func(e *store.Entry) { e.Failures = 0 }),
		"due lost":       inEntries(func(e *store.Entry) { e.Due = time.Time{} }),
		"any order":      reading(func(r *store.Record) { slices.Reverse(r.Entries) }),
		"revision lost":  reading(func(r *store.Record) { r.Revision++ }),
		"reasons lost":   reading(func(r *store.Record) { r.Decision.Reasons = nil }),
		"reason changed": reading(func(r *store.Record) { r.Decision.Reasons[0].Decisive = false }),
		"weight lost":    reading(func(r *store.Record) { r.Decision.Reasons[0].Weight = 0 }),
		"by lost":        reading(func(r *store.Record) { r.Decision.Reasons[1].By = "" }),
		"reason's rank":  reading(func(r *store.Record) { r.Decision.Reasons[1].Rank = 0 }),
		"group lost":     reading(func(r *store.Record) { r.Decision.Reasons[1].Group = "" }),
		"policy lost":    reading(func(r *store.Record) { r.Decision.Policy = "" }),
		"score lost":     reading(func(r *store.Record) { r.Decision.Score = 0 }),
		"conflict lost":  reading(func(r *store.Record) { r.Decision.Conflict = false }),
		"not in claims": returning(func(_ store.ClaimRequest, c *store.Claimed) {
			for i := range c.Records {
				c.Records[i].Entries = nil
			}
		}),
		"other providers lost": updating(func(u *store.Update) {
			u.Entries = slices.DeleteFunc(u.Entries, func(e store.Entry) bool { return e.Provider == "custom_1" })
		}),
	},
	"HostileText": {
		"NUL refused": refusing(func(u store.Update) bool { return strings.Contains(u.Decision.Policy, "\x00") }),
		"invalid UTF-8 in JSON refused": refusing(func(u store.Update) bool {
			return slices.ContainsFunc(u.Entries, func(e store.Entry) bool { return bytes.Contains(e.Finding.Raw, []byte("\xff")) })
		}),
		"quotes doubled": inAttrs(func(v any) any {
			if s, ok := v.(string); ok {
				return strings.ReplaceAll(s, "'", "''")
			}
			return v
		}),
		"only ASCII": inAttrs(func(v any) any {
			if s, ok := v.(string); ok {
				return strings.Map(func(r rune) rune { return min(r, '\x7f') }, s)
			}
			return v
		}),
		"raw lost": inFindings(func(f *provider.Finding) { f.Raw = json.RawMessage(`{}`) }),
	},
	"UnchangedFindings": {
		"stored as passed": updating(func(u *store.Update) {
			for _, e := range u.Entries {
				u.Changed = append(u.Changed, e.Provider)
			}
		}),
		"schedule kept too": func(b *broken) {
			b.update = func(u *store.Update) {
				old, _ := b.Store.Get(background, u.ID)
				for i, e := range u.Entries {
					if was := old.Entry(e.Provider); was != nil && !slices.Contains(u.Changed, e.Provider) {
						u.Entries[i] = *was
					}
				}
			}
		},
		"changed one kept": updating(func(u *store.Update) {
			if u.Revision > 1 {
				u.Changed = nil
			}
		}),
	},
	"DroppedFinding": {
		"kept": keepDropped,
		"entries left out are kept": func(b *broken) {
			b.update = func(u *store.Update) {
				old, _ := b.Store.Get(background, u.ID)
				if was := old.Entry("c"); was != nil && len(u.Entries) == 2 {
					u.Entries = append(u.Entries, *was)
				}
			}
		},
	},
	"KeptDecision": {
		"nil erases": updating(func(u *store.Update) {
			if u.Decision == nil {
				u.Decision = &aggregate.Decision{}
			}
		}),
		"zero time is now": updating(func(u *store.Update) {
			if u.SavedAt.IsZero() {
				u.SavedAt = time.Now().Add(time.Hour)
			}
		}),
		"zero decision kept": updating(func(u *store.Update) {
			if u.Decision != nil && u.Decision.Policy == "" {
				u.Decision = nil
			}
		}),
		"always counts": updating(func(u *store.Update) {
			if u.Decision == nil {
				u.Revision++
			}
		}),
	},
	"NotFound": {
		"zero record": func(b *broken) { b.get = func(uuid.UUID) (store.Record, error) { return store.Record{}, nil } },
		"another error": func(b *broken) {
			b.get = func(uuid.UUID) (store.Record, error) { return store.Record{}, errors.New("no rows") }
		},
	},
	"SaveDeleted": {
		"fails": func(b *broken) {
			b.save = func(ups []store.Update) error {
				err := b.Store.Save(background, ups...)
				for _, u := range ups {
					if _, missing := b.Store.Get(background, u.ID); missing != nil {
						err = alsoFailed(err, u.ID, missing)
					}
				}
				return err
			}
		},
		"brought back": func(b *broken) {
			b.save = func(ups []store.Update) error {
				for _, u := range ups {
					if _, missing := b.Store.Get(background, u.ID); missing != nil {
						_ = b.Store.Observe(background, store.Attacker{ID: u.ID, IP: u.IP})
					}
				}
				_ = b.Store.Save(background, ups...)
				return nil
			}
		},
		"the others with it": func(b *broken) {
			b.save = func(ups []store.Update) error {
				for _, u := range ups {
					if _, missing := b.Store.Get(background, u.ID); missing != nil {
						return nil
					}
				}
				return b.Store.Save(background, ups...)
			}
		},
	},
	"SaveMany": {
		"the first 500": func(b *broken) {
			b.save = func(ups []store.Update) error { return b.Store.Save(background, ups[:min(500, len(ups))]...) }
		},
		"one refusal for all": func(b *broken) {
			b.save = func(ups []store.Update) error {
				err := b.Store.Save(background, ups...)
				if e, ok := errors.AsType[*store.SaveError](err); ok {
					for id, why := range e.Failed {
						return &store.SaveError{Failed: map[uuid.UUID]error{id: why}}
					}
				}
				return err
			}
		},
		"too many": func(b *broken) {
			b.save = func(ups []store.Update) error {
				if len(ups) > 500 {
					return errors.New("too many parameters")
				}
				return b.Store.Save(background, ups...)
			}
		},
		"mixed up": updating(func(u *store.Update) { u.Entries[0].Finding = &provider.Finding{Provider: "a"} }),
		"events lost": func(b *broken) {
			n := 0
			b.update = func(u *store.Update) {
				if n++; n%100 == 0 {
					u.Event = nil
				}
			}
		},
	},
}

// keepDropped keeps a finding that an update drops.
func keepDropped(b *broken) {
	b.update = func(u *store.Update) {
		u.Changed = slices.DeleteFunc(slices.Clone(u.Changed), func(name string) bool {
			return slices.ContainsFunc(u.Entries, func(e store.Entry) bool { return e.Provider == name && e.Finding == nil })
		})
	}
}

func inFindingsOf(r *store.Record, change func(f *provider.Finding)) {
	for i, e := range r.Entries {
		if e.Finding != nil {
			f := *e.Finding
			change(&f)
			r.Entries[i].Finding = &f
		}
	}
}
