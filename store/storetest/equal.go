package storetest

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/store"
	"github.com/decnet/enrich/store/decnet"
)

// same fails the test unless got is the record want. Text may have been cleaned
// (see [decnet.CleanText]), JSON reformatted, and the fence is not compared.
func (f *fixture) same(what string, got, want store.Record) {
	f.Helper()
	if diffs := difference(got, want, true); len(diffs) > 0 {
		f.Fatalf("%s: attacker %s differs:\n%s", what, want.ID, strings.Join(diffs, "\n"))
	}
}

// difference returns what distinguishes got from want, a line for each field.
// Without raw, got may lack Raw.
func difference(got, want store.Record, raw bool) []string {
	var c comparison
	c.values("ID", got.ID, want.ID)
	c.text("IP", got.IP, want.IP)
	c.time("FirstSeen", got.FirstSeen, want.FirstSeen)
	c.time("LastSeen", got.LastSeen, want.LastSeen)
	c.values("Granted", got.Granted, want.Granted)
	c.values("Revision", got.Revision, want.Revision)
	c.time("CachedAt", got.CachedAt, want.CachedAt)
	c.values("Verdict", got.Decision.Verdict, want.Decision.Verdict)
	c.text("Policy", got.Decision.Policy, want.Decision.Policy)
	c.values("Score", got.Decision.Score, want.Decision.Score)
	c.values("Conflict", got.Decision.Conflict, want.Decision.Conflict)
	c.values("number of Reasons", len(got.Decision.Reasons), len(want.Decision.Reasons))
	for i := range min(len(got.Decision.Reasons), len(want.Decision.Reasons)) {
		g, w := got.Decision.Reasons[i], want.Decision.Reasons[i]
		c.time(fmt.Sprintf("Reasons[%d].ObservedAt", i), g.ObservedAt, w.ObservedAt)
		g.ObservedAt, w.ObservedAt = time.Time{}, time.Time{}
		c.values(fmt.Sprintf("Reasons[%d]", i), g, w)
	}
	c.values("number of Entries", len(got.Entries), len(want.Entries))
	for i := range min(len(got.Entries), len(want.Entries)) {
		g, w := got.Entries[i], want.Entries[i]
		c.prefix = fmt.Sprintf("Entries[%d] (%s).", i, w.Provider)
		c.values("Provider", g.Provider, w.Provider)
		c.values("State", g.State, w.State)
		c.time("Due", g.Due, w.Due)
		c.time("Expires", g.Expires, w.Expires)
		c.values("Failures", g.Failures, w.Failures)
		c.text("Error", g.Error, w.Error)
		c.text("Reason", g.Reason, w.Reason)
		c.values("Rank", g.Rank, w.Rank)
		c.time("Since", g.Since, w.Since)
		c.values("Addr", g.Addr, w.Addr)
		c.finding(g.Finding, w.Finding, raw)
	}
	return c.diffs
}

type comparison struct {
	prefix string
	diffs  []string
}

func (c *comparison) add(field string, got, want any) {
	c.diffs = append(c.diffs, fmt.Sprintf("\t%s%s is %#v, want %#v", c.prefix, field, got, want))
}

func (c *comparison) values(field string, got, want any) {
	if !reflect.DeepEqual(got, want) {
		c.add(field, got, want)
	}
}

func (c *comparison) text(field, got, want string) {
	if decnet.CleanText(got) != decnet.CleanText(want) {
		c.add(field, got, want)
	}
}

// time compares times and demands UTC.
func (c *comparison) time(field string, got, want time.Time) {
	if !got.Equal(want) {
		c.add(field, got.String(), want.String())
	} else if _, offset := got.Zone(); offset != 0 || got.Location() == time.Local && time.Local != time.UTC {
		c.add(field+" zone", got.Location().String(), "UTC")
	}
}

func (c *comparison) finding(got, want *provider.Finding, raw bool) {
	if got == nil || want == nil {
		if got != want {
			c.add("Finding", got, want)
		}
		return
	}
	c.prefix += "Finding."
	c.values("Provider", got.Provider, want.Provider)
	c.values("Addr", got.Addr, want.Addr)
	c.values("Known", got.Known, want.Known)
	c.values("Verdict", got.Verdict, want.Verdict)
	c.time("ObservedAt", got.ObservedAt, want.ObservedAt)
	c.values("TTL", got.TTL, want.TTL)
	if raw || len(got.Raw) > 0 {
		c.values("Raw", canonical(got.Raw), canonical(want.Raw))
	}
	for name := range got.Attrs {
		if _, ok := want.Attrs[name]; !ok {
			c.add("Attrs["+name+"]", got.Attrs[name], "none")
		}
	}
	for name, w := range want.Attrs {
		g, ok := got.Attrs[name]
		if !ok {
			c.add("Attrs["+name+"]", "none", w)
			continue
		}
		c.values("Attrs["+name+"]", clean(g), clean(w))
	}
}

// clean returns an attribute's value in a form in which it can be compared:
// with clean text, and no list nil.
func clean(attr any) any {
	switch v := attr.(type) {
	case string:
		return decnet.CleanText(v)
	case []string:
		out := make([]string, len(v))
		for i, s := range v {
			out[i] = decnet.CleanText(s)
		}
		return out
	case []int64:
		return append([]int64{}, v...)
	}
	return attr
}

// canonical returns what the JSON says, with clean text; none says {}.
func canonical(raw json.RawMessage) any {
	if len(raw) == 0 {
		return map[string]any{}
	}
	var v any
	if err := json.Unmarshal(raw, &v); err != nil {
		return err.Error()
	}
	return cleanJSON(v)
}

func cleanJSON(v any) any {
	switch v := v.(type) {
	case string:
		return decnet.CleanText(v)
	case []any:
		for i := range v {
			v[i] = cleanJSON(v[i])
		}
	case map[string]any:
		out := make(map[string]any, len(v))
		for key, value := range v {
			out[decnet.CleanText(key)] = cleanJSON(value)
		}
		return out
	}
	return v
}
