package sqlstore

import (
	"bytes"
	"io"
	"maps"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/provider/abuseipdb"
	"github.com/decnet/enrich/provider/feodo"
	"github.com/decnet/enrich/provider/greynoise"
	"github.com/decnet/enrich/provider/threatfox"
	"github.com/decnet/enrich/store/decnet"
)

// answering is a transport that gives every request the same answer.
type answering struct {
	status int
	body   []byte
}

func (a answering) RoundTrip(req *http.Request) (*http.Response, error) {
	return &http.Response{
		StatusCode: a.status, Header: http.Header{"Content-Type": {"application/json"}},
		Body: io.NopCloser(bytes.NewReader(a.body)), Request: req,
	}, nil
}

// TestRecordedAnswersReadBack: what a recorded answer means is the same when it is
// read back from a row of attacker_intel.
func TestRecordedAnswersReadBack(t *testing.T) {
	key := func() string { return "0123456789abcdef" }
	checked := 0
	for _, c := range []struct {
		name string
		open func(http.RoundTripper) (provider.Provider, error)
		more map[string]string // answers besides the recorded ones
	}{
		{greynoise.Name, func(rt http.RoundTripper) (provider.Provider, error) {
			return greynoise.New(greynoise.Options{KeyFunc: key, Transport: rt})
		}, map[string]string{
			"404_a": `{"ip":"45.9.0.1","noise":false,"riot":false,"classification":"malicious","message":"not observed"}`,
			"200_b": `{"ip":"45.9.0.1","noise":true,"riot":false,"classification":"unknown","name":"unknown"}`,
			"200_c": `{"ip":"45.9.0.1","noise":true,"riot":false,"classification":" Suspicious"}`,
			"200_d": `{"ip":"45.9.0.1","noise":false,"riot":true}`,
		}},
		{abuseipdb.Name, func(rt http.RoundTripper) (provider.Provider, error) {
			return abuseipdb.New(abuseipdb.Options{KeyFunc: key, Transport: rt})
		}, map[string]string{
			"200_a": `{"data":{"abuseConfidenceScore":0,"totalReports":0,"isWhitelisted":true}}`,
			"200_b": `{"data":{"abuseConfidenceScore":"24","totalReports":"3","isWhitelisted":true}}`,
			"200_c": `{"data":{"abuseConfidenceScore":75}}`,
		}},
		{feodo.Name, func(rt http.RoundTripper) (provider.Provider, error) {
			return feodo.New(feodo.Options{Transport: rt})
		}, map[string]string{
			"200_a": `[{"ip_address":"45.9.0.1","status":"Online","malware":"QakBot"}]`,
			"200_b": `[{"ip_address":"45.9.0.1","status":"offline","malware":"Emotet"},{"ip_address":"45.9.0.1"}]`,
			"200_c": `[]`,
		}},
		{threatfox.Name, func(rt http.RoundTripper) (provider.Provider, error) {
			return threatfox.New(threatfox.Options{KeyFunc: key, Transport: rt})
		}, nil},
	} {
		answers := map[string]string{}
		files, err := filepath.Glob(filepath.Join("..", "..", "provider", c.name, "testdata", "*.json"))
		require.NoError(t, err)
		for _, file := range files {
			body, err := os.ReadFile(file)
			require.NoError(t, err)
			answers[filepath.Base(file)] = string(body)
		}
		require.NotEmpty(t, answers)
		maps.Copy(answers, c.more)
		for name, body := range answers {
			if strings.HasPrefix(name, "error_") {
				continue
			}
			status := http.StatusOK
			if strings.HasPrefix(name, "404") {
				status = http.StatusNotFound
			}
			for _, addr := range []netip.Addr{netip.MustParseAddr("45.9.0.1"), named(body)} {
				p, err := c.open(answering{status, []byte(body)})
				require.NoError(t, err)
				if r, ok := provider.As[provider.Refresher](p); ok {
					if r.Refresh(t.Context()) != nil {
						continue // no list
					}
				}
				f, err := p.Lookup(t.Context(), addr)
				if err != nil {
					continue // an answer about another address, or a refusal
				}
				checked++
				f.ObservedAt = f.ObservedAt.Truncate(time.Microsecond)
				back := readBack(t, f)
				require.Equal(t, f.Known, back.Known, "%s %s about %v", c.name, name, addr)
				require.Equal(t, f.Verdict, back.Verdict, "%s %s about %v", c.name, name, addr)
				require.Equal(t, f.Addr, back.Addr)
				require.True(t, f.ObservedAt.Equal(back.ObservedAt))
				require.Equal(t, string(f.Raw), string(back.Raw))
				for i := range decnet.Columns {
					if col := &decnet.Columns[i]; col.Provider == c.name && col.Attr != "" {
						require.Equal(t, f.Attrs[col.Attr], back.Attrs[col.Attr], "%s %s: %s", c.name, name, col.Attr)
					}
				}
			}
		}
	}
	require.Greater(t, checked, 15)
}

// named returns the first address that a recorded answer names.
func named(body string) netip.Addr {
	for word := range strings.FieldsFuncSeq(body, func(r rune) bool { return !strings.ContainsRune("0123456789.", r) }) {
		if addr, err := netip.ParseAddr(word); err == nil {
			return addr
		}
	}
	return netip.MustParseAddr("45.9.0.2")
}

// readBack returns a finding as it is read from the row that it was written to.
func readBack(t *testing.T, f provider.Finding) *provider.Finding {
	t.Helper()
	r := &intelRow{ip: f.Addr.String(), values: make([]any, len(decnet.Columns))}
	for i := range decnet.Columns {
		c := &decnet.Columns[i]
		if c.Provider != f.Provider {
			continue
		}
		switch v := c.Value(&f).(type) {
		case time.Time:
			r.values[i] = v.Format("2006-01-02 15:04:05.000000")
		default:
			r.values[i] = v
			if raw, ok := v.(interface{ MarshalJSON() ([]byte, error) }); ok {
				text, err := raw.MarshalJSON()
				require.NoError(t, err)
				r.values[i] = string(text)
			}
		}
	}
	entries := r.entries()
	require.Len(t, entries, 1)
	return entries[0].Finding
}
