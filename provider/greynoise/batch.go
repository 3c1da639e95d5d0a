package greynoise

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/provider/rest"
)

// maxBatch is the greatest number of addresses that are charged as one search. The
// service takes ten times as many in one call.
const maxBatch = 1000

// newMany returns the client that asks about many addresses.
func newMany(o Options) (*rest.Client, error) {
	base := o.BaseURL
	if u, err := url.Parse(base); err == nil && strings.Trim(u.Path, "/") != "" {
		prefix, ok := strings.CutSuffix(strings.TrimSuffix(base, "/"), "/community")
		if !ok {
			return nil, errors.New("BaseURL does not end in /community, as it has to with Batch")
		}
		base = prefix + "/ip"
	}
	return rest.New(rest.Options{
		Provider: Name, URL: "https://api.greynoise.io/v3/ip", BaseURL: base,
		Key:       o.key(),
		Transport: o.Transport, Now: o.Now,
	})
}

// Batch implements [provider.Batcher]: a thousand with Options.Batch and a key that
// was not refused it, and else one.
func (p *Provider) Batch() int {
	account := p.Account()
	if refused := p.refused.Load(); p.many == nil || account == "" || refused != nil && *refused == account {
		return 1
	}
	return maxBatch
}

// LookupBatch implements [provider.Batcher] with one request. If the service refuses
// such questions to the key, there is no finding, and Batch returns one from then on.
// Whether the key is good for anything shows at the next Lookup.
func (p *Provider) LookupBatch(ctx context.Context, addrs []netip.Addr) ([]provider.Finding, error) {
	sent := make([]netip.Addr, len(addrs))
	for i, addr := range addrs {
		var err error
		if sent[i], err = p.admit(addr); err != nil {
			return nil, err
		}
	}
	if p.many == nil {
		return nil, rest.ConfigError(Name, errors.New("Batch is not set"))
	}
	account := p.Account()
	body, err := json.Marshal(map[string]any{"ips": sent})
	if err != nil {
		return nil, rest.ConfigError(Name, err)
	}
	r, err := p.many.Do(ctx, rest.Request{Query: url.Values{"quick": {"true"}}, Body: body})
	if err != nil {
		return nil, err
	}
	switch r.Status {
	case http.StatusOK, http.StatusPartialContent: // the latter if the plan does not show everything
	case http.StatusTooManyRequests:
		return nil, limitError(r)
	default:
		e := r.StatusError()
		if e.Kind == provider.ErrUnauthorized || r.Status == http.StatusNotFound && e.Kind == provider.ErrBadResponse {
			p.refused.Store(&account)
			return nil, nil
		}
		return nil, e
	}
	said, err := decodeMany(r.Body)
	if err != nil {
		return nil, r.BadResponse(err)
	}
	var findings []provider.Finding
	for _, addr := range sent {
		if f, ok := said[addr]; ok {
			findings = append(findings, f.finding(addr, r.At))
		}
	}
	if len(findings) == 0 {
		return nil, r.BadResponse(errors.New("it mentions none of the addresses"))
	}
	return findings, nil
}

// manyAnswer is the body of an answer about many addresses.
type manyAnswer struct {
	Data     []json.RawMessage `json:"data"`
	Metadata struct {
		NotFound rest.Strings `json:"ips_not_found"`
	} `json:"request_metadata"`
}

// found is what an element of its data says.
type found struct {
	IP      rest.String `json:"ip"`
	Scanner struct {
		Found          rest.Bool   `json:"found"`
		Classification rest.String `json:"classification"`
	} `json:"internet_scanner_intelligence"`
	Business struct {
		Found rest.Bool `json:"found"`
	} `json:"business_service_intelligence"`
}

// decodeMany returns what an answer says, by address: nil about those that were not
// observed.
func decodeMany(body []byte) (map[netip.Addr]*found, error) {
	var a manyAnswer
	if err := rest.Decode(body, &a); err != nil {
		return nil, err
	}
	said := make(map[netip.Addr]*found, len(a.Data)+len(a.Metadata.NotFound))
	for _, text := range a.Metadata.NotFound {
		if addr, err := provider.ParseAddr(text); err == nil {
			said[addr] = nil
		}
	}
	for _, element := range a.Data {
		f := new(found)
		if err := rest.Decode(element, f); err != nil {
			return nil, err
		}
		addr, err := provider.ParseAddr(f.IP.Value)
		if err != nil {
			return nil, errors.New("an element of data has no address")
		}
		if !f.Scanner.Found.OK && !f.Business.Found.OK && f.Scanner.Classification.Value == "" {
			return nil, errors.New("an element of data does not say whether the address was found")
		}
		said[addr] = f
	}
	return said, nil
}

// finding returns the finding about addr; nil says that it was not observed.
func (f *found) finding(addr netip.Addr, at time.Time) provider.Finding {
	var a answer
	if f == nil || !f.Scanner.Found.Value && !f.Business.Found.Value {
		a.Noise, a.RIOT = rest.Bool{OK: true}, rest.Bool{OK: f != nil && f.Business.Found.OK}
		return a.finding(addr, at, nil)
	}
	a = answer{Noise: f.Scanner.Found, RIOT: f.Business.Found, Classification: f.Scanner.Classification}
	raw := map[string]any{"ip": addr}
	a.Noise.Set(raw, "noise")
	a.RIOT.Set(raw, "riot")
	a.Classification.Set(raw, "classification")
	text, _ := json.Marshal(raw) // it cannot fail
	return a.finding(addr, at, rest.Raw(text))
}
