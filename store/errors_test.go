package store_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/store"
)

func TestSaveError(t *testing.T) {
	a, b := uuid.MustParse("5f6cbb9a-0b68-4c52-8a1b-9c42f0ad21b6"), uuid.MustParse("0f6cbb9a-0b68-4c52-8a1b-9c42f0ad21b6")
	lost, poison := fmt.Errorf("%w: fence 3", store.ErrConflict), errors.New("cannot be stored")

	one := &store.SaveError{Failed: map[uuid.UUID]error{a: lost}}
	require.EqualError(t, one, "attacker "+a.String()+": lease lost: fence 3")
	require.ErrorIs(t, one, store.ErrConflict)

	both := &store.SaveError{Failed: map[uuid.UUID]error{a: lost, b: poison}}
	require.EqualError(t, both, "2 updates failed, the first of attacker "+b.String()+": cannot be stored")
	require.ErrorIs(t, both, store.ErrConflict)
	require.ErrorIs(t, both, poison)
	require.NotErrorIs(t, both, store.ErrInvalid)
	require.Equal(t, []error{poison, lost}, both.Unwrap())

	found, ok := errors.AsType[*store.SaveError](fmt.Errorf("save of 2 updates: %w", both))
	require.True(t, ok)
	require.Same(t, both, found)

	none := &store.SaveError{}
	require.EqualError(t, none, "no update failed")
	require.Empty(t, none.Unwrap())
}

func TestObserveError(t *testing.T) {
	a := errors.New("no address")
	b := fmt.Errorf("%w: zero UUID", store.ErrInvalid)
	one := &store.ObserveError{Rejected: map[int]error{7: a}}
	require.EqualError(t, one, "attacker 7: no address")
	both := &store.ObserveError{Rejected: map[int]error{7: a, 3: b}}
	require.EqualError(t, both, "2 attackers were rejected, the first of them attacker 3: invalid request: zero UUID")
	require.ErrorIs(t, both, store.ErrInvalid)
	require.ErrorIs(t, both, a)
	require.Equal(t, []error{b, a}, both.Unwrap())
	require.EqualError(t, &store.ObserveError{}, "no attacker was rejected")
}

func TestAcceptable(t *testing.T) {
	id := uuid.New()
	given := []store.Attacker{
		{ID: id, IP: " \u00a045.9.148.3\n"}, {IP: "45.9.148.4"}, {ID: id, IP: "::FFFF:45.9.148.5%eth0"},
		{ID: id, IP: strings.Repeat("x", 500)}, {ID: id, IP: "%eth0"}, {ID: id, IP: "45.9.148.3 %x"},
	}
	was := slices.Clone(given)
	accepted, err := store.Acceptable(given)
	require.Equal(t, was, given)
	require.Equal(t, []store.Attacker{{ID: id, IP: "45.9.148.3"}, {ID: id, IP: "::FFFF:45.9.148.5"}}, accepted)
	var rejected *store.ObserveError
	require.ErrorAs(t, err, &rejected)
	require.Equal(t, []int{1, 3, 4, 5}, slices.Sorted(maps.Keys(rejected.Rejected)))
	for _, why := range rejected.Rejected {
		require.ErrorIs(t, why, store.ErrInvalid)
		require.Less(t, len(why.Error()), 200)
	}
	accepted, err = store.Acceptable(accepted)
	require.NoError(t, err)
	require.Len(t, accepted, 2)
}

func TestClaimRequestValidate(t *testing.T) {
	good := store.ClaimRequest{Now: time.Now(), Owner: "worker", Lease: time.Minute, Limit: 1}
	require.NoError(t, good.Validate())
	for what, change := range map[string]func(r *store.ClaimRequest){
		"owner":          func(r *store.ClaimRequest) { r.Owner = "" },
		"lease of 0s":    func(r *store.ClaimRequest) { r.Lease = 0 },
		"lease of -1s":   func(r *store.ClaimRequest) { r.Lease = -time.Second },
		"limit of 0":     func(r *store.ClaimRequest) { r.Limit = 0 },
		"limit of -1":    func(r *store.ClaimRequest) { r.Limit = -1 },
		"without a time": func(r *store.ClaimRequest) { r.Now = time.Time{} },
	} {
		r := good
		change(&r)
		err := r.Validate()
		require.ErrorIs(t, err, store.ErrInvalid)
		require.ErrorContains(t, err, what)
	}
}
