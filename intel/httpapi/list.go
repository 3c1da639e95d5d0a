package httpapi

import (
	"errors"
	"net/http"
	"time"

	"github.com/google/uuid"

	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/store"
)

// Attackers is a page of a listing of attackers.
type Attackers struct {
	// Attackers are in the order in which they were last seen, latest first.
	Attackers []Attacker `json:"attackers"`
	// Next is the cursor of the following page; nil after the last.
	Next *string `json:"next"`
}

// Attacker is an attacker in a listing.
type Attacker struct {
	AttackerUUID uuid.UUID `json:"attacker_uuid"`
	// AttackerIP is the address as it was registered. It may be any text.
	AttackerIP string           `json:"attacker_ip"`
	Verdict    provider.Verdict `json:"aggregate_verdict"`
	// Sentence explains the verdict; empty if nothing was learnt.
	Sentence string `json:"sentence"`
	// Sources are the names of the providers that have the attacker.
	Sources []string `json:"sources"`
	// FirstSeen, LastSeen and CachedAt, when a finding was last stored, are in UTC.
	FirstSeen *time.Time `json:"first_seen"`
	LastSeen  *time.Time `json:"last_seen"`
	CachedAt  *time.Time `json:"cached_at"`
	// Revision counts the saves that stored a finding.
	Revision uint64 `json:"revision"`
}

// ListItem returns how a listing shows a record.
func ListItem(rec *store.Record) Attacker {
	a := Attacker{
		AttackerUUID: rec.ID, AttackerIP: rec.IP, Verdict: rec.Decision.Verdict, Sources: []string{},
		FirstSeen: orNil(rec.FirstSeen), LastSeen: orNil(rec.LastSeen), CachedAt: orNil(rec.CachedAt), Revision: rec.Revision,
	}
	if rec.Revision > 0 {
		a.Sentence = rec.Decision.String()
	}
	for i := range rec.Entries {
		if f := rec.Entries[i].Finding; f != nil && f.Known {
			a.Sources = append(a.Sources, rec.Entries[i].Provider)
		}
	}
	return a
}

func orNil(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

// serveAttackers lists attackers.
func (a *api) serveAttackers(w http.ResponseWriter, r *http.Request) {
	req, err := ParseList(r, time.Now())
	if err != nil {
		Fail(w, r, http.StatusBadRequest, err.Error())
		return
	}
	req.NoRaw = true
	page, err := a.lister.List(r.Context(), req)
	switch {
	case errors.Is(err, store.ErrInvalid):
		Fail(w, r, http.StatusBadRequest, "cursor is not one of an earlier page")
		return
	case err != nil:
		a.unavailable(w, r, "cannot list attackers", "error", err)
		return
	}
	answer := Attackers{Attackers: make([]Attacker, 0, len(page.Records))}
	for i := range page.Records {
		answer.Attackers = append(answer.Attackers, ListItem(&page.Records[i]))
	}
	if page.Next != "" {
		answer.Next = &page.Next
	}
	a.sendJSON(w, r, answer, "a list cannot be written as JSON")
}
