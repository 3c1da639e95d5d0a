package httpapi_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/intel"
	"github.com/decnet/enrich/intel/httpapi"
	"github.com/decnet/enrich/store"
	"github.com/decnet/enrich/store/memstore"
)

const listPath = "/api/v1/intel/attackers"

func TestList(t *testing.T) {
	h := httpapi.New(filled(t), httpapi.Options{})
	for query, want := range map[string]int{
		"": 2, "enriched=true": 1, "verdict=malicious": 1, "verdict=benign,malicious": 1, "verdict=benign&verdict=malicious": 1, "verdict=none": 0,
		"source=abuseipdb": 1, "source=greynoise": 0, "text=45.155": 2, "text=3F0E8A36": 1, "text=9.9.9.9": 0,
		"seen_since=2026-02-28T00:00:00Z": 2, "seen_since=2026-03-01T00:00:00Z": 0, "seen_before=2026-02-28": 0, "changed_since=2026-02-28T23:00:00Z": 1,
		"changed_since=1m": 0, "verdict=": 2, "text=": 2, "limit=500": 2,
	} {
		w := ask(t, h, http.MethodGet, listPath+"?"+query)
		require.Equal(t, http.StatusOK, w.Code, "%s: %s", query, w.Body)
		var page httpapi.Attackers
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &page))
		require.Len(t, page.Attackers, want, query)
		require.Nil(t, page.Next)
	}
	for _, query := range []string{
		"verdict=evil", "source=Grey%20Noise", "text=" + strings.Repeat("x", 201), "seen_since=yesterday", "seen_before=-1h", "limit=0", "limit=501",
		"limit=x", "enriched=perhaps", "cursor=x", "page=2", "limit=1&limit=2", "%zz", "verdict=" + strings.Repeat("benign,", 17),
	} {
		w := ask(t, h, http.MethodGet, listPath+"?"+query)
		require.Equal(t, http.StatusBadRequest, w.Code, query)
	}
	w := ask(t, h, http.MethodGet, listPath+"?verdict=malicious")
	var page httpapi.Attackers
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &page))
	require.Equal(t, known, page.Attackers[0].AttackerUUID)
	require.Equal(t, []string{"abuseipdb"}, page.Attackers[0].Sources)
	require.Equal(t, at, *page.Attackers[0].CachedAt)
}

func TestListPages(t *testing.T) {
	s := memstore.New()
	for i := range 25 {
		require.NoError(t, s.Observe(t.Context(), store.Attacker{ID: uuid.New(), IP: fmt.Sprintf("45.9.1.%d", i), LastSeen: at.Add(time.Duration(i) * time.Second)}))
	}
	h := httpapi.New(s, httpapi.Options{})
	seen := map[string]bool{}
	for cursor, pages := "", 0; ; pages++ {
		require.Less(t, pages, 4)
		w := ask(t, h, http.MethodGet, listPath+"?limit=10&cursor="+url.QueryEscape(cursor))
		var page httpapi.Attackers
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &page))
		for _, a := range page.Attackers {
			require.False(t, seen[a.AttackerIP])
			seen[a.AttackerIP] = true
		}
		if page.Next == nil {
			break
		}
		cursor = *page.Next
	}
	require.Len(t, seen, 25)
}

func TestExplainRoute(t *testing.T) {
	h := httpapi.New(filled(t), httpapi.Options{})
	w := ask(t, h, http.MethodGet, intelPath(known.String())+"/explain")
	require.Equal(t, http.StatusOK, w.Code)
	var x intel.Explanation
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &x))
	require.Equal(t, known, x.AttackerUUID)
	require.Len(t, x.Sources, 1)
	require.Nil(t, x.Sources[0].Raw)
	w = ask(t, h, http.MethodGet, intelPath(known.String())+"/explain?raw=true&format=json")
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &x))
	require.JSONEq(t, `{"totalReports":5}`, string(x.Sources[0].Raw))

	r := httptest.NewRequest(http.MethodGet, intelPath(known.String())+"/explain", http.NoBody)
	r.Header.Set("Accept", "text/plain")
	w = httptest.NewRecorder()
	h.ServeHTTP(w, r)
	require.Equal(t, "text/plain; charset=utf-8", w.Header().Get("Content-Type"))
	require.Contains(t, w.Body.String(), "attacker "+known.String())

	for target, code := range map[string]int{
		intelPath(uuid.NewString()) + "/explain": 404, intelPath("x") + "/explain": 404, intelPath(known.String()) + "/explain?format=xml": 400,
		intelPath(known.String()) + "/explain?raw=maybe": 400, intelPath(known.String()) + "/explain?x=1": 400,
	} {
		require.Equal(t, code, ask(t, h, http.MethodGet, target).Code, target)
	}
	require.Equal(t, 200, ask(t, h, http.MethodGet, intelPath(unknown.String())+"/explain").Code) // nothing was learnt, which is an explanation
}

// Whatever a query is, the answer is a listing or a problem.
func FuzzList(f *testing.F) {
	f.Add("verdict=malicious&limit=2")
	f.Add("cursor=1.3f0e8a36-98c4-4a53-9d7b-0f2f1a5a8d11")
	f.Add("text=%00%ff&seen_since=0001-01-01")
	s := memstore.New()
	h := httpapi.New(s, httpapi.Options{})
	f.Fuzz(func(t *testing.T, query string) {
		r := httptest.NewRequest(http.MethodGet, listPath, http.NoBody)
		r.URL.RawQuery = query
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		require.Contains(t, []int{200, 400}, w.Code)
		require.True(t, json.Valid(w.Body.Bytes()))
	})
}
