package webtest

import (
	"encoding/json"
	"net/netip"
	"time"

	"github.com/google/uuid"

	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/store"
)

func attackerWith(id uuid.UUID, n int) store.Attacker {
	return store.Attacker{ID: id, IP: ipOf(n), LastSeen: time.Now().UTC()}
}

// entriesWith is a ledger with a text wherever a source can put one.
func entriesWith(text string, n int) []store.Entry {
	if len(text) > 60<<10 { // what a finding may hold
		text = text[:60<<10]
	}
	raw, _ := json.Marshal(map[string]string{"text": text})
	f := &provider.Finding{
		Provider: "greynoise", Addr: netip.MustParseAddr(ipOf(n)), Known: true, Verdict: provider.Malicious, Raw: raw, ObservedAt: time.Now().UTC(),
		Attrs: map[string]any{"classification": text, "name": text, "tags": []string{"a", text[:min(len(text), 1000)]}},
	}
	return []store.Entry{
		{Provider: "greynoise", State: store.Fresh, Finding: f, Expires: time.Now().Add(time.Hour)},
		{Provider: "threatfox", State: store.Due, Error: text, Failures: 2},
	}
}
