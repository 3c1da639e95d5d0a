package greynoise

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/decnet/enrich/internal/sources"
	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/provider/rest"
)

var errIPv6 = errors.New("the service knows no IPv6 addresses")

// answer is the body of status 200 and, with fewer fields, of 404.
type answer struct {
	IP             rest.String `json:"ip"`
	Noise          rest.Bool   `json:"noise"`
	RIOT           rest.Bool   `json:"riot"`
	Classification rest.String `json:"classification"`
	Name           rest.String `json:"name"`
	Link           rest.String `json:"link"`
	LastSeen       rest.String `json:"last_seen"`
	Tags           tags        `json:"tags"`
}

// tags are the texts in a JSON array in the order given, or a single one without an
// array.
type tags []string

// UnmarshalJSON implements [json.Unmarshaler].
func (t *tags) UnmarshalJSON(b []byte) error {
	var list []json.RawMessage
	if json.Unmarshal(b, &list) != nil {
		list = []json.RawMessage{b}
	}
	*t = tags{}
	for _, element := range list[:min(len(list), rest.MaxList)] {
		var text string
		if element[0] == '"' && json.Unmarshal(element, &text) == nil {
			*t = append(*t, text)
		}
	}
	return nil
}

// notSeen is the raw answer about an address that was not observed, as DECNET has
// it. The service's own says no more, in words that change.
const notSeen = `{"message":"not seen"}`

// decode turns an answer about addr into a finding.
func decode(addr netip.Addr, r *rest.Response) (provider.Finding, error) {
	switch r.Status {
	case http.StatusOK, http.StatusNotFound:
	case http.StatusTooManyRequests:
		return provider.Finding{}, limitError(r)
	case http.StatusBadRequest:
		return provider.Finding{}, refusal(r)
	default:
		return provider.Finding{}, r.StatusError()
	}
	var a answer
	err := rest.Decode(r.Body, &a)
	if err == nil {
		err = a.check(addr, r.Status)
	}
	if err != nil {
		return provider.Finding{}, r.BadResponse(err)
	}
	var raw json.RawMessage
	if r.Status == http.StatusOK {
		raw = rest.Raw(r.Body)
	}
	return a.finding(addr, r.At, raw), nil
}

// check returns an error if a says nothing about addr.
func (a *answer) check(addr netip.Addr, status int) error {
	if err := rest.About(addr, a.IP); err != nil {
		return err
	}
	switch {
	case status == http.StatusNotFound && !a.Noise.OK:
		return errors.New("not found, but not as the service says it: no boolean noise")
	case status == http.StatusNotFound && a.Noise.Value:
		return errors.New("not found, and yet seen scanning")
	case status == http.StatusOK && !a.Noise.OK && !a.RIOT.OK && a.Classification.Value == "":
		return errors.New("no noise, no riot and no classification")
	}
	return nil
}

// finding returns what a says about addr. Raw is nil if the address was not observed.
func (a *answer) finding(addr netip.Addr, at time.Time, raw json.RawMessage) provider.Finding {
	var meaning sources.GreyNoise // of an address that was not observed
	if raw != nil {
		meaning = sources.GreyNoise{Classification: a.Classification.Value, Noise: a.Noise.Value, RIOT: a.RIOT.Value}
	} else {
		raw = json.RawMessage(notSeen)
	}
	f := provider.Finding{
		Provider:   Name,
		Addr:       addr,
		Attrs:      map[string]any{"classification": meaning.Class()},
		Raw:        raw,
		ObservedAt: at,
		TTL:        TTL,
	}
	f.Known, f.Verdict = meaning.Meaning()
	f.Attrs["tags"] = append([]string{}, a.Tags...)
	a.Noise.Set(f.Attrs, "noise")
	a.RIOT.Set(f.Attrs, "riot")
	a.Name.Set(f.Attrs, "name")
	a.Link.Set(f.Attrs, "link")
	a.LastSeen.Set(f.Attrs, "last_seen")
	return f
}

// limitError tells a spent allowance, which the service reports with its size,
// from being asked too fast.
func limitError(r *rest.Response) error {
	e := r.StatusError()
	var body struct {
		Hyphen     rest.String `json:"rate-limit"` // as documented
		Underscore rest.String `json:"rate_limit"` // as seen
	}
	if rest.Decode(r.Body, &body) != nil {
		return e
	}
	if body.Hyphen.OK || body.Underscore.OK {
		e.Kind = provider.ErrQuotaExhausted
		u, name := allowance(body.Hyphen.Value + body.Underscore.Value)
		if u != nil {
			e.Usage, e.Err = u, errors.New("the allowance of this "+name+" is spent")
		}
	}
	return e
}

// allowance reads one such as "25-W" or "100-lookups/day", of which nothing is
// left. It returns nil for one that is not known, and else also the name of its
// window.
func allowance(text string) (u *provider.Usage, name string) {
	text = strings.ToLower(text)
	first, last := strings.IndexAny(text, "-/"), strings.LastIndexAny(text, "-/")
	if first < 0 {
		return nil, ""
	}
	u = &provider.Usage{}
	switch strings.TrimSpace(text[last+1:]) {
	case "d", "day":
		u.Window, name = provider.Day, "day"
	case "w", "week":
		u.Window, name = provider.Week, "week"
	case "month":
		u.Window, name = provider.Month, "month"
	default:
		return nil, ""
	}
	if n, err := strconv.ParseInt(strings.TrimSpace(text[:first]), 10, 32); err == nil && n > 0 {
		u.Limit = int(n)
	}
	return u, name
}

// refusal is the answer 400, by which the service refuses the address: it
// takes it for one that is not routed. A 400 of another sort is a bad response.
func refusal(r *rest.Response) error {
	e := r.StatusError()
	var body struct {
		Message rest.String `json:"message"`
	}
	if rest.Decode(r.Body, &body) == nil && strings.Contains(body.Message.Value, "routable") {
		e.Kind, e.Err = provider.ErrUnsupported, errors.New("the service takes the address for one that is not routed")
	}
	return e
}
