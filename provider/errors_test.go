package provider_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/provider"
)

var kinds = []error{
	provider.ErrRateLimited, provider.ErrQuotaExhausted, provider.ErrUnauthorized, provider.ErrUnavailable,
	provider.ErrBadResponse, provider.ErrUnsupported, provider.ErrConfig,
}

func TestErrorText(t *testing.T) {
	for want, e := range map[string]*provider.Error{
		"unavailable":            {},
		"greynoise: unavailable": {Provider: "greynoise"},
		"abuseipdb: rate limited (HTTP 429): too fast (retry after 30s)": {
			Provider: "abuseipdb", Kind: provider.ErrRateLimited, StatusCode: 429, RetryAfter: 30 * time.Second, Err: errors.New("too fast"),
		},
		"feodo: bad response: not a list": {Provider: "feodo", Kind: provider.ErrBadResponse, Err: errors.New("not a list")},
		"unauthorized (HTTP 401)":         {Kind: provider.ErrUnauthorized, StatusCode: 401, RetryAfter: -1},
	} {
		require.EqualError(t, e, want)
	}
}

func TestErrorIsItsKindAndItsCause(t *testing.T) {
	err := fmt.Errorf("wrapped: %w", &provider.Error{Kind: provider.ErrUnavailable, Err: context.DeadlineExceeded})
	require.ErrorIs(t, err, provider.ErrUnavailable)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.NotErrorIs(t, err, provider.ErrBadResponse)
	e, ok := errors.AsType[*provider.Error](err)
	require.True(t, ok)
	require.Len(t, e.Unwrap(), 2)
	require.Empty(t, new(provider.Error).Unwrap())
}

func TestKind(t *testing.T) {
	require.NoError(t, provider.Kind(nil))
	require.Equal(t, provider.ErrUnavailable, provider.Kind(errors.New("boom")))
	require.Equal(t, provider.ErrUnavailable, provider.Kind(&provider.Error{}))
	for _, kind := range kinds {
		require.Equal(t, kind, provider.Kind(kind))
		require.Equal(t, kind, provider.Kind(&provider.Error{Kind: kind}))
		require.Equal(t, kind, provider.Kind(fmt.Errorf("greynoise: %w", &provider.Error{Kind: kind, Err: errors.New("x")})))
	}
}

func TestAnErrorSaysEachThingOnce(t *testing.T) {
	for want, err := range map[string]*provider.Error{
		"a: unavailable":                     {Provider: "a", Kind: provider.ErrUnavailable, Err: provider.ErrUnavailable},
		"a: unavailable: oops":               {Provider: "a", Err: &provider.Error{Provider: "a", Kind: provider.ErrUnavailable, Err: errors.New("oops")}},
		"a: unavailable (HTTP 502): oops":    {Provider: "a", StatusCode: 502, Err: errors.New("unavailable: oops")},
		"a: bad response: unavailable today": {Provider: "a", Kind: provider.ErrBadResponse, Err: errors.New("unavailable today")},
	} {
		require.EqualError(t, err, want)
	}
}
