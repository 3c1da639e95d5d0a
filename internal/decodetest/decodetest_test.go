package decodetest

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/internal/suitecheck"
	"github.com/decnet/enrich/provider"
)

func TestCheckNotices(t *testing.T) {
	t.Parallel()
	addr := netip.MustParseAddr("45.155.205.233")
	good := provider.Finding{Provider: "test", Addr: addr, ObservedAt: time.Unix(1, 0).UTC()}
	bad := func(change func(*provider.Finding)) provider.Finding {
		f := good
		change(&f)
		return f
	}
	fault := &provider.Error{Provider: "test", Kind: provider.ErrBadResponse}
	for name, tt := range map[string]struct {
		f     provider.Finding
		err   error
		fault bool
	}{
		"nothing":             {good, nil, false},
		"nothing with errors": {provider.Finding{}, fault, false},
		"invalid":             {bad(func(f *provider.Finding) { f.TTL = -1 }), nil, true},
		"other provider":      {bad(func(f *provider.Finding) { f.Provider = "other" }), nil, true},
		"other address":       {bad(func(f *provider.Finding) { f.Addr = netip.Addr{} }), nil, true},
		"no time":             {bad(func(f *provider.Finding) { f.ObservedAt = time.Time{} }), nil, true},
		"not UTC":             {bad(func(f *provider.Finding) { f.ObservedAt = time.Unix(1, 0).In(time.FixedZone("", 3600)) }), nil, true},
		"verdict on unknown":  {bad(func(f *provider.Finding) { f.Verdict = provider.Benign }), nil, true},
		"not UTF-8":           {bad(func(f *provider.Finding) { f.Raw = []byte("\"\xff\"") }), nil, true},
		"error and finding":   {good, fault, true},
		"foreign error":       {provider.Finding{}, errors.New("oops"), true},
		"leak":                {provider.Finding{}, &provider.Error{Provider: "test", Kind: provider.ErrBadResponse, Err: errors.New("canary-77aa")}, true},
	} {
		got := suitecheck.Failure(t, func(tb testing.TB) { Check(tb, "test", addr, tt.f, tt.err, []byte(`{"a":"canary-77aa"}`)) })
		require.Equal(t, tt.fault, got != "", "%s: %s", name, got)
	}
}

func TestStatus(t *testing.T) {
	t.Parallel()
	require.Equal(t, 429, status("error_429_daily.json"))
	require.Equal(t, 404, status("404_not_observed.json"))
	require.Equal(t, 200, status("ipblocklist_2024-02_3_records.json"))
	require.Equal(t, 200, status("no_result.json"))
}
