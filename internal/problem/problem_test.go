package problem_test

import (
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/internal/problem"
)

func TestWrite(t *testing.T) {
	w := httptest.NewRecorder()
	problem.Write(w, 503, `Not "ready"`)
	require.Equal(t, 503, w.Code)
	require.Equal(t, "application/problem+json", w.Header().Get("Content-Type"))
	require.Equal(t, "no-store", w.Header().Get("Cache-Control"))
	require.JSONEq(t, `{"type":"about:blank","title":"Service Unavailable","status":503,"detail":"Not \"ready\""}`, w.Body.String())
}
