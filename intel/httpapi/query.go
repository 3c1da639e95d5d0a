package httpapi

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/store"
)

// query are the parameters of a request.
type query struct{ values url.Values }

// readQuery returns the parameters of a request. It refuses names that are not among
// the known, and values that come twice.
func readQuery(r *http.Request, known ...string) (query, error) {
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return query{}, errors.New("the query cannot be read")
	}
	for name, all := range values {
		if !slices.Contains(known, name) {
			return query{}, fmt.Errorf("there is no parameter of that name; the parameters are %s", strings.Join(known, ", "))
		}
		if len(all) > 1 && name != "verdict" {
			return query{}, fmt.Errorf("%s is given more than once", name)
		}
	}
	return query{values}, nil
}

func (q query) get(name string) string { return q.values.Get(name) }

// boolean returns a parameter that is true or false, and false if it is not given.
func (q query) boolean(name string) (value, ok bool) {
	switch q.get(name) {
	case "true", "1":
		return true, true
	case "", "false", "0":
		return false, true
	}
	return false, false
}

// noVerdict is how a filter names the absence of an opinion.
const noVerdict = "none"

// The limits of a page of attackers.
const (
	defaultPage = 50
	maxPage     = 500
)

// listParams are the parameters of a listing.
var listParams = []string{"verdict", "source", "text", "seen_since", "seen_before", "changed_since", "enriched", "limit", "cursor"}

// ParseList reads the parameters of a listing of attackers from a query: verdict
// (several, separated by commas or repeated; none stands for no opinion), source,
// text, seen_since, seen_before and changed_since (RFC 3339, or a duration like 24h
// before now), enriched, limit (from 1 to 500) and cursor. The error names what is
// wrong and is fit for a client to see.
func ParseList(r *http.Request, now time.Time) (store.ListRequest, error) {
	q, err := readQuery(r, listParams...)
	if err != nil {
		return store.ListRequest{}, err
	}
	req := store.ListRequest{Limit: defaultPage, Cursor: q.get("cursor"), Text: strings.TrimSpace(q.get("text")), Source: q.get("source")}
	if len(req.Text) > 200 {
		return req, errors.New("text is too long; it may have 200 bytes")
	}
	if req.Source != "" && provider.ValidateName(req.Source) != nil {
		return req, errors.New("source is not the name of a provider, like greynoise")
	}
	for _, list := range q.values["verdict"] {
		for name := range strings.SplitSeq(list, ",") {
			if name = strings.TrimSpace(name); name == "" {
				continue
			}
			if name == noVerdict {
				name = provider.None.String()
			}
			verdict, err := provider.ParseVerdict(name)
			if err != nil || len(req.Verdicts) == 16 {
				return req, errors.New("verdict is not malicious, suspicious, benign, unknown or none")
			}
			req.Verdicts = append(req.Verdicts, verdict)
		}
	}
	for _, p := range []struct {
		name string
		to   *time.Time
	}{{"seen_since", &req.SeenSince}, {"seen_before", &req.SeenBefore}, {"changed_since", &req.ChangedSince}} {
		if *p.to, err = parseTime(q.get(p.name), now); err != nil {
			return req, fmt.Errorf("%s is neither a time, like 2026-01-31T12:00:00Z, nor a duration before now, like 24h", p.name)
		}
	}
	var ok bool
	if req.Enriched, ok = q.boolean("enriched"); !ok {
		return req, errors.New("enriched is not true or false")
	}
	if text := q.get("limit"); text != "" {
		req.Limit, err = strconv.Atoi(text)
		if err != nil || req.Limit < 1 || req.Limit > maxPage {
			return req, fmt.Errorf("limit is not a number from 1 to %d", maxPage)
		}
	}
	return req, nil
}

// parseTime reads a time, or a duration before now. Empty text gives the zero time.
func parseTime(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return now.Add(-d).UTC(), nil
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04", time.DateOnly} { // the others are of forms in HTML
		if t, err := time.Parse(layout, text); err == nil && t.Year() >= 1 && t.Year() <= 9999 {
			return t.UTC(), nil
		}
	}
	return time.Time{}, errors.New("not a time")
}
