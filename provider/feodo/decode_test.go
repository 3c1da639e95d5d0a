package feodo

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/internal/decodetest"
	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/provider/rest"
)

var (
	addr = netip.MustParseAddr("185.117.90.142")
	noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
)

// listOf is a transport that answers with a list.
type listOf []byte

func (l listOf) RoundTrip(*http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(l))}, nil
}

// decode returns the rows of a list as a provider has them.
func decode(t testing.TB, body []byte) (map[netip.Addr][]row, error) {
	p, err := New(Options{Transport: listOf(body)})
	require.NoError(t, err)
	if err := p.Refresh(t.Context()); err != nil {
		return nil, err
	}
	list := map[netip.Addr][]row{}
	for prefix, rows := range p.feed.Table().All() {
		list[prefix.Addr()] = rows
	}
	return list, nil
}

func TestSample(t *testing.T) {
	t.Parallel()
	body, err := os.ReadFile("testdata/ipblocklist_2024-02_3_records.json")
	require.NoError(t, err)
	list, err := decode(t, body)
	require.NoError(t, err)
	require.Len(t, list, 3)
	f := finding(addr, list[addr], noon)
	require.True(t, f.Known)
	require.Equal(t, provider.Suspicious, f.Verdict)
	require.Equal(t, map[string]any{
		"listed":         true,
		"malware_family": "QakBot",
		"status":         "offline",
		"ports":          []int64{2222},
		"country":        "NL",
		"as_number":      int64(59711),
		"as_name":        "HZ-EU-AS",
		"first_seen":     "2024-01-17 18:58:25",
		"last_online":    "2024-01-22",
	}, f.Attrs)
	require.JSONEq(t, `{"ip_address":"185.117.90.142","port":2222,"status":"offline","hostname":null,"as_number":59711,
		"as_name":"HZ-EU-AS","country":"NL","first_seen":"2024-01-17 18:58:25","last_online":"2024-01-22","malware":"QakBot"}`, string(f.Raw))
	require.Equal(t, noon, f.ObservedAt)
	require.Zero(t, f.TTL)
}

func TestOnlineComesFirst(t *testing.T) {
	t.Parallel()
	list, err := decode(t, []byte(`[
		{"ip_address":"185.117.90.142","port":443,"status":"offline","malware":"Emotet"},
		{"ip_address":"185.117.90.142","port":"80","status":"Online","malware":"QakBot"},
		{"ip_address":"185.117.90.142","port":80,"status":"online","malware":"Pikabot"},
		{"ip_address":"185.117.90.142","port":99999,"status":null}
	]`))
	require.NoError(t, err)
	f := finding(addr, list[addr], noon)
	require.Equal(t, provider.Malicious, f.Verdict)
	require.Equal(t, map[string]any{
		"listed": true, "malware_family": "QakBot", "status": "online", "ports": []int64{80, 443},
	}, f.Attrs)
	require.JSONEq(t, `{"ip_address":"185.117.90.142","port":"80","status":"Online","malware":"QakBot"}`, string(f.Raw))
}

func TestUnknownStatusIsHistory(t *testing.T) {
	t.Parallel()
	for _, row := range []string{`{"ip_address":"185.117.90.142"}`, `{"ip_address":"::ffff:185.117.90.142","status":["online"],"port":"x"}`} {
		list, err := decode(t, []byte("["+row+"]"))
		require.NoError(t, err)
		f := finding(addr, list[addr], noon)
		require.Equal(t, provider.Suspicious, f.Verdict)
		require.Equal(t, map[string]any{"listed": true, "status": "offline", "ports": []int64{}}, f.Attrs)
	}
}

func TestLists(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]int{
		`[]`:                              0,
		`[{"ip_address":"1.2.3.4"},7,{}]`: 1,
		`[{"ip_address":"1.2.3.4"},{"ip_address":"not an address"},{"ip_address":" 1.2.3.5 "}]`: 2,
	} {
		list, err := decode(t, []byte(body))
		require.NoError(t, err, body)
		require.NotNil(t, list)
		require.Len(t, list, want, body)
	}
	for body, want := range map[string]string{
		``:                         "the list is empty",
		`null`:                     "lines of text, not a JSON array",
		`{}`:                       "a JSON object, not a JSON array",
		`<html>canary-77aa`:        "a web page, not a list",
		`[{"ip_address":"1.2.3`:    "JSON that breaks off or is malformed",
		`["canary-77aa",{},7]`:     "no row has an address",
		`[{"ip_address":[]},null]`: "no row has an address",
	} {
		_, err := decode(t, []byte(body))
		require.ErrorIs(t, err, provider.ErrBadResponse, body)
		require.ErrorContains(t, err, want, body)
		require.NotContains(t, err.Error(), "canary")
	}
}

func TestManyPortsMakeABoundedFinding(t *testing.T) {
	t.Parallel()
	var rows []string
	for i := range 5000 {
		rows = append(rows, `{"ip_address":"185.117.90.142","port":`+strconv.Itoa(i+1)+`}`)
	}
	list, err := decode(t, []byte("["+strings.Join(rows, ",")+"]"))
	require.NoError(t, err)
	f := finding(addr, list[addr], noon)
	require.NoError(t, f.Validate())
	require.Len(t, f.Attrs["ports"], rest.MaxList)
}

func FuzzDecode(f *testing.F) {
	decodetest.Samples(f, func(_ int, body []byte) { f.Add(body) })
	f.Add([]byte(`[{"ip_address":"185.117.90.142","status":"online","port":"1","malware":"canary-77aa"},[]]`))
	f.Fuzz(func(t *testing.T, body []byte) {
		list, err := decode(t, body)
		if err != nil {
			require.Nil(t, list)
			require.Empty(t, decodetest.Leak(err, body))
			return
		}
		online := hasOnline(body)
		for addr, rows := range list {
			require.Equal(t, provider.Canonical(addr), addr)
			got := finding(addr, rows, noon)
			decodetest.Check(t, Name, addr, got, nil, body)
			require.True(t, got.Known)
			require.True(t, got.Verdict == provider.Suspicious || got.Verdict == provider.Malicious && online)
		}
		decodetest.Check(t, Name, addr, finding(addr, nil, noon), nil, body)
	})
}

// hasOnline reports whether some row in body says that it is online.
func hasOnline(body []byte) bool {
	var rows []any
	if json.Unmarshal(body, &rows) != nil {
		return false
	}
	for _, row := range rows {
		object, _ := row.(map[string]any)
		for name, v := range object {
			s, _ := v.(string)
			if strings.EqualFold(name, "status") && strings.EqualFold(strings.TrimSpace(s), "online") {
				return true
			}
		}
	}
	return false
}
