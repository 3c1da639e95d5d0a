package upstream_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/provider/providertest/upstream"
)

func TestFailureStatuses(t *testing.T) {
	s := start(t, upstream.Options{})
	for failure, status := range map[upstream.Failure]int{
		upstream.HTML: 200, upstream.WrongTypes: 200, upstream.Unauthorized: 401, upstream.Payment: 402, upstream.Forbidden: 403,
		upstream.RateLimited: 429, upstream.ServerError: 500, upstream.Unavailable: 503, upstream.Redirect: 307,
	} {
		for _, source := range four {
			s.Fail(source, failure)
			a := ask(t, s, source, addr)
			require.Equal(t, status, a.StatusCode, "%v of %v", failure, source)
			switch failure {
			case upstream.HTML, upstream.WrongTypes:
				require.Contains(t, a.body, upstream.Canary)
				require.Equal(t, failure == upstream.WrongTypes, json.Valid([]byte(a.body)))
			case upstream.RateLimited:
				require.Equal(t, "30", a.Header.Get("Retry-After"))
			case upstream.Redirect:
				require.Contains(t, a.Header.Get("Location"), s.URL()+"/elsewhere/")
			}
		}
	}
	require.Equal(t, 9, s.Calls(upstream.Feodo), "failures are calls")
}

func TestFailuresSpoilTheRightAnswer(t *testing.T) {
	s := start(t, upstream.Options{})
	s.SetProfile(addr, upstream.C2)
	for _, source := range four {
		s.Fail(source, upstream.Well)
		right := ask(t, s, source, addr)

		s.Fail(source, upstream.Truncated)
		a := ask(t, s, source, addr)
		require.Equal(t, right.StatusCode, a.StatusCode)
		require.Equal(t, right.body[:len(right.body)/2], a.body)

		s.Fail(source, upstream.Cut)
		resp, err := newClient(t).Do(request(t, s, source, addr))
		require.NoError(t, err)
		part, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		require.ErrorIs(t, err, io.ErrUnexpectedEOF)
		require.Equal(t, right.body[:len(right.body)/2], string(part))

		for failure, size := range map[upstream.Failure]int{upstream.Huge: 10 << 20, upstream.GzipBomb: 30 << 20} {
			if source == upstream.Feodo {
				size *= 8
			}
			s.Fail(source, failure)
			resp, err = newClient(t).Do(request(t, s, source, addr))
			require.NoError(t, err)
			blank, err := io.CopyN(io.Discard, resp.Body, int64(size))
			require.NoError(t, err)
			require.EqualValues(t, size, blank)
			rest, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			require.NoError(t, err)
			require.Equal(t, right.body, string(rest), "%v of %v", failure, source)
		}
	}
}

func TestHangDripAndReset(t *testing.T) {
	s := start(t, upstream.Options{})
	for _, source := range four {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		s.Fail(source, upstream.Hang)
		_, err := newClient(t).Do(request(t, s, source, addr).WithContext(ctx))
		require.ErrorIs(t, err, context.DeadlineExceeded)
		cancel()

		s.Fail(source, upstream.Drip)
		ctx, cancel = context.WithCancel(t.Context())
		resp, err := newClient(t).Do(request(t, s, source, addr).WithContext(ctx))
		require.NoError(t, err)
		drops := make([]byte, 3)
		_, err = io.ReadFull(resp.Body, drops)
		require.NoError(t, err)
		require.Equal(t, "   ", string(drops))
		cancel()
		_, err = io.ReadAll(resp.Body)
		require.ErrorIs(t, err, context.Canceled)
		resp.Body.Close()

		s.Fail(source, upstream.Reset)
		_, err = newClient(t).Do(request(t, s, source, addr))
		require.ErrorIs(t, err, syscall.ECONNRESET)
	}
}

func TestRedirectLeadsToTheRightAnswer(t *testing.T) {
	s := start(t, upstream.Options{})
	s.SetProfile(addr, upstream.Attacker)
	s.FailFor(upstream.GreyNoise, addr, upstream.Redirect)
	client := newClient(t)
	away := do(t, client, request(t, s, upstream.GreyNoise, addr))
	require.Zero(t, s.Redirected())
	s.FailFor(upstream.GreyNoise, addr, upstream.Well)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, away.Header.Get("Location"), nil)
	require.NoError(t, err)
	require.Equal(t, "malicious", do(t, client, r).json(t)["classification"])
	require.Equal(t, 1, s.Redirected())
}

func TestFailFor(t *testing.T) {
	s := start(t, upstream.Options{})
	s.FailFor(upstream.AbuseIPDB, addr, upstream.ServerError)
	require.Equal(t, 500, ask(t, s, upstream.AbuseIPDB, addr).StatusCode)
	require.Equal(t, 200, ask(t, s, upstream.AbuseIPDB, other).StatusCode)
	s.Fail(upstream.AbuseIPDB, upstream.Forbidden)
	require.Equal(t, 500, ask(t, s, upstream.AbuseIPDB, addr).StatusCode)
	require.Equal(t, 403, ask(t, s, upstream.AbuseIPDB, other).StatusCode)
	s.Fail(upstream.AbuseIPDB, upstream.Well)
	s.FailFor(upstream.AbuseIPDB, addr, upstream.Well)
	require.Equal(t, 200, ask(t, s, upstream.AbuseIPDB, addr).StatusCode)
}

func TestNames(t *testing.T) {
	require.Equal(t, "greynoise", upstream.GreyNoise.String())
	require.Equal(t, "Source(99)", upstream.Source(99).String())
	require.Equal(t, "gzip bomb", upstream.GzipBomb.String())
	require.Equal(t, "redirect", upstream.Redirect.String())
	require.Equal(t, "Failure(99)", upstream.Failure(99).String())
}
